import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.digests import (
    EMPTY_LABEL,
    LabelDigest,
    digest_of,
    label_digest_of,
    set_digest,
)

pytestmark = pytest.mark.fast

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
api_ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
members = st.dictionaries(api_ids, digests, max_size=8)


def _sum(held: dict[str, str]) -> LabelDigest:
    digest = EMPTY_LABEL
    for api_id, content in held.items():
        digest = digest.add(api_id, content)
    return digest


def test_an_artifacts_digest_is_the_sha256_of_its_bytes() -> None:
    assert digest_of(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert digest_of(b"abd") != digest_of(b"abc")


def test_the_digest_of_nothing_is_zero() -> None:
    assert LabelDigest("0" * 64, 0) == EMPTY_LABEL == LabelDigest()


def test_a_label_digest_is_a_sum_of_hashes() -> None:
    digest = "ab" * 32
    weight = hashlib.sha256(b"\0\0\0\2id" + bytes.fromhex(digest)).hexdigest()
    assert EMPTY_LABEL.add("id", digest) == LabelDigest(weight, 1)


@given(members, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(held: dict[str, str], random: object) -> None:
    shuffled = list(held.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _sum(dict(shuffled)) == _sum(held) == label_digest_of(shuffled)
    assert set_digest(dict(shuffled)) == set_digest(held)


@given(st.lists(st.tuples(api_ids, st.none() | digests), max_size=20))
def test_updating_comes_to_the_same_as_counting_anew(moves: list[tuple[str, str | None]]) -> None:
    held: dict[str, str] = {}
    digest = EMPTY_LABEL
    for api_id, new in moves:
        digest = digest.replace(api_id, held.get(api_id), new)
        if new is None:
            held.pop(api_id, None)
        else:
            held[api_id] = new
        assert digest == _sum(held)
        assert digest.count == len(held)
        assert len(digest.total) == 64


@given(members, members)
def test_other_sets_have_other_digests(one: dict[str, str], other: dict[str, str]) -> None:
    assert (_sum(one) == _sum(other)) == (one == other)
    assert (set_digest(one) == set_digest(other)) == (one == other)


def test_a_member_added_twice_is_not_a_member_removed() -> None:
    twice = EMPTY_LABEL.add("a", "11" * 32).add("a", "11" * 32)
    assert twice.total != EMPTY_LABEL.total


def test_swapping_contents_between_members_is_seen() -> None:
    one, other = "11" * 32, "22" * 32
    assert _sum({"a": one, "b": other}) != _sum({"a": other, "b": one})
