from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import Entry
from gatesync.gateway.desired import Desired, Skipped, Wanted
from tests.contracts.saves import id_of
from tests.gateway.makers import entry

pytestmark = pytest.mark.fast

LABELS = ("first", "second", "third")


def desired() -> Desired:
    return Desired(LABELS)


def put(desired: Desired, label: str, made: Entry, *, retained: bool = False) -> set[str]:
    return desired.put(label, made.api_id, made, retained=retained)


def test_what_no_label_names_is_not_there() -> None:
    assert desired().decide(id_of("menu")) is None


def test_the_first_of_the_nodes_labels_wins() -> None:
    wanted = desired()
    put(wanted, "second", entry("menu", 2))
    assert wanted.decide(id_of("menu")) == Wanted("second", entry("menu", 2))
    put(wanted, "first", entry("menu", 1))
    assert wanted.decide(id_of("menu")) == Wanted("first", entry("menu", 1))
    wanted.put("first", id_of("menu"), None)
    assert wanted.decide(id_of("menu")) == Wanted("second", entry("menu", 2))


def test_a_route_of_an_earlier_label_shadows_another_api() -> None:
    wanted = desired()
    put(wanted, "second", entry("menu", context="/eat"))
    affected = put(wanted, "first", entry("bread", context="/eat"))
    assert affected == {id_of("menu"), id_of("bread")}
    skipped = wanted.decide(id_of("menu"))
    assert isinstance(skipped, Skipped)
    assert skipped.label == "second"
    assert "'first'" in skipped.reason
    assert "bread" in skipped.reason
    assert isinstance(wanted.decide(id_of("bread")), Wanted)


def test_the_same_name_under_another_id_is_shadowed() -> None:
    wanted = desired()
    original = entry("menu")
    put(wanted, "first", original)
    twin = Entry("another-id", "carbon.super", "api", "menu", "1.0.0", "/other", original.digest, 1)
    put(wanted, "second", twin)
    assert isinstance(wanted.decide("another-id"), Skipped)
    assert isinstance(wanted.decide(id_of("menu")), Wanted)


def test_another_tenant_or_version_shadows_nothing() -> None:
    wanted = desired()
    one = entry("menu", context="/eat")
    others = [
        Entry("2", "t.com", one.kind, one.name, one.version, "/eat", one.digest, 1),
        Entry("3", one.tenant, one.kind, one.name, "2.0.0", "/eat", one.digest, 1),
    ]
    put(wanted, "first", one)
    for other in others:
        put(wanted, "second", other)
    assert all(isinstance(wanted.decide(each), Wanted) for each in ("2", "3", one.api_id))


def test_what_has_no_route_shadows_no_route() -> None:
    wanted = desired()
    for number, label in enumerate(LABELS):
        sequence = Entry(f"{number}", "t", "sequence", f"s{number}", "", "", "00", 1)
        put(wanted, label, sequence)
    assert all(isinstance(wanted.decide(f"{n}"), Wanted) for n in range(3))


def test_a_retained_entry_stands_behind_its_labels_own_and_before_the_next_label() -> None:
    wanted = desired()
    kept, own, other = entry("menu", "kept"), entry("menu", "own"), entry("menu", "other")
    put(wanted, "second", other)
    put(wanted, "first", kept, retained=True)
    assert wanted.decide(id_of("menu")) == Wanted("first", kept)
    put(wanted, "first", own)
    assert wanted.decide(id_of("menu")) == Wanted("first", own)
    wanted.put("first", id_of("menu"), None)
    wanted.put("first", id_of("menu"), None, retained=True)
    assert wanted.decide(id_of("menu")) == Wanted("second", other)


def test_a_retained_entry_never_shadows_what_its_label_holds_now() -> None:
    wanted = desired()
    put(wanted, "first", entry("bread", context="/eat"), retained=True)
    put(wanted, "first", entry("menu", context="/eat"))
    assert isinstance(wanted.decide(id_of("menu")), Wanted)
    assert isinstance(wanted.decide(id_of("bread")), Skipped)


def test_a_label_move_is_seen_whatever_comes_first() -> None:
    for order in (("add", "take"), ("take", "add")):
        wanted = desired()
        put(wanted, "first", entry("menu"))
        for step in order:
            if step == "add":
                put(wanted, "third", entry("menu"))
            else:
                wanted.put("first", id_of("menu"), None)
        assert wanted.decide(id_of("menu")) == Wanted("third", entry("menu"))


_change = st.tuples(
    st.sampled_from(LABELS),
    st.booleans(),  # retained
    st.sampled_from("abcd"),
    st.sampled_from([None, 1, 2]),  # content, or gone
    st.sampled_from(["", "/x", "/y"]),
)
_State = dict[tuple[int, str], Entry]


def final(changes: Sequence[tuple[str, bool, str, int | None, str]]) -> _State:
    state: _State = {}
    for label, retained, name, version, context in changes:
        candidate = (2 * LABELS.index(label) + retained, id_of(name))
        state.pop(candidate, None)
        if version is not None:
            state[candidate] = entry(name, version, context=context)
    return state


def naive(state: _State) -> dict[str, tuple[str, str]]:
    """Who is served from where: compare everyone with everyone."""

    def clash(one: Entry, other: Entry) -> bool:
        route = (one.tenant, one.context, one.version) == (
            other.tenant,
            other.context,
            other.version,
        )
        return one.identity == other.identity or (route and bool(one.context))

    served = {}
    for (rank, api_id), mine in state.items():
        others = [
            (other, each)
            for other, each in state.items()
            if clash(mine, each) or other[1] == api_id
        ]
        if min(others)[0] == (rank, api_id):
            served[api_id] = (LABELS[rank // 2], mine.digest)
    return served


def decided(wanted: Desired) -> dict[str, tuple[str, str]]:
    cases = {name: wanted.decide(id_of(name)) for name in "abcd"}
    return {
        id_of(name): (case.label, case.entry.digest)
        for name, case in cases.items()
        if isinstance(case, Wanted)
    }


def apply(
    wanted: Desired, changes: Sequence[tuple[str, bool, str, int | None, str]]
) -> dict[str, tuple[str, str]]:
    """Make the changes; answers with what a caller knows who asks only about what it is told."""
    known: dict[str, tuple[str, str]] = {}
    for label, retained, name, version, context in changes:
        made = None if version is None else entry(name, version, context=context)
        for api_id in wanted.put(label, id_of(name), made, retained=retained):
            known.pop(api_id, None)
            case = wanted.decide(api_id)
            if isinstance(case, Wanted):
                known[api_id] = (case.label, case.entry.digest)
    return known


@given(changes=st.lists(_change, max_size=30))
def test_it_equals_a_naive_recomputation_and_tells_everyone_whose_case_changed(
    changes: list[tuple[str, bool, str, int | None, str]],
) -> None:
    wanted = desired()
    known = apply(wanted, changes)
    assert decided(wanted) == naive(final(changes))
    assert known == decided(wanted)
    assert set(wanted.api_ids()) == {api_id for _, api_id in final(changes)}


@given(changes=st.lists(_change, max_size=12, unique_by=lambda c: c[:3]), data=st.data())
def test_the_order_of_changes_to_different_candidates_does_not_matter(
    changes: list[tuple[str, bool, str, int | None, str]], data: st.DataObject
) -> None:
    one, other = desired(), desired()
    apply(one, changes)
    apply(other, data.draw(st.permutations(changes)))
    assert decided(one) == decided(other)
