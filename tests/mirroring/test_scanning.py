import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gatesync.mirroring import scanning
from gatesync.mirroring.scanning import (
    RACY_NS,
    FileFacts,
    Scan,
    SourceGoneError,
    TreeScanner,
    is_ignored,
)
from tests.mirroring.trees import Clock, write

pytestmark = pytest.mark.fast

SECOND = 1_000_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture
def scanner(root: Path, clock: Clock) -> TreeScanner:
    return TreeScanner(root, clock=clock.ns)


def said(scan: Scan) -> list[str]:
    return [str(problem) for problem in scan.problems]


def settle(scanner: TreeScanner, clock: Clock) -> None:
    """Until every content is certain."""
    scanner.scan()
    clock.now += RACY_NS / 1e9
    scanner.scan()


def test_each_file_is_found_with_its_content(scanner: TreeScanner, root: Path) -> None:
    write(root, "a.xml", "one")
    write(root, "deep/er/b.xml", "two").chmod(0o640)
    scan = scanner.scan()
    assert sorted(scan.files) == ["a.xml", "deep/er/b.xml"]
    found = scan.files["deep/er/b.xml"]
    assert found.sha256 == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    assert (found.facts.size, found.facts.mode) == (3, 0o640)
    assert not scan.problems


def test_what_was_not_touched_is_not_read_again_once_it_is_certain(
    scanner: TreeScanner, root: Path, clock: Clock
) -> None:
    write(root, "a.xml", "one")
    settle(scanner, clock)
    assert scanner.is_certain
    read = scanner.read_files
    scanner.scan()
    assert scanner.read_files == read


