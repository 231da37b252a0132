"""The audit log's chain: whatever is done to its lines is found, and a torn one is told."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.publisher.audit import (
    NOWHERE,
    AuditHead,
    Event,
    Found,
    Touched,
    Who,
    encode_line,
    hash_of,
    parse_head,
    verify,
)
from gatesync.publisher.audit_file import AuditError, AuditFile, read_entries, verify_files

pytestmark = pytest.mark.fast

ENTRIES = 8


def event(number: int, **more: Any) -> Event:
    who = Who(id=f"ci{number % 3}", role="publish", token="0123456789ab")
    touched = Touched("publish", f"id-{number}", "carbon.super", "api", f"API{number}", "1")
    return Event(time=number, who=who, verb="publish", artifacts=(touched,), outcome="done", **more)


def chain(count: int) -> list[bytes]:
    lines: list[bytes] = []
    head = NOWHERE
    for number in range(count):
        line = encode_line(event(number), head)
        head = AuditHead(head.sequence + 1, hash_of(line))
        lines.append(line + b"\n")
    return lines


WHOLE = chain(ENTRIES)
HEAD = AuditHead(ENTRIES, hash_of(WHOLE[-1][:-1]))


def checked(lines: Sequence[bytes], *known: AuditHead) -> Found:
    """As a file of these bytes would be."""
    content = b"".join(lines).splitlines(keepends=True)
    return verify(((str(n), line) for n, line in enumerate(content, 1)), known)


def test_a_log_that_nobody_touched_fits() -> None:
    found = checked(WHOLE, HEAD, AuditHead(3, hash_of(WHOLE[2][:-1])))
    assert (found.fault, found.entries, found.first, found.head) == ("", ENTRIES, 1, HEAD)


@given(st.integers(0, ENTRIES - 1), st.data())
def test_any_edit_is_found_where_it_was_made(number: int, data: st.DataObject) -> None:
    line = WHOLE[number]
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1).filter(lambda b: b != line[at : at + 1]))
    found = checked([*WHOLE[:number], line[:at] + byte + line[at + 1 :], *WHOLE[number + 1 :]])
    assert found.fault.startswith(f"{number + 1}:")


@given(st.integers(0, ENTRIES - 1), st.data())
def test_any_bytes_put_in_or_taken_out_are_found(number: int, data: st.DataObject) -> None:
    line = WHOLE[number]
    at = data.draw(st.integers(0, len(line) - 1))
    if data.draw(st.booleans()):
        changed = line[:at] + data.draw(st.binary(min_size=1, max_size=40)) + line[at:]
        if changed.startswith(line) or not changed.strip():
            return
    else:
        changed = line[:at] + line[at + data.draw(st.integers(1, 40)) :]
    found = checked([*WHOLE[:number], changed, *WHOLE[number + 1 :]], HEAD)
    assert found.fault


@given(st.integers(0, ENTRIES - 1), st.integers(1, ENTRIES))
def test_any_removal_is_found(first: int, count: int) -> None:
    left = [*WHOLE[:first], *WHOLE[first + count :]]
    found = checked(left, HEAD)
    assert found.fault
    if first + count < ENTRIES:  # found without knowing where the log should end
        assert checked(left).fault.startswith(f"{first + 1}: is entry {first + count + 1}")


def test_a_cut_at_the_end_is_found_by_a_head_that_was_kept_elsewhere() -> None:
    assert not checked(WHOLE[:5]).fault  # what the chain alone cannot tell
    assert checked(WHOLE[:5], HEAD).fault == "ends at entry 5, but there was an entry 8"


def test_another_log_of_the_same_length_is_found_by_a_head_that_was_kept_elsewhere() -> None:
    head = AuditHead(4, hash_of(WHOLE[3][:-1]))
    forged = list(WHOLE[:4])
    for number in range(ENTRIES - 4):
        line = encode_line(event(100 + number), head)
        head = AuditHead(head.sequence + 1, hash_of(line))
        forged.append(line + b"\n")
    assert not checked(forged).fault
    assert checked(forged, HEAD).fault.startswith("8: is another entry 8")


@given(st.permutations(range(ENTRIES)).filter(lambda order: order != list(range(ENTRIES))))
def test_any_other_order_is_found(order: list[int]) -> None:
    wrong = next(place for place, number in enumerate(order) if place != number)
    found = checked([WHOLE[number] for number in order])
    assert found.fault.startswith(f"{wrong + 1}:")


@given(st.integers(0, ENTRIES - 1), st.integers(0, ENTRIES))
def test_a_line_that_is_there_twice_is_found(which: int, where: int) -> None:
    assert checked([*WHOLE[:where], WHOLE[which], *WHOLE[where:]], HEAD).fault


@given(st.integers(1, ENTRIES - 1), st.integers(0, 2_000))
def test_a_killed_writers_line_is_ended_and_told_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, whole: int, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("audit")
    torn = WHOLE[whole][: cut % len(WHOLE[whole])]
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(WHOLE[:whole]) + torn)
    assert bool(verify_files(folder).fault) == bool(torn)
    head = AuditFile(folder).append([event(50)])
    found = verify_files(folder, [head])
    assert found.fault == ""
    assert path.read_bytes().startswith(b"".join(WHOLE[:whole]) + torn)  # not one byte is gone
    entries = read_entries(folder, limit=100)
    assert [each.time for each in entries][:whole] == list(range(whole))
    assert entries[-1].time == 50
    is_entry = torn == WHOLE[whole][:-1]  # nothing but its end was missing
    assert len(found.mended) == (1 if torn and not is_entry else 0)
    assert [e.verb for e in entries[whole + is_entry : -1]] == (["log mended"] if torn else [])


def test_a_mending_may_be_cut_short_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditFile(tmp_path).append([event(1)])
    for cut in (20, 60, 100):
        path.write_bytes(path.read_bytes() + WHOLE[3][:cut])
        AuditFile(tmp_path).append([])
        path.write_bytes(path.read_bytes()[:-cut])
    head = AuditFile(tmp_path).append([event(2)])
    found = verify_files(tmp_path, [head])
    assert (found.fault, len(found.mended)) == ("", 1)


def test_a_line_cannot_be_passed_off_as_torn(tmp_path: Path) -> None:
    file = AuditFile(tmp_path)
    file.append([event(n) for n in range(3)])
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    assert verify_files(tmp_path).fault.startswith("audit.jsonl:2: this line was changed")


def test_the_chain_goes_on_across_files_and_between_writers(tmp_path: Path) -> None:
    writers = [AuditFile(tmp_path, rotate_bytes=2_000) for _ in range(3)]
    for number in range(30):
        head = writers[number % 3].append([event(number)])
    files = sorted(tmp_path.glob("audit*.jsonl"))
    assert len(files) > 5
    found = verify_files(tmp_path, [head])
    assert (found.fault, found.first, found.head) == ("", 1, head)
    entries = read_entries(tmp_path, limit=1_000)
    assert [each.time for each in entries if each.verb == "publish"] == list(range(30))
    for path in (*files, tmp_path / "audit.lock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    first, second, *_ = files
    first.rename(tmp_path / "kept-elsewhere")
    begun = verify_files(tmp_path, [head])
    assert (begun.fault, begun.first) == ("", found.entries - begun.entries + 1)
    (tmp_path / "kept-elsewhere").rename(first)
    second.unlink()
    assert "before it, removed or in another file" in verify_files(tmp_path).fault


def test_the_beginning_of_a_file_cannot_be_taken_away(tmp_path: Path) -> None:
    AuditFile(tmp_path).append([event(n) for n in range(5)])
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[2:]))
    assert verify_files(tmp_path).fault.startswith("audit.jsonl:1: is entry 3")


@pytest.mark.parametrize("how", ["cut", "removed"])
def test_what_vanishes_under_a_running_writer_shows(tmp_path: Path, how: str) -> None:
    file, path = AuditFile(tmp_path), tmp_path / "audit.jsonl"
    file.append([event(n) for n in range(5)])
    if how == "cut":
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    else:
        path.unlink()
    file.append([event(5)])
    assert "is entry 6" in verify_files(tmp_path).fault


def test_a_token_in_what_a_stranger_sends_is_masked(tmp_path: Path) -> None:
    token = f"gs_0123456789ab_{'S' * 43}"
    AuditFile(tmp_path).append([event(1, detail=f"GET /v1/labels/{token}", key=token)])
    assert b"SSSS" not in (tmp_path / "audit.jsonl").read_bytes()
    (entry,) = read_entries(tmp_path, limit=1)
    assert entry.detail == "GET /v1/labels/gs_0123456789ab_***"
    assert not verify_files(tmp_path).fault


def test_entries_are_found_by_time_by_whom_and_by_name(tmp_path: Path) -> None:
    AuditFile(tmp_path).append([event(n) for n in range(9)])

    def times(**asked: str | int) -> list[int]:
        return [each.time for each in read_entries(tmp_path, **({"limit": 100} | asked))]  # type: ignore[arg-type]

    assert times(since=6) == [6, 7, 8]
    assert times(who="ci1") == [1, 4, 7]
    assert times(who="0123456789ab", limit=2) == [7, 8]
    assert times(name="API3") == times(name="id-3") == [3]
    assert times(before=4) == [0, 1, 2]


def test_a_file_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(AuditError, match=r"audit\.jsonl: cannot be written"):
        AuditFile(tmp_path).append([event(1)])


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError):
        AuditFile(tmp_path).append([event(1)])
    assert not os.path.lexists(tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["", "7", "7:", f"x:{'0' * 64}", f"7:{'0' * 63}", "7:" + "G" * 64])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no head"):
        parse_head(text)
