"""What a signature covers: all that a gateway acts on, and nothing can be moved elsewhere."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import (
    Change,
    ChangeSet,
    Confirmation,
    Entry,
    Head,
    Instruction,
)
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.signatures import (
    Attestation,
    Signature,
    Signer,
    Trust,
    TrustedKey,
    UntrustedError,
    attestation_of,
    leaf_of,
    publish_leaf,
)

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

EPOCH = "9b2d7c2e-7c39-4a39-9f43-0a1f0b8b5a11"
SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
TRUST = Trust([SIGNER.key])


def entry(name: str = "Pizza", **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "api_id": f"id of {name}",
        "tenant": "carbon.super",
        "kind": "api",
        "name": name,
        "version": "1.0",
        "context": "/pizza",
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "size": 17,
        "revision": 7,
    }
    return Entry(**{**known, **fields})


def change_set(*changes: Change, **fields: Any) -> ChangeSet:
    known: dict[str, Any] = {
        "label": "Production",
        "epoch": EPOCH,
        "revision": 7,
        "previous": 6,
        "changes": changes
        or (
            Change(Instruction.PUBLISH, entry()),
            Change(Instruction.REMOVE, entry("Burger", revision=3)),
        ),
        "digest": EMPTY_LABEL.add("id of Pizza", "ab" * 32),
        "published_at": 1,
    }
    return ChangeSet(**{**known, **fields})


SIGNED = SIGNER.change_set(change_set())
replace = msgspec.structs.replace


def test_a_signed_change_set_is_trusted_over_every_wire() -> None:
    TRUST.verify_change_set(SIGNED)
    for encode, decode in (
        (msgspec.json.encode, msgspec.json.decode),
        (msgspec.msgpack.encode, msgspec.msgpack.decode),
    ):
        TRUST.verify_change_set(decode(encode(SIGNED), type=ChangeSet))
        kept = decode(encode(attestation_of(SIGNED)), type=Attestation)
        TRUST.verify_attestation("Production", EPOCH, kept)
        assert publish_leaf(entry(revision=0)) in kept.split()
        assert publish_leaf(entry("Burger")) not in kept.split()


def _with_first(**fields: Any) -> ChangeSet:
    first, *others = SIGNED.changes
    changed = replace(first, entry=replace(first.entry, **fields))
    return replace(SIGNED, changes=(changed, *others))


@pytest.mark.parametrize(
    "altered",
    [
        replace(SIGNED, label="Sandbox"),
        replace(SIGNED, epoch=EPOCH.replace("9", "8")),
        replace(SIGNED, revision=8),
        replace(SIGNED, previous=5),
        replace(SIGNED, digest=EMPTY_LABEL),
        replace(SIGNED, changes=SIGNED.changes[:1]),
        replace(SIGNED, changes=SIGNED.changes[::-1]),
        replace(SIGNED, changes=(*SIGNED.changes, SIGNED.changes[0])),
        replace(SIGNED, changes=(replace(SIGNED.changes[0], instruction=Instruction.REMOVE),)),
        _with_first(api_id="another"),
        _with_first(digest="cd" * 32),
        _with_first(tenant="evil.com"),
        _with_first(kind="sequence"),
        _with_first(name="Pizz"),
        _with_first(version="1.1"),
        _with_first(context="/burger"),
        _with_first(size=18),
    ],
)
def test_nothing_of_it_can_be_altered(altered: ChangeSet) -> None:
    with pytest.raises(UntrustedError, match="it was altered, or belongs elsewhere"):
        TRUST.verify_change_set(altered)


def test_what_is_not_signed_and_by_whom() -> None:
    with pytest.raises(UntrustedError, match="revision 7 of label 'Production' is not signed"):
        TRUST.verify_change_set(change_set())
    with pytest.raises(UntrustedError, match=f"by key {OTHER.key_id}, which is not trusted here"):
        TRUST.verify_change_set(OTHER.change_set(change_set()))
    assert SIGNED.signature is not None
    as_if = replace(
        SIGNED, signature=Signature(SIGNER.key_id, OTHER.change_set(change_set()).signature.value)  # type: ignore[union-attr]
    )  # fmt: skip
    with pytest.raises(UntrustedError, match="was altered"):
        TRUST.verify_change_set(as_if)


def test_a_key_may_be_trusted_for_some_labels_only() -> None:
    trust = Trust([replace(SIGNER.key, labels=("Sandbox",)), replace(SIGNER.key, labels=("Test",))])
    for label in ("Sandbox", "Test"):
        trust.verify_change_set(SIGNER.change_set(change_set(label=label)))
    with pytest.raises(UntrustedError, match="not trusted for this label"):
        trust.verify_change_set(SIGNED)
    Trust([replace(SIGNER.key, labels=("Sandbox",)), SIGNER.key]).verify_change_set(SIGNED)
    with pytest.raises(ValueError, match="has to trust a key"):
        Trust([])


def _head(**fields: Any) -> Head:
    known: dict[str, Any] = {"label": "Production", "epoch": EPOCH, "revision": 7}
    return Head(**{**known, "digest": SIGNED.digest, **fields})


HEAD = SIGNER.head(_head(), 1_700_000_000_000)


@pytest.mark.parametrize(
    "altered",
    [
        replace(HEAD, label="Sandbox"),
        replace(HEAD, epoch=EPOCH.replace("9", "8")),
        replace(HEAD, revision=6),
        replace(HEAD, digest=EMPTY_LABEL),
        replace(HEAD, confirmation=Confirmation("id", EPOCH, 7)),
        replace(HEAD, issue=replace(HEAD.issue, issued_at=1_700_000_000_001)),  # type: ignore[type-var]
    ],
)
def test_a_head_says_when_it_was_issued_and_cannot_be_altered(altered: Head) -> None:
    assert TRUST.verify_head(HEAD) == 1_700_000_000_000
    with pytest.raises(UntrustedError, match="it was altered, or belongs elsewhere"):
        TRUST.verify_head(altered)
    with pytest.raises(UntrustedError, match="is not signed"):
        TRUST.verify_head(_head())


@pytest.mark.parametrize(
    "altered",
    [{"id": "another"}, {"epoch": EPOCH.replace("9", "8")}, {"revision": 8}],
)
def test_a_confirmation_is_an_operators_word_about_one_history(altered: dict[str, Any]) -> None:
    confirmation = SIGNER.confirmation("Production", Confirmation("id", EPOCH, 7))
    TRUST.verify_confirmation("Production", confirmation)
    TRUST.verify_head(SIGNER.head(_head(confirmation=confirmation), 1))
    for label, each in (
        ("Sandbox", confirmation),
        ("Production", replace(confirmation, **altered)),
        ("Production", Confirmation("id", EPOCH, 7)),
    ):
        with pytest.raises(UntrustedError):
            TRUST.verify_confirmation(label, each)
    with pytest.raises(UntrustedError, match="the confirmation of label 'Production' is not"):
        TRUST.verify_head(SIGNER.head(_head(confirmation=Confirmation("id", EPOCH, 7)), 1))


@pytest.mark.parametrize(
    "read", [lambda each: each.text, lambda each: TrustedKey.parse(each.text).text]
)
def test_a_public_key_is_a_line_of_text(read: Callable[[TrustedKey], str]) -> None:
    assert read(SIGNER.key) == "gspk_A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert TrustedKey.parse(SIGNER.key.text, ["A"]) == replace(SIGNER.key, labels=("A",))


@pytest.mark.parametrize("text", ["", "gspk_", "gspk_AAAA", "x" * 48, f"{SIGNER.key.text}A"])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        TrustedKey.parse(text)


_names = st.text(max_size=3)


@given(st.lists(_names, min_size=5, max_size=5), st.lists(_names, min_size=5, max_size=5))
def test_two_entries_share_a_leaf_only_if_they_are_the_same(one: list[str], two: list[str]) -> None:
    """Fields are framed: what moves from the end of one to the beginning of the next shows."""
    entries = [
        entry(**dict(zip(("tenant", "kind", "name", "version", "context"), each, strict=True)))
        for each in (one, two)
    ]
    leaves = [leaf_of(Change(Instruction.PUBLISH, each)) for each in entries]
    assert (leaves[0] == leaves[1]) == (one == two)
