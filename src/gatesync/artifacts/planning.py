"""What a request does to the labels it names: a pure decision, taken inside a transaction.

The store loads the rows that a request may touch into `LabelState`s, `plan` turns the request
into change sets or refuses it, and the store writes what was planned.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Entry, Head, Instruction
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import Identity

__all__ = [
    "Claim",
    "Item",
    "LabelState",
    "PlannedRequest",
    "Publish",
    "Reference",
    "Remove",
    "Renew",
    "RenewHead",
    "SaveRequest",
    "Unmet",
    "claim_key",
    "item_id",
    "plan",
    "touched",
]


_V = TypeVar("_V")


def claim_key(tenant: str, scope: str, *name: str) -> str:
    """The hex SHA-256 of a name within its tenant and scope (a role, `identity`, `context`)."""
    hasher = hashlib.sha256()
    for field in (tenant, scope, *name):
        data = field.encode()
        hasher.update(len(data).to_bytes(4, "big") + data)
    return hasher.hexdigest()


class Claim(msgspec.Struct, frozen=True):
    """A name that one artifact owns within (label, tenant).

    `key` is its `claim_key`, `text` says it for people.
    """

    key: str
    text: str


class Reference(msgspec.Struct, frozen=True):
    """A name that an artifact needs: some artifact of (label, tenant) is to claim it.

    `key` is the `claim_key` of that claim, `text` says it for people (`sequence 'audit'`);
    `where` is the path of the part that refers to it, `line` the element's, from 1.
    """

    key: str
    text: str
    where: str
    line: int


class Publish(msgspec.Struct, frozen=True):
    """Put this artifact into the label, whatever it held under that api_id before.

    `entry.revision` is not used; `content` is the canonical form.
    """

    entry: Entry
    content: bytes
    claims: tuple[Claim, ...]
    references: tuple[Reference, ...] = ()


class Remove(msgspec.Struct, frozen=True):
    """Take this artifact out of the label."""

    api_id: str


class Renew(msgspec.Struct, frozen=True):
    """Say once more that the label holds this entry, under a new revision, for a new signature.

    Where the label holds anything else by then, be it the same bytes of another revision, it
    writes nothing: whoever asks has looked at this one.
    """

    entry: Entry


class RenewHead(msgspec.Struct, frozen=True):
    """Say once more that the label holds what it does at this revision, and nothing else.

    That makes a change set without changes, for a new signature, unless the label has moved on.
    """

    revision: int


Item: TypeAlias = Publish | Remove | Renew | RenewHead


class SaveRequest(msgspec.Struct, frozen=True):
    """One request: each inner tuple becomes one change set in each of the labels.

    All of it is planned, or nothing. `key` is the idempotency key and `fingerprint` a hash of
    what was asked, so that a key used again for something else is refused.
    `published_at` is in milliseconds since 1970. `author` is who asked, by their token; `origin`
    says from where. With `force` a reference that leads nowhere is a warning. Where there are
    `tenants`, whoever asks may touch artifacts of these only.
    """

    labels: tuple[str, ...]
    sets: tuple[tuple[Item, ...], ...]
    key: str
    fingerprint: str
    published_at: int
    publisher: str = ""
    author: str = ""
    origin: str = ""
    force: bool = False
    tenants: tuple[str, ...] = ()


class Unmet(msgspec.Struct, frozen=True):
    """A reference that leads nowhere: the claim that nobody makes, and what is wrong, whole."""

    claim: str
    text: str


class PlannedRequest(msgspec.Struct, frozen=True):
    """What a request comes to.

    The change sets stand in the order in which they are to be written; `heads` are those of
    the request's labels after it, whether it moved them or not. `warnings` are the references
    that lead nowhere after it, where that was forced.
    """

    change_sets: tuple[ChangeSet, ...]
    heads: tuple[Head, ...]
    warnings: tuple[Unmet, ...] = ()


class _Overlay(dict[str, _V]):
    """Changes to a mapping that is left alone: only they are in it, the rest shows through.

    `ChainMap` does as much, four times slower: a plan looks up some thirty keys.
    """

    __slots__ = ("_below",)

    def __init__(self, below: Mapping[str, _V]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, key: str) -> _V:
        return self._below[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Look up the key here, then below."""
        return self[key] if key in self else self._below.get(key, default)


