"""A folder that is there whole or not at all."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatesync.artifacts.errors import Problem
from gatesync.cli.new_folder import new_folder
from gatesync.cli.session import CommandError

pytestmark = pytest.mark.fast


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("is_there", [False, True])
def test_it_has_its_place_only_when_all_is_written(tmp_path: Path, is_there: bool) -> None:
    place = tmp_path / "out"
    if is_there:
        place.mkdir(mode=0o700)
    with new_folder(place) as folder:
        folder.write("a/b/one.xml", b"1")
        folder.write("a/two.xml", b"22")
        assert _files(place) == {}
        assert (folder.files, folder.size) == (2, 3)
    assert _files(place) == {"a/b/one.xml": b"1", "a/two.xml": b"22"}
    assert list(tmp_path.iterdir()) == [place]
    if is_there:
        assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("error", [KeyboardInterrupt, CommandError(3, "gone")])
def test_nothing_is_left_of_one_that_was_given_up(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    def give_up() -> None:
        with new_folder(tmp_path / "out") as folder:
            folder.write("a.xml", b"1")
            raise error

    with pytest.raises((KeyboardInterrupt, CommandError)):
        give_up()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_leaves_no_half_of_it(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal\n"
        "from gatesync.cli.new_folder import new_folder\n"
        "with new_folder(pathlib.Path('out')) as folder:\n"
        "    folder.write('a.xml', b'1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    assert [path.name.startswith(".gatesync-") for path in tmp_path.iterdir()] == [True]
    with new_folder(tmp_path / "out") as folder:  # and nothing of it is in the way
        folder.write("b.xml", b"2")
    assert _files(tmp_path / "out") == {"b.xml": b"2"}


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with new_folder(tmp_path / "out") as folder:
            folder.write("a.xml", b"1")
            folder.write("large.xml", bytes(2_000))

    with _no_file_larger_than(1_000), pytest.raises(CommandError) as raised:
        write()
    assert raised.value.code == 3
    assert str(raised.value) == "large.xml cannot be written: File too large; nothing was kept"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../a.xml", "/etc/a.xml", "a//b.xml", "a/./b.xml", "a/..", "", "a\\b.xml", "a\0b"]
)
def test_no_path_leads_out_of_it(tmp_path: Path, path: str) -> None:
    with new_folder(tmp_path / "out") as folder:
        with pytest.raises(Problem, match="is no path below a folder"):
            folder.write(path, b"1")
        assert folder.files == 0
    assert _files(tmp_path) == {}


def test_a_file_is_never_written_over_another(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        folder.write("a.xml", b"1")
        with pytest.raises(Problem, match="takes its path for that of another file"):
            folder.write("a.xml", b"2")
        with pytest.raises((Problem, CommandError)):
            folder.write("a.xml/b.xml", b"2")
    assert _files(tmp_path / "out") == {"a.xml": b"1"}


def test_what_is_there_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, reason in (
        ("../full", r"\.\./full is there already"),
        ("../file", r"\.\./file is there already"),
        ("../link", r"\.\./link is there already"),
        ("../none/out", r"there is no folder \.\./none to put out in"),
        ("../file/out", r"there is no folder \.\./file to put out in"),
        (".", "the folder you are in"),
    ):
        with pytest.raises(CommandError, match=reason) as raised, new_folder(Path(name)):
            raise AssertionError(name)
        assert raised.value.code == 2
    assert _files(tmp_path) == {"full/mine.txt": b"mine", "file": b"mine"}


def test_what_came_in_between_is_not_written_over(tmp_path: Path) -> None:
    place = tmp_path / "out"

    def write() -> None:
        with new_folder(place) as folder:
            folder.write("a.xml", b"1")
            place.mkdir()
            (place / "mine.txt").write_text("mine")

    with pytest.raises(CommandError, match="out cannot be put in its place"):
        write()
    assert _files(tmp_path) == {"out/mine.txt": b"mine"}


def test_a_link_to_an_empty_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with new_folder(tmp_path / "link") as folder:
        folder.write("a.xml", b"1")
    assert os.readlink(tmp_path / "link") == "empty"  # noqa: PTH115
    assert (tmp_path / "empty" / "a.xml").read_bytes() == b"1"
