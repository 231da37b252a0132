"""What is pure of the way to Envoy: versions, differences, and the search for the culprit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.engines.envoy.parts import WORDS_MOST, in_parts, said
from gatesync.engines.envoy.references import References, clusters_of
from gatesync.engines.envoy.versions import (
    Change,
    Resource,
    difference,
    named_anew,
    resource_of,
)
from tests.engines.envoy.handmade import cluster, scope

pytestmark = pytest.mark.fast

names = st.sampled_from("abcdefgh")
versions = st.sampled_from("123")


@given(st.dictionaries(names, versions), st.dictionaries(names, versions))
def test_a_difference_turns_what_is_held_into_what_is_wanted(
    wanted: dict[str, str], held: dict[str, str]
) -> None:
    resources = {name: Resource(version, b"") for name, version in wanted.items()}
    change = difference(resources, held, {*wanted, *held})
    after = dict(held)
    if change is not None:
        assert all(held.get(name) != each.version for name, each in change.put.items())
        after |= {name: each.version for name, each in change.put.items()}
        for name in change.removed:
            del after[name]
    assert after == wanted


def test_who_waits_for_a_first_answer_gets_one_though_it_be_empty() -> None:
    assert difference({}, {}, ()) is None
    assert difference({}, {}, (), first=True) == Change({})


def test_the_name_of_a_scopes_routes_is_new_in_each_push_and_not_part_of_its_version() -> None:
    resource = resource_of(scope("menu", [("menu", {"text": "1"})]))
    assert resource == resource_of(scope("menu", [("menu", {"text": "1"})]))
    assert resource.version != resource_of(scope("menu", [("menu", {"text": "2"})])).version
    sent = {named_anew("menu", resource, push) for push in ("r.1", "r.2")}
    assert len(sent) == 2
    assert all(resource.version.encode() in each for each in sent)


def test_only_a_cluster_with_names_to_resolve_is_waited_for() -> None:
    assert resource_of(cluster("a", {"dns": 80})).waits
    assert not resource_of(cluster("a", {"to": 80})).waits


def test_references_are_counted_scope_by_scope() -> None:
    references = References()
    both = scope("menu", [("a", {"to": 1}), ("b", {"to": 2}), ("c", {"text": "direct"})])
    assert clusters_of(both) == {"c-a", "c-b"}
    references.put("menu", clusters_of(both))
    references.put("bread", frozenset({"c-a"}))
    assert references.missing("menu", {"c-a"}) == {"c-b"}
    references.put("menu", frozenset())
    assert references.used(["c-a", "c-b"]) == {"c-a"}
    references.put("bread", frozenset())
    assert references.used(["c-a"]) == set()


@given(st.lists(st.integers().map(str), min_size=2, max_size=60, unique=True), st.data())
def test_parts_are_smaller_than_the_whole_and_keep_its_order(
    suspects: list[str], data: st.DataObject
) -> None:
    named = data.draw(st.sets(st.sampled_from([*suspects, "another"])))
    parts = list(in_parts(suspects, named))
    assert [each for part in parts for each in part] == suspects
    assert all(0 < len(part) < len(suspects) for part in parts)


def test_whom_envoy_names_is_tried_alone() -> None:
    assert list(in_parts("abcdef", {"c"})) == ["ab", "c", "def"]
    assert list(in_parts("abcdef", set())) == ["abc", "def"]


def test_long_words_keep_their_end_where_the_reason_stands() -> None:
    text = said("name: \n" + "x" * 5000 + "\nConnectTimeout: value must be greater than 0s")
    assert "\n" not in text
    assert len(text) < WORDS_MOST + 50
    assert text.startswith("Envoy rejects it: name:")
    assert text.endswith("value must be greater than 0s")
