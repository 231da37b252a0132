"""Another process edits the tree all the while, and knows nothing of us."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from gatesync.mirroring.scanning import SourceGoneError
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.source_tree import SourceTree
from tests.mirroring import foreign_writer
from tests.stores.budget import BUDGET

SECONDS: Final = 4.0 * BUDGET
MOMENT: Final = 0.01
END_SECONDS: Final = 60.0


@contextmanager
def writing(root: Path, journal: Path, seed: int) -> Iterator[None]:
    command = [sys.executable, str(Path(foreign_writer.__file__)), root, journal, str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(END_SECONDS) == 0


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_a_manifest_names_no_content_that_never_was_whole(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    root, journal = tmp_path / "repository", tmp_path / "journal"
    root.mkdir()
    tree = SourceTree(root, tmp_path / "record", moment=MOMENT, patience=5 * MOMENT)
    manifests: dict[int, SourceManifest] = {}
    with writing(root, journal, seed):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(manifests) < 5:
            look(tree, manifests)
            assert time.monotonic() < until + END_SECONDS, f"nothing settles; seed {seed}"
    while look(tree, manifests):
        assert time.monotonic() < until + END_SECONDS, f"it never ends; seed {seed}"

    whole = {tuple(line.split()) for line in journal.read_text().splitlines()}
    for manifest in manifests.values():
        named = {(file.path, file.sha256) for file in manifest.files}
        assert named <= whole, f"seed {seed}"
    assert sorted(manifests) == list(range(1, len(manifests) + 1))
    settled = tree.look()
    assert settled.manifest is not None
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    refused = {problem.where for problem in settled.problems}
    if not settled.waiting:
        named_last = {file.path for file in settled.manifest.files}
        assert there - refused <= named_last, f"seed {seed}"
        assert named_last - set(settled.manifest.withheld) <= there, f"seed {seed}"


def look(tree: SourceTree, manifests: dict[int, SourceManifest]) -> bool:
    """Look once, and keep each revision; whether something still moves."""
    time.sleep(MOMENT)  # what is awaited is another process's next edit
    try:
        settled = tree.look()
    except SourceGoneError:  # it is empty so far
        return True
    if settled.manifest is not None:
        known = manifests.setdefault(settled.manifest.revision, settled.manifest)
        assert known.digest == settled.manifest.digest  # no revision means two things
    return bool(settled.restless)
