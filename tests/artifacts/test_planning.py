import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import ChangeSet, Entry, Head, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import (
    Claim,
    LabelState,
    PlannedRequest,
    Publish,
    Remove,
    SaveRequest,
    plan,
)

pytestmark = pytest.mark.fast

EPOCH = "e"


def _publish(api_id: str, content: str = "0", claims: str = "", name: str = "") -> Publish:
    """Publish `api_id` with one of ten contents; each letter of `claims` is a claim."""
    entry = Entry(api_id, "t", "sequence", name or f"n-{api_id}", "", "", content * 64, 1, 999)
    return Publish(entry, content.encode(), tuple(Claim(c * 64, f"the name {c}") for c in claims))


def _request(*sets: Sequence[Publish | Remove], labels: Sequence[str] = ("A",)) -> SaveRequest:
    return SaveRequest(
        labels=tuple(labels),
        sets=tuple(tuple(items) for items in sets),
        key="k",
        fingerprint="f",
        published_at=7,
        publisher="p1",
    )


class World:
    """All labels' whole states, as a store would hold them; each plan is checked against it."""

    def __init__(self, labels: Iterable[str] = ("A", "B")) -> None:
        self.states = {label: LabelState(Head(label, EPOCH)) for label in labels}
        self.identities: dict[str, Identity] = {}

    def plan(self, *sets: Sequence[Publish | Remove], labels: Sequence[str] = ("A",)) -> Any:
        before = self.snapshot()
        try:
            planned = plan(_request(*sets, labels=labels), self.states, self.identities)
        except ProblemsError:
            assert self.snapshot() == before, "a refused request moved something"
            raise
        self._check(planned, before, labels)
        return planned

    def refused(self, *sets: Sequence[Publish | Remove], labels: Sequence[str] = ("A",)) -> str:
        with pytest.raises(ProblemsError) as refused:
            self.plan(*sets, labels=labels)
        return str(refused.value)

    def snapshot(self) -> Any:
        states = {
            label: (state.head, dict(state.entries), dict(state.owners), dict(state.claims))
            for label, state in self.states.items()
        }
        return states, dict(self.identities)

    def held(self, label: str = "A") -> dict[str, Entry]:
        entries = self.states[label].entries
        return {api_id: entry for api_id, entry in entries.items() if entry is not None}

    def owned(self, label: str = "A") -> dict[str, str]:
        return {key[0]: owner for key, owner in self.states[label].owners.items() if owner}

    def _check(self, planned: PlannedRequest, before: Any, labels: Sequence[str]) -> None:
        assert [head.label for head in planned.heads] == list(labels)
        for label, state in self.states.items():
            held = self.held(label)
            self._check_log(label, before[0][label], planned.change_sets)
            digest = EMPTY_LABEL
            for entry in held.values():
                digest = digest.add(entry.api_id, entry.digest)
                assert self.identities[entry.api_id] == entry.identity
                assert entry.revision <= state.head.revision
            assert state.head.digest == digest
            # A claim has one owner, which is held, and an artifact owns all that it claims.
            owned: dict[str, set[str]] = {}
            for key, owner in state.owners.items():
                if owner is not None:
                    owned.setdefault(owner, set()).add(key)
            claims = {api_id: set(keys) for api_id, keys in state.claims.items() if keys}
            assert owned == claims
            assert set(owned) <= set(held)
        for head in planned.heads:
            assert head == self.states[head.label].head

    def _check_log(self, label: str, before: Any, planned: tuple[ChangeSet, ...]) -> None:
        """A label's change sets follow on each other, and say exactly what happened to it."""
        head, entries = before[0], {k: v for k, v in before[1].items() if v is not None}
        for change_set in planned:
            if change_set.label != label:
                continue
            assert change_set.changes
            assert change_set.previous == head.revision
            assert change_set.revision == head.revision + 1
            assert (change_set.epoch, change_set.publisher) == (EPOCH, "p1")
            assert change_set.published_at == 7
            for change in change_set.changes:
                api_id = change.entry.api_id
                if change.instruction is Instruction.REMOVE:
                    assert entries.pop(api_id) == change.entry
                else:
                    assert change.entry.revision == change_set.revision
                    entries[api_id] = change.entry
            head = change_set.head
            assert head.digest == _digest(entries.values())
        assert entries == self.held(label)
        assert (head.revision, head.digest) == (
            self.states[label].head.revision,
            self.states[label].head.digest,
        )


