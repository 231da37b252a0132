"""Signing anew what stands: after the first key was made, and before a key is retired.

A publisher signs what others wrote only here, and only what it can prove: an entry whose
attestation verifies with a key of its own that is not retired. What it cannot prove it signs on an
operator's word alone (`unsigned`), who says by it that what the store holds is right.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gatesync.artifacts.changes import Entry, Head
from gatesync.artifacts.planning import Renew, RenewHead
from gatesync.artifacts.signatures import Attestation, Trust, UntrustedError, publish_leaf
from gatesync.stores.store import Retriever, read_manifest

__all__ = ["LabelKeys", "Renewal", "Stand", "counted", "label_keys", "read_stand", "renewal"]

RENEWED_AT_ONCE: Final = 500


class Stand(msgspec.Struct, frozen=True):
    """What a label holds, and what is kept of who signed that; nothing of it is verified yet."""

    head: Head
    entries: Mapping[str, Entry]
    attestations: Mapping[int, Attestation]


class LabelKeys(msgspec.Struct, frozen=True):
    """By how many keys a label's entries say that they are signed, the head counted as one more.

    Of `keys` nobody has verified anything. `head` is the key of the last change set.
    """

    label: str
    revision: int
    entries: int
    keys: dict[str, int]
    unsigned: int
    head: str = ""


class Renewal(msgspec.Struct, frozen=True):
    """What is to be signed anew next: a part, and how much is `left` after it.

    `good` are the entries that the current key has signed. `refused` counts what cannot be proved,
    by why: `unsigned`, `key` (of none of this publisher's keys, or of a retired one), `altered`.
    """

    items: tuple[Renew | RenewHead, ...]
    left: int
    good: int
    refused: dict[str, int]


async def read_stand(retriever: Retriever, label: str) -> Stand:
    """Read a label and its attestations. Raises `StoreError`."""
    head, entries = await read_manifest(retriever, label)
    found: dict[int, Attestation] = {}
    after = 0
    while page := await retriever.attestations(label, after):
        found.update((each.revision, each) for each in page)
        after = page[-1].revision
    return Stand(head, entries, found)


def label_keys(stand: Stand) -> LabelKeys:
    """Count who is said to have signed what stands."""
    revisions = [entry.revision for entry in stand.entries.values()]
    said = [stand.attestations.get(each) for each in revisions]
    keys = Counter(each.signature.key_id for each in said if each is not None)
    last = stand.attestations.get(stand.head.revision)
    if last is not None and stand.head.revision not in revisions:
        keys[last.signature.key_id] += 1
    return LabelKeys(
        label=stand.head.label,
        revision=stand.head.revision,
        entries=len(revisions),
        keys=dict(sorted(keys.items())),
        unsigned=sum(each is None for each in said),
        head=last.signature.key_id if last is not None else "",
    )


def renewal(stand: Stand, current: str, own: Trust, *, unsigned: bool = False) -> Renewal:
    """Choose what to sign next with the key `current`.

    Args:
        stand: the label.
        current: the id of the key that signs now.
        own: this publisher's keys that are not retired.
        unsigned: sign what cannot be proved, too.
    """
    waiting: list[Entry] = []
    refused: Counter[str] = Counter()
    good = 0
    proofs = _Proofs(stand, own)
    for _, entry in sorted(stand.entries.items()):
        key_id, why = proofs.of(entry)
        if why:
            refused[why] += 1
        if key_id == current and not why:
            good += 1
        elif unsigned or not why:
            waiting.append(entry)
    if unsigned:
        refused.clear()
    items: tuple[Renew | RenewHead, ...] = tuple(map(Renew, waiting[:RENEWED_AT_ONCE]))
    if not items and stand.head.revision:
        key_id, why = proofs.of_head()
        if why and not unsigned:
            refused = refused or Counter([why])  # of an empty label there is nothing else to tell
        elif why or key_id != current:
            items = (RenewHead(stand.head.revision),)
    return Renewal(items, max(0, len(waiting) - len(items)), good, dict(sorted(refused.items())))


class _Proofs:
    """Verifies attestations as they are needed, each once: it takes 0.1 ms."""

    def __init__(self, stand: Stand, own: Trust) -> None:
        self._stand = stand
        self._own = own
        self._verified: dict[int, tuple[str, str, frozenset[bytes]]] = {}

    def of(self, entry: Entry) -> tuple[str, str]:
        """By which key the entry is signed, and why that is no proof; empty where it is."""
        key_id, why, leaves = self._attested(entry.revision)
        if not why and publish_leaf(entry) not in leaves:
            return key_id, "altered"
        return key_id, why

    def of_head(self) -> tuple[str, str]:
        """The same of the head: that the label holds this and nothing more."""
        head = self._stand.head
        key_id, why, _ = self._attested(head.revision)
        if not why and self._stand.attestations[head.revision].digest != head.digest:
            return key_id, "altered"
        return key_id, why

    def _attested(self, revision: int) -> tuple[str, str, frozenset[bytes]]:
        if revision not in self._verified:
            self._verified[revision] = self._verify(self._stand.attestations.get(revision))
        return self._verified[revision]

    def _verify(self, kept: Attestation | None) -> tuple[str, str, frozenset[bytes]]:
        if kept is None:
            return "", "unsigned", frozenset()
        head, key_id = self._stand.head, kept.signature.key_id
        try:
            self._own.verify_attestation(head.label, head.epoch, kept)
        except UntrustedError as error:
            return key_id, error.why, frozenset()
        return key_id, "", kept.split()


def counted(labels: Iterable[LabelKeys], key_id: str) -> dict[str, int]:
    """How much of each label a key has signed that still stands."""
    return {each.label: each.keys[key_id] for each in labels if key_id in each.keys}
