"""A file system that is mounted within the tree goes away: an empty folder is left."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mirroring.trees import Watched, sequence, sequence_file
from tests.servers.small_disk import can_mount

TENANT = "tenants/1/synapse-configs/default/sequences/t.xml"


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.promise(6)
@pytest.mark.skipif(not can_mount(), reason="only root can mount a file system")
def test_a_mount_within_the_tree_that_goes_away_removes_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for name in ("a", "b", "c"):
        watched.write(sequence_file(name), sequence(name))
    with mounted(watched.root / "tenants"):
        watched.write(TENANT, sequence("t"))
        assert TENANT in watched.paths()
    for _ in range(2):  # in this process, and in the next
        settled = watched.settle()
        assert settled.waiting == (
            "1 of 4 files are gone from the tree, and another file system is, or none, at tenants"
        )
        assert TENANT in watched.paths()
        watched.opened()
    (watched.root / sequence_file("a")).unlink()  # the rest goes on
    assert sequence_file("a") not in watched.paths()
    with mounted(watched.root / "tenants"):  # it came back, and is another one by its number
        watched.write(TENANT, sequence("t", "<log/>"))
        assert watched.settle().waiting == ""
        (watched.root / TENANT).unlink()
        assert TENANT not in watched.paths()