def _digest(entries: Iterable[Entry]) -> LabelDigest:
    digest = EMPTY_LABEL
    for entry in entries:
        digest = digest.add(entry.api_id, entry.digest)
    return digest


_api_ids = st.sampled_from("xyz")
_items = st.builds(
    _publish,
    _api_ids,
    st.sampled_from("012"),
    st.lists(st.sampled_from("abcd"), max_size=2, unique=True).map("".join),
    st.sampled_from(["", "", "", "", "other"]),
) | st.builds(Remove, _api_ids)
_requests = st.tuples(
    st.lists(st.lists(_items, max_size=3), max_size=3),
    st.lists(st.sampled_from("AB"), min_size=1, max_size=2, unique=True),
)


@pytest.mark.promise(2)
@given(st.lists(_requests, max_size=12))
def test_whatever_is_asked_the_labels_stay_consistent(requests: list[Any]) -> None:
    world = World()
    for sets, labels in requests:
        with contextlib.suppress(ProblemsError):
            world.plan(*sets, labels=labels)


def test_a_first_publish_is_revision_one() -> None:
    world = World()
    (change_set,) = world.plan([_publish("x", claims="a")]).change_sets
    assert (change_set.previous, change_set.revision) == (0, 1)
    assert world.owned() == {"a": "x"}
    assert world.held("B") == {}


def test_each_set_is_a_change_set_in_each_label() -> None:
    planned = World().plan([_publish("x")], [_publish("y"), _publish("z")], labels=("B", "A"))
    assert [(c.label, c.revision, len(c.changes)) for c in planned.change_sets] == [
        ("B", 1, 1),
        ("A", 1, 1),
        ("B", 2, 2),
        ("A", 2, 2),
    ]


@pytest.mark.promise(3)
def test_publishing_what_is_held_writes_nothing() -> None:
    world = World()
    world.plan([_publish("x")])
    before = world.snapshot()
    planned = world.plan([_publish("x")])
    assert planned.change_sets == ()
    assert [head.revision for head in planned.heads] == [1]
    assert world.snapshot() == before


def test_of_a_set_only_what_changes_is_written() -> None:
    world = World()
    world.plan([_publish("x"), _publish("y")])
    (change_set,) = world.plan([_publish("x"), _publish("y", "1")]).change_sets
    assert [change.entry.api_id for change in change_set.changes] == ["y"]
    assert world.held()["x"].revision == 1
    assert world.held()["y"].revision == 2


def test_a_removal_names_the_entry_that_it_removes_and_frees_its_names() -> None:
    world = World()
    world.plan([_publish("x", claims="ab")])
    entry = world.held()["x"]
    (change_set,) = world.plan([Remove("x")]).change_sets
    assert [(c.instruction, c.entry) for c in change_set.changes] == [(Instruction.REMOVE, entry)]
    assert change_set.digest == EMPTY_LABEL
    assert world.owned() == {}
    world.plan([_publish("y", claims="ab")])
    assert world.owned() == {"a": "y", "b": "y"}


def test_what_is_not_there_cannot_be_removed() -> None:
    world = World()
    world.plan([_publish("x")], labels=("A",))
    assert world.refused([Remove("x")], labels=("A", "B")) == "label 'B' does not hold x"
    world.plan([Remove("x")])
    assert world.refused([Remove("x")]) == "label 'A' does not hold x"


def test_a_removed_artifact_can_come_back() -> None:
    world = World()
    world.plan([_publish("x")], [Remove("x")], [_publish("x")])
    assert world.states["A"].head.revision == 3


def test_a_name_has_one_owner() -> None:
    world = World()
    world.plan([_publish("x", claims="a")])
    message = world.refused([_publish("y", claims="ba")])
    assert message == (
        "sequence n-y (t): the name a in label 'A' belongs to sequence n-x (t); "
        "rename it, or remove that artifact first"
    )
    world.plan([_publish("y", claims="ba")], labels=("B",))


def test_two_of_one_set_cannot_claim_one_name() -> None:
    world = World()
    assert "the name a in label 'A' belongs to sequence n-x" in world.refused(
        [_publish("x", claims="a"), _publish("y", claims="a")]
    )


