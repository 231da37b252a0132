from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.mirroring.scanning import FileFacts, FolderIdentity, Scan, ScannedFile
from gatesync.mirroring.settling import Quiet, Settling, is_below

pytestmark = pytest.mark.fast

MOMENT, PATIENCE = 1.0, 10.0


def file(content: str, touched: int = 0) -> ScannedFile:
    return ScannedFile(FileFacts(len(content), touched, touched, 7, 0o644), content)


def scan(moving: Iterable[str] = (), unseen: Iterable[str] = (), **contents: str) -> Scan:
    files = {path: file(content) for path, content in contents.items()}
    root = {"": FolderIdentity(1, 2)}
    return Scan(root, files, frozenset(moving), frozenset(unseen), ())


class Taking:
    """Scans that take no time, each so many seconds after the one before."""

    def __init__(self, **taken: str) -> None:
        given = {path: file(content) for path, content in taken.items()}
        self.settling = Settling(given, moment=MOMENT, patience=PATIENCE)
        self.now = 50.0

    def take(self, found: Scan, after: float = MOMENT) -> Quiet:
        self.now += after
        return self.settling.take(found, began=self.now, ended=self.now)


def contents(quiet: Quiet) -> dict[str, str]:
    return {path: found.sha256 for path, found in quiet.files.items()}


def test_one_scan_is_not_enough_and_two_equal_ones_are() -> None:
    taking = Taking()
    first = taking.take(scan(a="one"))
    assert (contents(first), first.restless) == ({}, {"a"})
    second = taking.take(scan(a="one"))
    assert (contents(second), second.changed, second.restless) == ({"a": "one"}, {"a"}, set())


def test_two_equal_scans_with_less_than_a_moment_between_prove_nothing() -> None:
    taking = Taking()
    taking.take(scan(a="one"))
    assert not taking.take(scan(a="one"), after=MOMENT / 2).files
    assert taking.take(scan(a="one"), after=MOMENT / 2).files


def test_the_time_that_a_scan_itself_takes_does_not_count() -> None:
    settling = Settling(moment=MOMENT)
    settling.take(scan(a="one"), began=0, ended=5)
    assert not settling.take(scan(a="one"), began=5.5, ended=11).files
    assert settling.take(scan(a="one"), began=6, ended=11).files


def test_a_file_that_grows_is_not_taken_before_it_ends() -> None:
    taking = Taking(a="old")
    for content in ("o", "on", "one"):
        assert contents(taking.take(scan(a=content))) == {"a": "old"}
    assert contents(taking.take(scan(a="one"))) == {"a": "one"}


def test_everything_that_changed_is_taken_together() -> None:
    taking = Taking(a="1", b="1", c="1")
    taking.take(scan(a="2", b="1"))
    taking.take(scan(a="2", b="2"))
    quiet = taking.take(scan(a="2", b="2"))
    assert (contents(quiet), quiet.changed) == ({"a": "2", "b": "2"}, {"a", "b", "c"})


def test_a_change_that_was_taken_back_is_none() -> None:
    taking = Taking(a="one")
    taking.take(scan(a="two"))
    quiet = taking.take(scan(a="one"))
    assert (contents(quiet), quiet.changed, quiet.restless) == ({"a": "one"}, set(), set())


def test_one_file_that_is_written_for_ever_holds_up_the_others_no_longer_than_patience() -> None:
    taking = Taking(a="1", log="")
    for number in range(int(PATIENCE / MOMENT)):
        quiet = taking.take(scan(a="2", log=str(number)))
        assert contents(quiet) == {"a": "1", "log": ""}
    quiet = taking.take(scan(a="2", log="more"))
    assert (contents(quiet), quiet.changed) == ({"a": "2", "log": ""}, {"a"})
    assert quiet.restless == {"log"}


def test_a_file_that_moves_while_it_is_read_never_settles() -> None:
    taking = Taking(a="one")
    for _ in range(3):
        quiet = taking.take(scan(moving=["a"]))
        assert (contents(quiet), quiet.restless) == ({"a": "one"}, {"a"})


def test_what_cannot_be_seen_has_not_gone() -> None:
    taking = Taking(a="1", folder="2")
    for _ in range(3):
        quiet = taking.take(scan(unseen=["folder"], a="1"))
    assert (contents(quiet), quiet.restless) == ({"a": "1", "folder": "2"}, set())


def test_what_is_below_a_place_is_told_by_whole_steps() -> None:
    assert is_below("a/b/c", {"a/b"})
    assert is_below("a/b", {"a/b"})
    assert not is_below("a/bc", {"a/b"})
    assert not is_below("a", {"a/b"})


_contents = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"]))


@given(st.lists(st.tuples(_contents, st.sampled_from([0.0, 0.4, 1.0, 3.0])), max_size=12))
def test_what_is_taken_was_so_in_two_scans_a_moment_apart(
    scans: list[tuple[dict[str, str], float]],
) -> None:
    taking = Taking()
    history: list[tuple[float, dict[str, str]]] = []
    for found, after in scans:
        before = contents(Quiet(taking.settling._taken, frozenset(), frozenset()))
        quiet = taking.take(scan(**found), after)
        history.append((taking.now, found))
        for path in quiet.changed:
            now = contents(quiet).get(path)
            assert now == found.get(path) != before.get(path)
            run = []
            for at, was in reversed(history):
                if was.get(path) != now:
                    break
                run.append(at)
            assert run[0] - run[-1] >= MOMENT
        if not quiet.restless:
            assert contents(quiet) == found