class LabelState:
    """What the plan needs to know of one label, and the plan's own changes to it.

    Args:
        head: the label's head, read under its lock.
        entries: what the label holds under each api_id that any request of the batch names.
        owners: the api_id that owns each claim which any request of the batch makes or frees.
        claims: the claim keys that each of those api_ids holds.
        references: the claim keys that each of those api_ids, and of the referrers, needs.
        referrers: the api_ids that need each claim which any of those api_ids holds.
    """

    def __init__(
        self,
        head: Head,
        entries: Mapping[str, Entry] | None = None,
        owners: Mapping[str, str] | None = None,
        claims: Mapping[str, frozenset[str]] | None = None,
        references: Mapping[str, frozenset[str]] | None = None,
        referrers: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.head = head
        self.entries: dict[str, Entry | None] = dict(entries or {})
        self.owners: dict[str, str | None] = dict(owners or {})
        self.claims: dict[str, frozenset[str]] = dict(claims or {})
        self.references: dict[str, frozenset[str]] = dict(references or {})
        self.referrers = {key: set(ids) for key, ids in (referrers or {}).items()}

    def draft(self) -> "LabelState":
        """A copy that costs nothing and leaves this one alone until `accept`."""
        copy = LabelState.__new__(LabelState)
        copy.head = self.head
        copy.entries = _Overlay(self.entries)
        copy.owners = _Overlay(self.owners)
        copy.claims = _Overlay(self.claims)
        copy.references = _Overlay(self.references)
        copy.referrers = self.referrers
        return copy

    def accept(self, draft: "LabelState") -> None:
        """Make the draft's changes this state's own."""
        self.head = draft.head
        for api_id, keys in draft.references.items():
            for key in self.references.get(api_id, frozenset()) - keys:
                self.referrers[key].discard(api_id)
            for key in keys:
                self.referrers.setdefault(key, set()).add(api_id)
        self.entries.update(draft.entries)
        self.owners.update(draft.owners)
        self.claims.update(draft.claims)
        self.references.update(draft.references)


def plan(
    request: SaveRequest,
    states: Mapping[str, LabelState],
    identities: MutableMapping[str, Identity],
    first_revision: int | None = None,
) -> PlannedRequest:
    """Decide what `request` writes, and move `states` there.

    A publish of what the label already holds writes nothing; a set without a change makes no
    change set. `identities` knows who each api_id of the batch is, from whichever label. Where
    labels count together, `first_revision` is the number of the first set that changes any.

    Raises:
        ProblemsError: with everything that stands against it; nothing has moved then.
    """
    drafts = {label: states[label].draft() for label in request.labels}
    known: _Overlay[Identity] = _Overlay(identities)
    problems: list[Problem] = []
    change_sets: list[ChangeSet] = []
    revision = first_revision
    for items in request.sets:
        before = len(change_sets)
        for label, draft in drafts.items():
            change_set = _plan_set(label, draft, items, request, known, problems, revision)
            if change_set is not None:
                change_sets.append(change_set)
        if revision is not None and len(change_sets) > before:
            revision += 1
    unmet = [
        each
        for label, draft in drafts.items()
        for each in _unmet(label, states[label], draft, request, known)
    ]
    if not request.force:
        problems += [problem for _, problem in unmet]
    if problems:
        raise ProblemsError(problems)
    for label, draft in drafts.items():
        states[label].accept(draft)
    identities.update(known)
    return PlannedRequest(
        tuple(change_sets),
        tuple(draft.head for draft in drafts.values()),
        tuple(Unmet(claim, str(problem)) for claim, problem in unmet),
    )


def _plan_set(
    label: str,
    state: LabelState,
    items: Sequence[Item],
    request: SaveRequest,
    identities: MutableMapping[str, Identity],
    problems: list[Problem],
    number: int | None,
) -> ChangeSet | None:
    previous = state.head.revision
    revision = previous + 1 if number is None else number
    digest = state.head.digest
    changes: list[Change] = []
    named = [item_id(item) for item in items]
    if len(set(named)) != len(named):
        problems.append(Problem("one change set names the same api_id twice"))
        return None
    pending = [item for item in items if _is_news(state, item)]
    for item in pending:  # frees every name first, so that artifacts of one set can swap them
        if isinstance(item, Publish | Remove):
            _release(state, item_id(item))
    for item in pending:
        if isinstance(item, RenewHead):
            continue
        before = state.entries.get(item_id(item))
        if isinstance(item, Remove):
            if before is None:
                problems.append(Problem(f"label {label!r} does not hold {item.api_id}"))
                continue
            problems.extend(_of_others(before, request))
            state.entries[before.api_id] = None
            state.references[before.api_id] = frozenset()
            changes.append(Change(Instruction.REMOVE, before))
            digest = digest.remove(before.api_id, before.digest)
            continue
        problems.extend(_of_others(item.entry, request))
        entry = msgspec.structs.replace(item.entry, revision=revision)
        if isinstance(item, Publish):
            problems.extend(_conflicts(label, state, item, identities))
            _claim(state, entry.api_id, item.claims)
            state.references[entry.api_id] = frozenset(each.key for each in item.references)
            identities[entry.api_id] = entry.identity
        state.entries[entry.api_id] = entry
        changes.append(Change(Instruction.PUBLISH, entry))
        digest = digest.replace(entry.api_id, before.digest if before else None, entry.digest)
    if not changes and not any(isinstance(item, RenewHead) for item in pending):
        return None
    state.head = Head(label, state.head.epoch, revision, digest, state.head.confirmation)
    return ChangeSet(
        label=label,
        epoch=state.head.epoch,
        revision=revision,
        previous=previous,
        changes=tuple(changes),
        digest=digest,
        published_at=request.published_at,
        publisher=request.publisher,
    )


def item_id(item: Item) -> str:
    """The api_id of what an item is about; empty where it is about the label."""
    match item:
        case Remove():
            return item.api_id
        case RenewHead():
            return ""
        case _:
            return item.entry.api_id


def touched(requests: Iterable[SaveRequest]) -> dict[str, tuple[set[str], set[str]]]:
    """By label: the api_ids that the requests name, and the claim keys they make or need."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for request in requests:
        items = [item for items in request.sets for item in items]
        ids = {item_id(item) for item in items} - {""}
        published = [item for item in items if isinstance(item, Publish)]
        keys = {claim.key for item in published for claim in item.claims}
        keys |= {reference.key for item in published for reference in item.references}
        for label in request.labels:
            named, wanted = found.setdefault(label, (set(), set()))
            named |= ids
            wanted |= keys
    return found


def _is_news(state: LabelState, item: Item) -> bool:
    """Whether there is something to write: not for a publish of what the label holds already."""
    if isinstance(item, Remove):
        return True
    if isinstance(item, RenewHead):
        return state.head.revision == item.revision
    before = state.entries.get(item.entry.api_id)
    if isinstance(item, Renew):
        return before == item.entry
    return before is None or before.digest != item.entry.digest


def _of_others(entry: Entry, request: SaveRequest) -> Iterable[Problem]:
    if request.tenants and entry.tenant not in request.tenants:
        reason = f"whoever asks for this may not publish for tenant {entry.tenant!r}"
        yield Problem(reason, where=str(entry.identity))


def _conflicts(
    label: str, state: LabelState, item: Publish, identities: Mapping[str, Identity]
) -> Iterable[Problem]:
    entry = item.entry
    known = identities.get(entry.api_id)
    if known is not None and known != entry.identity:
        # Whose it is, is told where this label holds it: not everybody may read the others.
        here = state.entries.get(entry.api_id) is not None
        holder = str(known) if here else "another artifact, which this label does not hold"
        yield Problem(
            f"api_id {entry.api_id} belongs to {holder}; publish {entry.identity} "
            "under an id of its own, or leave the id out",
            where=str(entry.identity),
        )
    for claim in item.claims:
        owner = state.owners.get(claim.key)
        if owner is not None and owner != entry.api_id:
            whose = identities.get(owner)
            yield Problem(
                f"{claim.text} in label {label!r} belongs to {whose or owner}; "
                "rename it, or remove that artifact first",
                where=str(entry.identity),
            )


def _release(state: LabelState, api_id: str) -> None:
    for key in state.claims.get(api_id, frozenset()):
        if state.owners.get(key) == api_id:
            state.owners[key] = None
    state.claims[api_id] = frozenset()


def _claim(state: LabelState, api_id: str, claims: Iterable[Claim]) -> None:
    keys = frozenset(claim.key for claim in claims)
    state.claims[api_id] = keys
    for key in keys:
        state.owners[key] = api_id


def _unmet(
    label: str,
    before: LabelState,
    after: LabelState,
    request: SaveRequest,
    identities: Mapping[str, Identity],
) -> Iterator[tuple[str, Problem]]:
    """References that no artifact of the label meets once the whole request is carried out.

    Answers with the claim that nobody makes, too. Artifacts of one request may need each other,
    in whichever of its change sets they stand.
    """
    changed = after.references
    published = {
        item.entry.api_id: item
        for items in request.sets
        for item in items
        if isinstance(item, Publish) and item.entry.api_id in changed
    }
    for item in published.values():
        if after.entries[item.entry.api_id] is None:
            continue  # a later set of the request removes it
        for each in item.references:
            if after.owners.get(each.key) is None:
                reason = (
                    f"refers to {each.text}, which neither label {label!r} holds "
                    "nor this request publishes"
                )
                where = f"{item.entry.identity}/{each.where}"
                yield each.key, Problem(reason, where=where, line=each.line)
    for api_id in changed:
        for key in sorted(before.claims.get(api_id, frozenset())):
            if after.owners.get(key) is not None:
                continue
            for referrer in sorted(before.referrers.get(key, set()) - changed.keys()):
                what = identities.get(referrer, referrer)
                reason = (
                    f"{what} in label {label!r} refers to what would go away with this; "
                    "change or remove that first, or force it"
                )
                yield key, Problem(reason, where=str(identities.get(api_id, api_id)))
