"""The index of logs against a model that keeps every state."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import Cursor, Entry, Instruction
from gatesync.artifacts.planning import Item, SaveRequest
from gatesync.stores.log_index import LogIndex, Record
from gatesync.stores.store import Refused, SaveOutcome, TooOld
from tests.contracts.saves import applied, asked, digest_over, publish, remove

pytestmark = pytest.mark.fast

EPOCH = "4f3b2a10-0000-4000-8000-000000000000"
LABELS = ("Shop", "Cafe", "Bar")


def saved(index: LogIndex, *requests: SaveRequest, first: int | None = None) -> list[SaveOutcome]:
    planned = index.plan(requests, first_revision=first)
    for record in planned.records:
        index.append(record)
    found = [each for each in planned.answers if isinstance(each, SaveOutcome)]
    assert len(found) == len(requests), planned.answers
    return found


def list_of(index: LogIndex, label: str, at: Cursor, limit: int = 2) -> dict[str, Entry]:
    """The list at a revision, read in pages."""
    found: dict[str, Entry] = {}
    after: str | None = ""
    while after is not None:
        page = index.manifest(label, at=at, after=after, limit=limit)
        assert page.head.cursor == at
        found.update((entry.api_id, entry) for entry in page.entries)
        after = page.after
    assert digest_over(found) == index.digest_at(label, at)
    return found


def test_what_is_planned_moves_nothing_until_it_is_appended() -> None:
    index = LogIndex(EPOCH)
    request = asked("Shop", publish("A", claims=["/a"]))
    for _ in range(2):
        [answer] = index.plan([request]).answers
        assert isinstance(answer, SaveOutcome)
        assert not answer.repeated
        assert index.labels() == []
    saved(index, request)
    [refused] = index.plan([asked("Shop", publish("B", claims=["/a"]))]).answers
    assert isinstance(refused, Refused)
    [again] = index.plan([request]).answers
    assert isinstance(again, SaveOutcome)
    assert again.repeated


def test_contents_are_those_that_the_records_name() -> None:
    index = LogIndex(EPOCH)
    good, bad = asked("Shop", publish("A", "a")), asked("Shop", publish("B", "b"), remove("X"))
    assert list(index.plan([good, bad]).contents.values()) == [b"a"]


def test_where_labels_count_together_a_set_has_one_number_in_all_of_them() -> None:
    index = LogIndex(EPOCH)
    [first] = saved(index, asked("Shop", publish("A")), first=5)
    requests = [
        asked(("Shop", "Cafe"), publish("A"), publish("B"), publish("C")),
        asked("Bar", publish("A")),
        asked("Cafe", remove("A")),
    ]
    outcomes = saved(index, *requests, first=9)
    assert [[(each.label, each.revision, each.previous) for each in outcome.change_sets]
            for outcome in (first, *outcomes)] == [
        [("Shop", 5, 0)],
        [("Cafe", 9, 0), ("Shop", 10, 5), ("Cafe", 10, 9), ("Shop", 11, 10), ("Cafe", 11, 10)],
        [("Bar", 12, 0)],
        [("Cafe", 13, 11)],
    ]  # fmt: skip
    assert index.heads(["Shop"])["Shop"].revision == 11
    entries = list_of(index, "Shop", Cursor(EPOCH, 10))
    assert sorted(each.name for each in entries.values()) == ["A", "B"]
    assert {each.revision for each in entries.values()} == {5, 10}


def test_a_record_of_nobodys_request_is_a_change_like_any_other() -> None:
    index = LogIndex(EPOCH)
    written = LogIndex(EPOCH).plan([asked("Shop", publish("A", claims=["/a"]))]).records[0]
    index.append(Record("", "", written.change_sets, written.heads, claims=written.claims))
    assert index.heads(["Shop"])["Shop"] == written.change_sets[0].head
    [refused] = index.plan([asked("Shop", publish("B", claims=["/a"]))]).answers
    assert isinstance(refused, Refused)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[tuple[str, ...], list[Item]]]:
    names = st.sampled_from("ABCDE")
    item = st.one_of(
        st.builds(publish, names, st.sampled_from(["1", "2", "3"])), st.builds(remove, names)
    )
    labels = st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True).map(tuple)
    return draw(st.lists(st.tuples(labels, st.lists(item, min_size=1, max_size=3)), max_size=25))


@given(
    steps(),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, 12)), max_size=3),
)
def test_every_kept_state_can_be_read_and_every_difference_leads_to_the_head(
    requests: Sequence[tuple[tuple[str, ...], list[Item]]],
    together: bool,
    compactions: Sequence[tuple[str, int]],
) -> None:
    index = LogIndex(EPOCH)
    states: dict[str, dict[int, dict[str, Entry]]] = {label: {0: {}} for label in LABELS}
    number = 1
    for labels, items in requests:
        request = asked(labels, *items)
        planned = index.plan([request], first_revision=number if together else None)
        [answer] = planned.answers
        if isinstance(answer, Refused):
            assert planned.records == []
            continue
        [record] = planned.records
        index.append(record)
        for each in answer.change_sets:
            before = states[each.label][each.previous]
            states[each.label][each.revision] = applied(before, each)
            number = max(number, each.revision + 1)
    floors = dict.fromkeys(LABELS, 0)
    for label, keep in compactions:
        floors[label] = index.floor_of(label, keep)
        index.compact(label, floors[label])
    for label, by_revision in states.items():
        head = index.heads([label])[label]
        assert head.revision == max(by_revision)
        for revision, entries in by_revision.items():
            at = Cursor(EPOCH, revision)
            assert index.digest_at(label, at) == digest_over(entries)
            if revision < floors[label]:
                with pytest.raises(TooOld):
                    index.changes(label, at)
                continue
            assert list_of(index, label, at) == entries
            delta = index.changes(label, at)
            assert applied(entries, delta) == by_revision[head.revision]
            touched = [change.entry.api_id for change in delta.changes]
            assert len(set(touched)) == len(touched)
        kept = index.change_sets(label, 0, 1_000)
        assert [each.revision for each in kept] == [r for r in by_revision if r > floors[label]]
        named = {entry.digest for entry in by_revision[head.revision].values()}
        named |= {c.entry.digest for s in kept for c in s.changes
                  if c.instruction is Instruction.PUBLISH}  # fmt: skip
        assert named <= index.used()