def test_artifacts_of_one_set_can_swap_names() -> None:
    world = World()
    world.plan([_publish("x", claims="a"), _publish("y", claims="b")])
    world.plan([_publish("x", "1", claims="b"), _publish("y", "1", claims="a")])
    assert world.owned() == {"b": "x", "a": "y"}


def test_a_set_can_pass_a_name_on_in_any_order() -> None:
    for removal_first in (True, False):
        world = World()
        world.plan([_publish("x", claims="a")])
        items = [Remove("x"), _publish("y", claims="a")]
        world.plan(items if removal_first else items[::-1])
        assert world.owned() == {"a": "y"}


def test_sets_one_after_the_other_cannot_swap_names() -> None:
    world = World()
    world.plan([_publish("x", claims="a"), _publish("y", claims="b")])
    world.refused([_publish("x", "1", claims="b")], [_publish("y", "1", claims="a")])


def test_a_name_that_is_no_longer_claimed_is_free() -> None:
    world = World()
    world.plan([_publish("x", claims="ab")])
    world.plan([_publish("x", "1", claims="b")], [_publish("y", claims="a")])
    assert world.owned() == {"a": "y", "b": "x"}


def test_what_is_held_keeps_its_names_in_a_set_that_wants_them() -> None:
    world = World()
    world.plan([_publish("x", claims="a")])
    world.refused([_publish("x", claims="a"), _publish("y", claims="a")])


def test_an_id_belongs_to_one_identity_in_all_labels() -> None:
    world = World()
    world.plan([_publish("x")], labels=("A",))
    other = [_publish("x", "1", name="other")]
    asked = "publish sequence other (t) under an id of its own, or leave the id out"
    assert world.refused(other, labels=("A",)) == (
        f"sequence other (t): api_id x belongs to sequence n-x (t); {asked}"
    )
    assert world.refused(other, labels=("B",)) == (  # who asks for B may not be one to read A
        "sequence other (t): api_id x belongs to another artifact, which this label does not "
        f"hold; {asked}"
    )


def test_an_id_cannot_get_two_identities_within_one_request() -> None:
    assert "api_id x belongs to" in World().refused(
        [_publish("x")], [_publish("x", "1", name="other")]
    )


def test_a_set_names_an_id_once() -> None:
    for items in (
        [_publish("x"), _publish("x", "1")],
        [_publish("x"), Remove("x")],
    ):
        assert World().refused(items) == "one change set names the same api_id twice"


def test_all_that_stands_against_a_request_is_told() -> None:
    world = World()
    world.plan([_publish("x", claims="a")])
    message = world.refused([_publish("y", claims="a")], [Remove("z")], labels=("A", "B"))
    assert message.splitlines() == [
        "sequence n-y (t): the name a in label 'A' belongs to sequence n-x (t); "
        "rename it, or remove that artifact first",
        "label 'A' does not hold z",
        "label 'B' does not hold z",
    ]


def test_one_bad_label_stops_the_whole_request() -> None:
    world = World()
    world.plan([_publish("x", claims="a")], labels=("B",))
    world.refused([_publish("y", claims="a")], labels=("A", "B"))
    assert world.held("A") == {}


def test_a_request_without_changes_answers_with_the_heads() -> None:
    world = World()
    world.plan([_publish("x")])
    planned = world.plan(labels=("A", "B"))
    assert [(head.label, head.revision) for head in planned.heads] == [("A", 1), ("B", 0)]
    assert world.plan([], []).change_sets == ()


def test_requests_of_one_batch_build_on_each_other() -> None:
    world = World()
    first = world.plan([_publish("x")])
    second = world.plan([_publish("y")])
    assert second.change_sets[0].previous == first.change_sets[0].revision


def test_a_draft_leaves_the_state_alone_until_it_is_accepted() -> None:
    state = LabelState(Head("A", EPOCH), {}, {"a": "x"}, {"x": frozenset("a")})
    draft = state.draft()
    draft.owners["a"] = None
    draft.claims["x"] = frozenset()
    draft.head = msgspec.structs.replace(draft.head, revision=5)
    assert (state.head.revision, state.owners["a"], state.claims["x"]) == (0, "x", frozenset("a"))
    state.accept(draft)
    assert (state.head.revision, state.owners["a"], state.claims["x"]) == (5, None, frozenset())
