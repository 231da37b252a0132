"""Any edits, by whom and when they like: what settles is what is there, and was there whole."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gatesync.mirroring import scanning
from gatesync.mirroring.scanning import FileFacts
from tests.mirroring.trees import MOMENT, Watched, sequence, sequence_file
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.fast

TICK_NS: Final = 2_000_000_000  # of the coarsest clock that a file system has
NAMES: Final = ["a", "b", "c"]
WORDS: Final = ["<log/>", "<pop/>", "<drop/>"]  # two of one size
names = st.sampled_from(NAMES)
words = st.sampled_from(WORDS)


class Edits(RuleBasedStateMachine):
    """A tree on a file system whose clock ticks every two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gatesync-machine-"))
        self.watched = Watched(self.folder)
        self.whole: dict[str, set[str]] = {}  # every content that a file ever had, whole
        self.now: dict[str, str] = {}  # of the files that are whole now
        self.half: set[str] = set()
        self.touched: set[str] = set()
        self.times: dict[int, int] = {}
        self.exact = scanning._facts
        scanning._facts = self.facts

    def teardown(self) -> None:
        scanning._facts = self.exact
        shutil.rmtree(self.folder)

    def facts(self, found: os.stat_result) -> FileFacts:
        ticked = self.times.get(found.st_ino, 0)
        return self.exact(found)._replace(mtime_ns=ticked, ctime_ns=ticked)

    def touch(self, file: Path) -> None:
        """What the file system does with a file that is changed."""
        self.times[file.stat().st_ino] = self.watched.clock.ns() // TICK_NS * TICK_NS

    def put(self, name: str, content: str, *, renamed: bool) -> None:
        path = sequence_file(name)
        file = self.watched.root / path
        self.touched.add(path)
        if file.is_dir():
            shutil.rmtree(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        if renamed:
            new = file.with_name(".new")
            new.write_text(content)
            self.touch(new)
            new.rename(file)
        else:
            file.write_text(content)
            self.touch(file)

    @initialize()
    def begin(self) -> None:
        """Something must be there: an empty tree is no beginning."""
        self.edit("a", "<log/>", renamed=False)
        self.watched.settle()

    @rule(name=names, word=words, renamed=st.booleans())
    def edit(self, name: str, word: str, renamed: bool) -> None:
        content = sequence(name, word)
        self.put(name, content, renamed=renamed)
        self.now[name] = content
        self.half.discard(name)
        self.whole.setdefault(sequence_file(name), set()).add(content)

    @rule(name=names, looks=st.integers(1, 3))
    def edit_twice(self, name: str, looks: int) -> None:
        """The same size, and perhaps the same tick; what was first is seen, or even taken."""
        self.edit(name, "<log/>", renamed=False)
        for _ in range(looks):
            self.watched.look()
        self.edit(name, "<pop/>", renamed=False)

    @rule(name=names, word=words, at=st.integers(1, 20))
    def write_half(self, name: str, word: str, at: int) -> None:
        self.put(name, sequence(name, word)[:at], renamed=False)
        self.now.pop(name, None)
        self.half.add(name)

    @rule(name=names)
    def delete(self, name: str) -> None:
        file = self.watched.root / sequence_file(name)
        if file.is_file():
            file.unlink()
            self.touched.add(sequence_file(name))
        self.now.pop(name, None)
        self.half.discard(name)

    @rule(name=names)
    def become_a_folder(self, name: str) -> None:
        file = self.watched.root / sequence_file(name)
        if file.is_file():
            file.unlink()
            file.mkdir()
            self.touched.add(sequence_file(name))
        self.now.pop(name, None)
        self.half.discard(name)

    @rule(name=names)
    def chmod(self, name: str) -> None:
        file = self.watched.root / sequence_file(name)
        if file.is_file():
            file.chmod(file.stat().st_mode ^ 0o020)
            self.touch(file)
            self.touched.add(sequence_file(name))

    @rule(seconds=st.sampled_from([0.01, MOMENT, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.watched.clock.now += seconds

    @rule(thorough=st.booleans())
    def look(self, thorough: bool) -> None:
        self.watched.tree.look(thorough=thorough)

    @rule(missed=st.sets(names), more=st.sets(names))
    def look_at_what_was_touched(self, missed: set[str], more: set[str]) -> None:
        """As far as the system tells: it may tell too little, and too much."""
        told = self.touched - {sequence_file(name) for name in missed}
        self.watched.tree.look(touched=told | {sequence_file(name) for name in more})
        self.touched.clear()

    @rule()
    def restart(self) -> None:
        self.watched.tree.save()
        self.watched.opened()

    @rule()
    def come_to_rest(self) -> None:
        """What is whole in the tree is in the manifest, and nothing that is gone for good."""
        self.watched.settle()
        self.watched.tree.confirm_removals()
        settled = self.watched.settle()
        assert settled.manifest is not None
        files = settled.manifest.by_path()
        withheld = set(settled.manifest.withheld)
        assert {path for path in files if path not in withheld} == {
            sequence_file(name) for name in self.now
        }
        assert withheld <= {sequence_file(name) for name in self.half}
        for name, content in self.now.items():
            file = self.watched.root / sequence_file(name)
            found = files[sequence_file(name)]
            assert found.sha256 == sha256(content)
            assert found.mode == file.stat().st_mode & 0o7777
        told = {problem.where for problem in settled.problems}
        assert told == {sequence_file(name) for name in self.half}

    @invariant()
    def nothing_that_never_was_whole_is_named(self) -> None:
        manifest = self.watched.tree.good
        for path, file in manifest.items():
            assert file.sha256 in {sha256(content) for content in self.whole[path]}


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_any_edits_settle_to_what_is_there_and_nothing_half_written_appears() -> None:
    scaled: Any = settings(
        max_examples=max(10, round(60 * BUDGET)), stateful_step_count=30, deadline=None
    )
    run_state_machine_as_test(Edits, settings=scaled)
