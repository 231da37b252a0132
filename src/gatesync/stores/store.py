"""The artifact store: extension point 1.

A **retriever** answers three questions about a label's log and hands out contents by digest. A
**saver** appends to the logs. The promises that every adapter keeps:

- A request that was saved is durable when `save` returns (promise 3).
- Nobody reads revision N of a label before all up to N can be read (promise 2).
- An answer is of one moment: a manifest's pages and a delta come out at the head they name.
- A question with `at_least` is never answered with an older state: `Behind` is raised instead.

An adapter is a callable named in the entry-point group `gatesync.stores`; it must pass
`tests/contracts/store.py`.
"""

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Final, Protocol, TypeAlias, runtime_checkable

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Cursor, Entry, Head
from gatesync.artifacts.digests import LabelDigest, label_digest_of
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, SaveRequest, Unmet, plan
from gatesync.artifacts.signatures import Attestation

__all__ = [
    "ATTESTATIONS_BYTES",
    "PAGE_ATTESTATIONS",
    "PAGE_ENTRIES",
    "Behind",
    "Delta",
    "Forbidden",
    "History",
    "KeepsIssues",
    "LoggedChange",
    "ManifestPage",
    "Refused",
    "Retriever",
    "SaveOutcome",
    "Saver",
    "Sign",
    "SignConfirmation",
    "StoreError",
    "TooOld",
    "count_in_page",
    "digests_at_once",
    "has_weak_history",
    "key_used",
    "outcome_of",
    "read_manifest",
]

PAGE_ENTRIES = 1_000  # a page of entries is some 300 kB of JSON
PAGE_ATTESTATIONS: Final = 5_000  # those of single changes are some 2 MB of JSON
ATTESTATIONS_BYTES: Final = 4 * 1024 * 1024  # of leaves in one page, where it is more than one

Sign: TypeAlias = Callable[[ChangeSet], ChangeSet]
"""Gives a change set its signature: `Signer.change_set`."""

SignConfirmation: TypeAlias = Callable[[str, Confirmation], Confirmation]
"""Gives a label's confirmation its signature: `Signer.confirmation`."""


class StoreError(Exception):
    """The store cannot be reached or failed; says which store, and why.

    Attributes:
        unsure: what was to be saved may be saved all the same; repeating it with its key tells.
    """

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        self.unsure = unsure
        super().__init__(message)


class Behind(StoreError):
    """The store has not got what was asked for yet: a replica that lags, or another history."""

    def __init__(self, head: Head, wanted: Cursor) -> None:
        self.head = head
        self.wanted = wanted
        super().__init__(
            f"label {head.label!r} stands at revision {head.revision} of epoch {head.epoch}, "
            f"revision {wanted.revision} of epoch {wanted.epoch} was asked for"
        )


class TooOld(StoreError):
    """The log no longer reaches back to the cursor, or is not the one it belongs to: list again."""


class Forbidden(StoreError):
    """The store answers, but not to whoever asks, or not about this label."""


class Delta(msgspec.Struct, frozen=True):
    """The net difference between `since` and `head`: at most one change an artifact."""

    since: int
    head: Head
    changes: tuple[Change, ...]


class ManifestPage(msgspec.Struct, frozen=True):
    """Entries in the order of their api_ids; `after` is where the next page begins, if any."""

    head: Head
    entries: tuple[Entry, ...]
    after: str | None = None


