"""A look at some files alone, which is as good as one at everything, or is not given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gatesync.mirroring.scanning import SourceGoneError, TreeScanner
from tests.mirroring.trees import Clock, write

pytestmark = pytest.mark.fast


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name in ("a", "b"):
        write(folder, f"api/{name}.xml", name)
    write(folder, "endpoints/e.xml", "e")
    return folder


@pytest.fixture
def scanner(root: Path) -> TreeScanner:
    scanner = TreeScanner(root, clock=Clock().ns)
    scanner.scan()
    return scanner


def test_only_files_that_are_named_are_looked_at(scanner: TreeScanner, root: Path) -> None:
    before = scanner.scan().files
    write(root, "api/a.xml", "other")
    write(root, "api/b.xml", "other")
    found = scanner.scan_only(["api/a.xml"])
    assert found is not None
    assert found.files["api/a.xml"] != before["api/a.xml"]
    assert found.files["api/b.xml"] == before["api/b.xml"]
    assert scanner.scan_only(["api/b.xml"]) == scanner.scan()


def test_files_may_come_and_go(scanner: TreeScanner, root: Path) -> None:
    write(root, "api/c.xml", "c")
    (root / "api" / "a.xml").rename(root / "api" / "d.xml")
    found = scanner.scan_only(["api/a.xml", "api/c.xml", "api/d.xml"])
    assert found is not None
    assert sorted(found.files) == ["api/b.xml", "api/c.xml", "api/d.xml", "endpoints/e.xml"]
    assert found == scanner.scan()


def test_names_that_are_nobodys_are_passed_over(root: Path) -> None:
    scanner = TreeScanner(root, clock=Clock().ns, keep=lambda path: not path.startswith("logs/"))
    before = scanner.scan()
    paths = [".git/index", "api/.a.xml.swp", "logs/all.txt"]
    for path in paths:
        write(root, path, "x")
    assert scanner.scan_only(paths) == before


def be_a_folder(root: Path) -> str:
    (root / "api" / "a.xml").unlink()
    (root / "api" / "a.xml").mkdir()
    return "api/a.xml"


def be_a_link(root: Path) -> str:
    (root / "api" / "a.xml").unlink()
    (root / "api" / "a.xml").symlink_to("b.xml")
    return "api/a.xml"


def be_below_a_link(root: Path) -> str:
    (root / "api").rename(root / "elsewhere")
    (root / "api").symlink_to("elsewhere")
    return "api/a.xml"


def be_in_no_folder(root: Path) -> str:
    (root / "endpoints" / "e.xml").unlink()
    (root / "endpoints").rmdir()
    return "endpoints/e.xml"


def be_a_folder_that_is_gone(root: Path) -> str:
    be_in_no_folder(root)
    return "endpoints"


@pytest.mark.parametrize(
    "become", [be_a_folder, be_a_link, be_below_a_link, be_in_no_folder, be_a_folder_that_is_gone]
)
def test_where_a_file_alone_does_not_tell_there_is_no_answer(
    scanner: TreeScanner, root: Path, become: Callable[[Path], str]
) -> None:
    assert scanner.scan_only([become(root)]) is None


def test_there_is_none_either_of_what_could_not_be_seen(scanner: TreeScanner, root: Path) -> None:
    be_a_link(root)
    scanner.scan()
    (root / "api" / "a.xml").unlink()
    assert scanner.scan_only(["api/a.xml"]) is None


def test_nor_before_everything_was_looked_at_nor_in_another_folder(
    scanner: TreeScanner, root: Path
) -> None:
    assert TreeScanner(root, clock=Clock().ns).scan_only([]) is None
    root.rename(root.with_name("old"))
    write(root, "api/a.xml", "a")
    assert scanner.scan_only(["api/a.xml"]) is None


def test_a_tree_that_is_gone_is_told_of(scanner: TreeScanner, root: Path) -> None:
    root.rename(root.with_name("old"))
    with pytest.raises(SourceGoneError):
        scanner.scan_only(["api/a.xml"])
