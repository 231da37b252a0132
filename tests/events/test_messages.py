"""What travels: round trips, tolerance of newer senders, and no harm from garbage."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Entry, Head, Instruction
from gatesync.artifacts.compression import compress
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.events.messages import (
    CONTENTS_MAX_BYTES,
    INLINE_MAX_BYTES,
    PLAIN_MAX_BYTES,
    ApplyException,
    ChangeAnnounced,
    Contents,
    Drift,
    HeadsAnnounced,
    Inventory,
    LabelInventory,
    LabelReport,
    NodeReport,
    Skipped,
    announce_change,
    contents_of,
    decode_announcement,
    decode_report,
    encode,
)

pytestmark = pytest.mark.fast

LABEL = "Production and Sandbox \U0001f355 "


def change_set(*contents: bytes, instruction: Instruction = Instruction.PUBLISH) -> ChangeSet:
    digest = EMPTY_LABEL
    changes = []
    for number, content in enumerate(contents):
        entry = Entry(
            api_id=f"id-{number}",
            tenant="carbon.super",
            kind="api",
            name=f"Name {number}",
            version="1.0.0",
            context=f"/name/{number}",
            digest=digest_of(content),
            size=len(content),
            revision=8,
        )
        digest = digest.add(entry.api_id, entry.digest)
        changes.append(Change(instruction, entry))
    return ChangeSet(LABEL, "epoch", 8, 5, tuple(changes), digest, 1_700_000_000_000, "p1")


def heads() -> HeadsAnnounced:
    confirmation = Confirmation("c", "epoch", 7)
    both = (Head(LABEL, "epoch", 8, EMPTY_LABEL, confirmation), Head("L", "epoch"))
    return HeadsAnnounced(both, publisher="p1", sent_at=1, verification="v")


def report(**changes: Any) -> NodeReport:
    digest = digest_of(b"x")
    label = LabelReport(
        label=LABEL,
        epoch="epoch",
        desired=8,
        applied=7,
        digest=EMPTY_LABEL.add("id", digest),
        count_applied=1,
        took_us=1234,
        proof_age_ms=None,
        held=2,
        exceptions=(ApplyException("id", 8, digest, "no", 3, 1500),),
        skipped=(Skipped("id-2", "tenant is not loaded"),),
    )
    drifted = (Drift("id", digest, ""),)
    inventory = Inventory("v", (LabelInventory(LABEL, 1, digest, "epoch", 8, drifted),))
    whole = NodeReport(
        node="node-1",
        incarnation="i",
        sequence=4,
        version="0.1.0",
        engine="memory",
        admin_url="http://127.0.0.1:9",
        uptime_ms=5,
        labels=(label,),
        leaving=True,
        verification=inventory,
    )
    return msgspec.structs.replace(whole, **changes)


def test_what_is_encoded_comes_out_the_same() -> None:
    announced = announce_change(change_set(b"one", b"two"), {digest_of(b"one"): b"one"})
    assert decode_announcement(encode(announced)) == announced
    assert decode_announcement(encode(heads())) == heads()
    assert decode_report(encode(report())) == report()


def test_contents_come_along_where_they_fit_and_are_known() -> None:
    small, large, unknown = b"s" * 1000, b"l" * 2000, b"u"
    known = {digest_of(small): small, digest_of(large): large}
    announced = announce_change(change_set(large, small, unknown), known, inline_limit=1999)
    assert contents_of(announced) == {digest_of(small): small}
    both = announce_change(change_set(large, small, unknown), known, inline_limit=3000)
    assert contents_of(both) == known
    assert contents_of(both).refused == ()
    neither = announce_change(change_set(large, small, unknown), known, inline_limit=999)
    assert (neither.contents, neither.plain) == (b"", {})
    assert contents_of(neither) == {}


def test_few_bytes_travel_as_they_are_and_many_in_a_frame() -> None:
    few, more = bytes(PLAIN_MAX_BYTES), bytes(PLAIN_MAX_BYTES + 1)
    plain = announce_change(change_set(few), {digest_of(few): few})
    assert (plain.plain, plain.contents) == ({digest_of(few): few}, b"")
    framed = announce_change(change_set(more), {digest_of(more): more})
    assert framed.plain == {}
    assert 0 < len(framed.contents) < len(more)
    both = ChangeAnnounced(change_set(few, more), framed.contents, plain.plain)
    assert contents_of(both) == {digest_of(few): few, digest_of(more): more}


def test_the_default_limit_counts_bytes_before_compression() -> None:
    exact, more = bytes(INLINE_MAX_BYTES), bytes(INLINE_MAX_BYTES + 1)
    assert contents_of(announce_change(change_set(exact), {digest_of(exact): exact}))
    assert not contents_of(announce_change(change_set(more), {digest_of(more): more}))


def test_removals_and_doubles_carry_nothing_twice() -> None:
    known = {digest_of(b"x"): b"x"}
    removal = announce_change(change_set(b"x", instruction=Instruction.REMOVE), known)
    assert (removal.contents, removal.plain) == (b"", {})
    doubled = announce_change(change_set(b"x", b"x"), known, inline_limit=1)
    assert contents_of(doubled) == known


@pytest.mark.promise(8)
def test_contents_that_do_not_have_their_digest_are_refused_and_named() -> None:
    good, forged = digest_of(b"good"), digest_of(b"something else")
    claimed = {good: b"good", forged: b"forged"}
    framed = ChangeAnnounced(change_set(b"good"), compress(msgspec.msgpack.encode(claimed)))
    for announced in (framed, ChangeAnnounced(change_set(b"good"), plain=claimed)):
        found = contents_of(announced)
        assert isinstance(found, Contents)
        assert found == {good: b"good"}
        assert found.refused == (forged,)


@pytest.mark.parametrize(
    "frame",
    [
        b"no zstd",
        compress(b"no msgpack"),
        compress(msgspec.msgpack.encode(["no map"])),
        compress(msgspec.msgpack.encode({"digest": "no bytes"})),
        compress(msgspec.msgpack.encode({"d": b"x"}))[:-1],
        compress(b"\x91" * 100_000),
        compress(bytes(CONTENTS_MAX_BYTES + 1)),
    ],
)
def test_broken_contents_and_bombs_are_format_errors(frame: bytes) -> None:
    with pytest.raises(FormatError):
        contents_of(ChangeAnnounced(change_set(b"x"), frame))


def fields(message: Any) -> dict[str, Any]:
    found = msgspec.msgpack.decode(encode(message))
    assert isinstance(found, dict)
    return found


def test_unknown_fields_are_ignored_at_every_depth() -> None:
    change = fields(announce_change(change_set(b"x"), {}))
    change["new"] = {"deep": [1]}
    change["change_set"]["new"] = 1
    change["change_set"]["changes"][0]["entry"]["new"] = None
    expected = announce_change(change_set(b"x"), {})
    assert decode_announcement(msgspec.msgpack.encode(change)) == expected
    node = fields(report())
    node["labels"][0]["exceptions"][0]["new"] = node["new"] = 1
    assert decode_report(msgspec.msgpack.encode(node)) == report()


def test_an_unknown_format_is_refused_by_name() -> None:
    change = fields(announce_change(change_set(b"x"), {})) | {"format": "gatesync.event/2"}
    with pytest.raises(FormatError, match=r"'gatesync\.event/2' is unknown.*'gatesync\.event/1'"):
        decode_announcement(msgspec.msgpack.encode(change))
    with pytest.raises(FormatError, match=r"'other/7' is unknown"):
        decode_announcement(msgspec.msgpack.encode({"format": "other/7", "shape": "another"}))
    with pytest.raises(FormatError, match=r"'gatesync\.event/1' is unknown.*report"):
        decode_report(encode(heads()))
    with pytest.raises(FormatError, match=r"'gatesync\.report/1' is unknown.*event"):
        decode_announcement(encode(report()))


def without(message: Any, *path: Any, value: Any) -> bytes:
    found: Any = fields(message)
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return msgspec.msgpack.encode(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("change_set", "revision"), -1),
        (("change_set", "previous"), 1 << 63),
        (("change_set", "digest", "total"), "zz"),
        (("change_set", "digest", "total"), "A" * 64),
        (("change_set", "digest", "count"), -1),
        (("change_set", "changes", 0, "entry", "digest"), "../../etc/passwd"),
        (("change_set", "changes", 0, "entry", "digest"), "0" * 64 + "\n"),
        (("change_set", "changes", 0, "entry", "size"), -1),
        (("change_set", "changes", 0, "instruction"), "Explode"),
        (("contents",), "text"),
        (("type",), "unheard of"),
    ],
)
def test_a_change_that_the_domain_could_not_work_with_is_refused(path: Any, value: Any) -> None:
    with pytest.raises(FormatError):
        decode_announcement(without(announce_change(change_set(b"x"), {}), *path, value=value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("node",), "not a token"),
        (("node",), ""),
        (("sequence",), -1),
        (("sequence",), 1 << 63),
        (("labels", 0, "label"), "x" * 256),
        (("labels", 0, "label"), "\x1b[31m"),
        (("labels", 0, "digest", "total"), ""),
        (("labels", 0, "applied"), 1 << 63),
        (("labels", 0, "proof_age_ms"), -1),
    ],
)
def test_a_report_that_could_not_be_kept_is_refused(path: Any, value: Any) -> None:
    with pytest.raises(FormatError):
        decode_report(without(report(), *path, value=value))


def test_a_long_reason_and_a_long_list_of_drift_are_cut() -> None:
    failed = ApplyException("id", 1, "d", "x" * 501, 1, 0)
    assert failed.reason == "x" * 497 + "..."
    assert ApplyException("id", 1, "d", "x" * 500, 1, 0).reason == "x" * 500
    drifted = tuple(Drift(f"id-{number}", "", "") for number in range(101))
    label = LabelInventory("L", 200, "d", drifted=drifted)
    assert (len(label.drifted), label.drifted_count) == (100, 101)
    sent = report(verification=Inventory("v", (label,)))
    assert decode_report(encode(sent)) == sent


SAMPLES = [
    encode(announce_change(change_set(b"x" * 100), {digest_of(b"x" * 100): b"x" * 100})),
    encode(heads()),
    encode(report()),
]


def survives(data: bytes) -> None:
    for decode in (decode_announcement, decode_report):
        try:
            message = decode(data)
            if isinstance(message, ChangeAnnounced):
                contents_of(message)
        except FormatError:
            continue
        assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_random_bytes_are_at_worst_a_format_error(data: bytes) -> None:
    survives(data)


@settings(max_examples=500)
@given(st.sampled_from(SAMPLES), st.randoms(use_true_random=False), st.integers(1, 8))
def test_damaged_messages_are_at_worst_a_format_error(
    sample: bytes, randomness: random.Random, damage: int
) -> None:
    data = bytearray(sample)
    for _ in range(damage):
        place = randomness.randrange(len(data)) if data else 0
        action = randomness.randrange(4)
        if action == 0 and data:
            data[place] = randomness.randrange(256)
        elif action == 1:
            del data[place:]
        elif action == 2:
            data[place:place] = randomness.randbytes(randomness.randrange(1, 9))
        else:
            del data[place : place + randomness.randrange(1, 9)]
    survives(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xc0", b"\x80", b"\x91" * 100_000, b"\x81\xa1y" * 100_000),
        *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x81\xa6format\xa2\xff\xff"),
    ],
)
def test_traps_are_format_errors(data: bytes) -> None:
    for decode in (decode_announcement, decode_report):
        with pytest.raises(FormatError):
            decode(data)