class SaveOutcome(msgspec.Struct, frozen=True):
    """What a request came to; `repeated` when its key had been saved before.

    `warnings` say which references lead nowhere now, where that was forced.
    """

    change_sets: tuple[ChangeSet, ...]
    heads: tuple[Head, ...]
    repeated: bool = False
    warnings: tuple[Unmet, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """A request that nothing was saved of, with everything that stands against it."""

    reasons: tuple[str, ...]
    key_used: bool = False


class LoggedChange(msgspec.Struct, frozen=True):
    """One change of one artifact, as a label's log remembers it: who, when, from where.

    `change.entry.revision` is the change's own revision, of a removal too; a removal's digest is
    that of what it removed. `author`, `origin` and `published_at` (milliseconds since 1970; 0)
    are empty where the log no longer reaches back to the whole change set.
    """

    label: str
    change: Change
    published_at: int = 0
    publisher: str = ""
    author: str = ""
    origin: str = ""


class History(msgspec.Struct, frozen=True):
    """What the logs remember of the artifacts of one name, the newest of a label first.

    Of what happened up to a label's revision in `floors`, only the last state is remembered.
    """

    changes: tuple[LoggedChange, ...]
    floors: dict[str, int]


class Retriever(Protocol):
    """How labels are read. Each method raises `StoreError` when the store cannot answer."""

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """Answer with the head of each of these labels; one never used is at revision 0.

        Raises `Behind` for a label that is below its `at_least`, or of another epoch.
        """
        ...

    async def changes(self, label: str, since: Cursor) -> Delta:
        """Answer with what happened after `since`.

        Raises `Behind` when `since` is ahead of the head, and `TooOld` when it is below the
        compaction floor or of another epoch.
        """
        ...

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """Answer with a page of what the label holds at `at`, or now.

        The first page names a head; the following ones are asked for with `at=head.cursor` and
        `after`. Raises `TooOld` when the log was compacted past `at`.
        """
        ...

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """Answer with the label digest that this history had at `cursor`; None if it had none.

        This is how a list proves that it continues the history that a gateway knows. It
        reaches further back than `changes`.
        """
        ...

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """Fetch canonical forms by digest. One that the store does not have is left out.

        So is, by a retriever that a gateway reads from, one whose bytes do not have its digest
        (promise 8): whoever deploys them does not hash them again.
        """
        ...

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """Answer with the label's kept attestations after that revision, in their order.

        Up to `limit`, or fewer where their leaves are more than `ATTESTATIONS_BYTES`; none is
        the end. One is kept of each change set that was signed, for as long as the label holds
        an entry which that brought, at its floor or after it; that of the head always. Nobody
        has verified them: whoever holds the keys does (promise 8).
        """
        ...


class Saver(Retriever, Protocol):
    """How labels are written."""

    @property
    def epoch(self) -> str:
        """The UUID of this history, made when the store was."""
        ...

    async def labels(self) -> list[Head]:
        """Answer with the head of every label that was ever used."""
        ...

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """Append the requests, in one transaction where they can share one.

        With `sign` each change set is signed before it is written, in whichever thread writes,
        and its attestation is kept.

        Each request stands or falls by itself, whole. The answers stand in the order of the
        requests. An outcome that is not known (the connection broke at the commit) raises
        `StoreError`; repeating the request with its key is safe then.
        """
        ...

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """Answer what `save` would answer now, and save nothing. Contents are not looked at."""
        ...

    async def history(self, name: str) -> History:
        """Answer with every remembered change, in any label, of the artifacts called `name`.

        `name` is a name or an api_id. Whoever has the same identity belongs to it, under
        whichever api_id: an artifact may come back under another.
        """
        ...

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Answer with the sizes of these contents in bytes, where they are there."""
        ...

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """Answer with up to `limit` kept change sets of the label after revision `since`."""
        ...

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """Record an operator's word that the label's head, as it is now, is the right history."""
        ...

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """Forget what the kept revisions do not need; answer with the new floor.

        Kept are the newest `keep`, and from the first on that was published at `young`
        (milliseconds since 1970) or later. A floor never moves back.
        """
        ...


@runtime_checkable
class KeepsIssues(Protocol):
    """A store that gateways may read with no publisher in between, who would sign its heads."""

    async def keep_issues(self, publisher: str, heads: Sequence[Head], issued_at: int) -> None:
        """Keep a publisher's signed heads for those gateways, in place of those before.

        `issued_at`: now, in milliseconds since 1970. Raises `StoreError`.
        """
        ...


def outcome_of(
    request: SaveRequest,
    states: Mapping[str, LabelState],
    identities: MutableMapping[str, Identity],
    sign: Sign | None = None,
    first_revision: int | None = None,
) -> SaveOutcome | Refused:
    """Plan a request, as `planning.plan` does, and give what a saver answers, signed."""
    try:
        planned = plan(request, states, identities, first_revision)
    except ProblemsError as error:
        return Refused(tuple(str(problem) for problem in error.problems))
    change_sets = planned.change_sets if sign is None else tuple(map(sign, planned.change_sets))
    return SaveOutcome(change_sets, planned.heads, warnings=planned.warnings)


def key_used(key: str) -> Refused:
    """What a saver answers to a request whose key was used for another one."""
    reason = f"idempotency key {key!r} was used before, for a request that asked for something else"
    return Refused((reason,), key_used=True)


def count_in_page(sizes: Sequence[int]) -> int:
    """How many of these attestations, by the bytes of their leaves, make one page: one at least."""
    total = 0
    for number, size in enumerate(sizes):
        total += size
        if number and total > ATTESTATIONS_BYTES:
            return number
    return len(sizes)


def has_weak_history(retriever: Retriever) -> bool:
    """Whether those who write where this reads could write another history that looks the same.

    An adapter says so by an attribute `weak_history = True`: Git and shared folders do. Lists
    from there that would remove most of a label wait for an operator (promise 6).
    """
    return bool(getattr(retriever, "weak_history", False))


def digests_at_once(retriever: Retriever) -> int | None:
    """How many contents one question may ask for, whichever they are.

    None where nodes that ask for the same should ask for it together, as over HTTP: a cache may
    answer them. Another adapter says how many by an attribute `digests_at_once`.
    """
    number: int | None = getattr(retriever, "digests_at_once", None)
    return number


async def read_manifest(
    retriever: Retriever, label: str, at_least: Cursor | None = None, *, at: Cursor | None = None
) -> tuple[Head, dict[str, Entry]]:
    """Read every page of a label's manifest, now or `at` a kept revision; prove it whole.

    Raises:
        StoreError: also when count or label digest do not come out as the head says, so that a
            list that was cut short is never taken for one with fewer artifacts (promise 6).
    """
    page = await retriever.manifest(label, at=at, at_least=at_least)
    head = page.head
    entries = {entry.api_id: entry for entry in page.entries}
    news = len(entries)
    while page.after is not None and news and len(entries) <= head.digest.count:
        known = len(entries)
        page = await retriever.manifest(label, at=head.cursor, after=page.after)
        entries.update((entry.api_id, entry) for entry in page.entries)
        news = len(entries) - known  # pages without any would never end
    digest = label_digest_of([(entry.api_id, entry.digest) for entry in entries.values()])
    if page.head.cursor != head.cursor or digest != head.digest:
        raise StoreError(
            f"the list of label {label!r} does not add up to its head at revision "
            f"{head.revision}: {len(entries)} entries came, {head.digest.count} were announced"
        )
    return head, entries