def test_a_second_edit_of_the_same_size_within_one_tick_is_seen(
    scanner: TreeScanner, root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed's rsync misses it for ever, and so does who trusts equal facts at once."""
    tick = SECOND
    exact: Callable[[os.stat_result], FileFacts] = scanning._facts

    def coarse(found: os.stat_result) -> FileFacts:
        return exact(found)._replace(mtime_ns=tick, ctime_ns=tick)

    monkeypatch.setattr(scanning, "_facts", coarse)
    file = write(root, "a.xml", "one")
    first = scanner.scan().files["a.xml"]
    file.write_text("two")
    second = scanner.scan().files["a.xml"]
    assert second.facts == first.facts
    assert second.sha256 != first.sha256


def test_a_time_that_was_set_back_hides_no_edit(
    scanner: TreeScanner, root: Path, clock: Clock
) -> None:
    file = write(root, "a.xml", "one")
    times = file.stat()
    settle(scanner, clock)
    before = scanner.scan().files["a.xml"]
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert scanner.scan().files["a.xml"].sha256 != before.sha256


def test_a_thorough_scan_finds_what_the_facts_hide(
    scanner: TreeScanner, root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system without ctime, after a tool that keeps times."""
    monkeypatch.setattr(
        scanning, "_facts", lambda found: FileFacts(found.st_size, 1, 1, found.st_ino, 0o644)
    )
    file = write(root, "a.xml", "one")
    settle(scanner, clock)
    file.write_text("two")
    cheap = scanner.scan().files["a.xml"].sha256
    assert scanner.scan(thorough=True).files["a.xml"].sha256 != cheap


def test_what_an_earlier_process_was_certain_of_is_not_read_again(
    scanner: TreeScanner, root: Path, clock: Clock
) -> None:
    write(root, "a.xml", "one")
    settle(scanner, clock)
    write(root, "b.xml", "new")
    next_one = TreeScanner(root, clock=clock.ns, known=scanner.known)
    assert next_one.scan().files.keys() == {"a.xml", "b.xml"}
    assert next_one.read_files == 1


def test_a_clock_that_was_set_back_makes_nothing_certain(
    scanner: TreeScanner, root: Path, clock: Clock
) -> None:
    write(root, "a.xml", "one")
    scanner.scan()
    clock.now -= 3600
    scanner.scan()
    assert not scanner.is_certain
    clock.now += 2
    scanner.scan()
    assert scanner.is_certain


def test_links_devices_and_sockets_are_refused_and_the_rest_goes_on(
    scanner: TreeScanner, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "outside"
    write(secret, "secret.xml", "x")
    (root / "link.xml").symlink_to(secret / "secret.xml")
    (root / "folder").symlink_to(secret)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        write(root, "good.xml", "x")
        scan = scanner.scan()
    assert [*scan.files] == ["good.xml"]
    assert scan.unseen == {"link.xml", "folder", "pipe", "socket"}
    follow = "symbolic links are not followed; put a file or folder in its place"
    assert sorted(said(scan)) == [
        f"folder: {follow}",
        f"link.xml: {follow}",
        "pipe: neither a file nor a folder",
        "socket: neither a file nor a folder",
    ]


@pytest.mark.parametrize("name", ["a\nb.xml", "a\x1b[31m.xml", "a\\b.xml", "\udcff.xml"])
def test_a_name_that_no_artifact_may_have_is_refused(
    scanner: TreeScanner, root: Path, name: str
) -> None:
    (root / name).write_text("x")
    (root / "folder").mkdir()
    (root / "folder" / name).mkdir()
    (root / "folder" / name / "b.xml").write_text("x")
    write(root, "good.xml", "x")
    scan = scanner.scan()
    assert [*scan.files] == ["good.xml"]
    assert len(scan.problems) == 2
    for line in said(scan):
        assert "rename it" in line
        assert line.isprintable()


@pytest.mark.parametrize(
    "name",
    [
        ".nfs0000000000d5c2000000001",
        ".fuse_hidden000",
        ".gatesync-abc.new",
        ".a.xml.swp",
        "a.xml~",
        "#a.xml#",
        "a.xml.tmp",
        "a.xml.bak",
        "a.xml.filepart",
        "a.xml___jb_tmp___",
    ],
)
def test_what_editors_servers_and_we_leave_beside_a_file_is_ignored(
    scanner: TreeScanner, root: Path, name: str
) -> None:
    assert is_ignored(name)
    write(root, name, "half")
    scan = scanner.scan()
    assert (scan.files, scan.problems) == ({}, ())


def test_only_what_is_wanted_is_looked_at(root: Path, clock: Clock) -> None:
    write(root, "yes/a.xml", "x")
    write(root, "no/b.xml", "x")
    os.mkfifo(root / "no/pipe")
    scan = TreeScanner(root, clock=clock.ns, keep=lambda path: path.startswith("yes/")).scan()
    assert ([*scan.files], scan.problems) == (["yes/a.xml"], ())


def test_a_root_that_is_not_there_is_said_and_is_no_empty_tree(
    scanner: TreeScanner, root: Path
) -> None:
    root.rmdir()
    with pytest.raises(SourceGoneError, match="cannot be read: No such file"):
        scanner.scan()
    root.write_text("a file")
    with pytest.raises(SourceGoneError, match="Not a directory"):
        scanner.scan()


def test_a_root_that_is_replaced_while_it_is_read_gives_nothing(
    scanner: TreeScanner, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.xml", "x")
    digest = scanning._digest

    def unmounted(folder: int, name: str, facts: FileFacts) -> str | None:
        root.rename(tmp_path / "away")
        root.mkdir()
        return digest(folder, name, facts)

    monkeypatch.setattr(scanning, "_digest", unmounted)
    with pytest.raises(SourceGoneError, match="replaced by another folder"):
        scanner.scan()


def test_a_file_that_is_written_while_it_is_read_is_moving(
    scanner: TreeScanner, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(root, "a.xml", "one")
    digest = scanning.hashlib.file_digest

    def meanwhile(opened: object, name: str) -> object:
        file.write_text("longer")
        return digest(opened, name)  # type: ignore[arg-type]

    monkeypatch.setattr(scanning.hashlib, "file_digest", meanwhile)
    scan = scanner.scan()
    assert (scan.moving, scan.files) == ({"a.xml"}, {})


def test_a_folder_that_cannot_be_listed_hides_its_files_and_removes_none(
    scanner: TreeScanner, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "folder/a.xml", "x")
    write(root, "b.xml", "x")
    scandir = os.scandir
    listed: list[int] = []

    def stale(descriptor: int) -> object:
        listed.append(descriptor)
        if len(listed) > 1:
            raise OSError(116, "Stale file handle")
        return scandir(descriptor)

    monkeypatch.setattr(scanning.os, "scandir", stale)
    scan = scanner.scan()
    assert ([*scan.files], scan.unseen) == (["b.xml"], {"folder"})
    assert said(scan) == ["folder: cannot be read: Stale file handle"]
