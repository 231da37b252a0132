"""Labels' logs in memory: what a store whose truth is a sequence of records answers from.

    plan(requests)     what they come to; nothing moves
    append(record)     a record that is durable by now, a writer's own or another's

Whoever keeps the records (a list, a share's files, Git's commits) appends each of them in order,
and asks for everything but contents here. Pure; one caller at a time.
"""

from bisect import bisect_left, bisect_right, insort
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from gatesync.artifacts.changes import (
    Change,
    ChangeSet,
    Confirmation,
    Cursor,
    Entry,
    Head,
    Instruction,
)
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, Publish, SaveRequest, touched
from gatesync.artifacts.signatures import Attestation, attestation_of
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Behind,
    Delta,
    History,
    LoggedChange,
    ManifestPage,
    Refused,
    SaveOutcome,
    Sign,
    SignConfirmation,
    TooOld,
    count_in_page,
    key_used,
    outcome_of,
)

__all__ = ["LogIndex", "Planned", "Record"]


class Record(msgspec.Struct, frozen=True):
    """What a request that was saved left behind: enough to answer it again, and to plan the next.

    `claims` and `references` are the claim keys that the artifacts which it published hold and
    need, by api_id. A request that changed nothing has no change sets, and is remembered by its
    key all the same. A record without a key is nobody's request: what people changed by hand.
    """

    key: str
    fingerprint: str
    change_sets: tuple[ChangeSet, ...]
    heads: tuple[Head, ...]
    author: str = ""
    origin: str = ""
    claims: dict[str, tuple[str, ...]] = {}
    references: dict[str, tuple[str, ...]] = {}


class Planned(msgspec.Struct, frozen=True):
    """The answers in the requests' order, and what is to be written before they are given.

    `contents` are the canonical forms that the records' publishes name, by digest.
    """

    answers: list[SaveOutcome | Refused]
    records: list[Record]
    contents: dict[str, bytes]


_Asked: TypeAlias = tuple[str, str]  # author and origin


class LogIndex:
    """Every label of one history.

    Args:
        epoch: the history's UUID.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self._logs: dict[str, _Log] = {}
        self._identities: dict[str, Identity] = {}
        self._named: dict[str, set[str]] = {}  # api_ids that any artifact of this name ever had
        self._requests: dict[str, Record] = {}

    def plan(
        self,
        requests: Sequence[SaveRequest],
        sign: Sign | None = None,
        *,
        first_revision: int | None = None,
    ) -> Planned:
        """Decide what the requests come to, one on top of the other.

        Args:
            requests: see `Saver.save`.
            sign: see `Saver.save`.
            first_revision: where all labels count together, the number of the first change set;
                a set that changes several labels has one number in all of them.
        """
        states, identities = self._load(requests)
        known: dict[str, tuple[str, SaveOutcome | Refused]] = {}
        records: list[Record] = []
        contents: dict[str, bytes] = {}
        answers: list[SaveOutcome | Refused] = []
        for request in requests:
            before = known.get(request.key) or self._answered(request.key)
            if before is None:
                outcome = outcome_of(request, states, identities, sign, first_revision)
                if isinstance(outcome, SaveOutcome):
                    records.append(_record_of(request, outcome))
                    contents.update(_contents_of(request, outcome))
                    if first_revision is not None:
                        first_revision += len({each.revision for each in outcome.change_sets})
                fingerprint, answer = request.fingerprint, outcome
            else:
                fingerprint, answer = before
                if isinstance(answer, SaveOutcome):
                    answer = msgspec.structs.replace(answer, repeated=True)
            known[request.key] = fingerprint, answer
            answers.append(answer if fingerprint == request.fingerprint else key_used(request.key))
        return Planned(answers, records, contents)

    def append(self, record: Record) -> None:
        """Take over a record that is durable, in the order in which they were written."""
        if record.key:
            self._requests[record.key] = record
        for change_set in record.change_sets:
            for change in change_set.changes:
                entry = change.entry
                self._identities[entry.api_id] = entry.identity
                self._named.setdefault(entry.name, set()).add(entry.api_id)
            log = self._logs.setdefault(change_set.label, _Log(Head(change_set.label, self.epoch)))
            log.append(change_set, record)

    def remember(self, record: Record) -> None:
        """Take over which request it was whose change sets have been appended one by one."""
        self._requests[record.key] = record

    def learn(self, label: str, publish: Publish) -> None:
        """Take over what an artifact that the label holds claims and needs, if found out later."""
        claims = [each.key for each in publish.claims]
        references = [each.key for each in publish.references]
        self._logs[label].learn(publish.entry.api_id, claims, references)

    def preview(
        self, requests: Sequence[SaveRequest], *, first_revision: int | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`, and `plan` for `first_revision`."""
        states, identities = self._load(requests)
        answers: list[SaveOutcome | Refused] = []
        for request in requests:
            answer = outcome_of(request, states, identities, None, first_revision)
            if first_revision is not None and isinstance(answer, SaveOutcome):
                first_revision += len({each.revision for each in answer.change_sets})
            answers.append(answer)
        return answers

    def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        heads = [
            log.head for _, log in sorted(self._logs.items(), key=lambda each: each[0].encode())
        ]
        return [head for head in heads if head.revision or head.confirmation]

    def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        found = {label: self._log(label).head for label in labels}
        for label, wanted in (at_least or {}).items():
            _not_behind(found[label], wanted)
        return found

    def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        log = self._log(label)
        if since.epoch != self.epoch or since.revision < log.floor:
            raise TooOld(f"label {label!r} keeps no changes since {since}")
        _not_behind(log.head, since)
        return Delta(since.revision, log.head, tuple(log.net_changes(since.revision)))

    def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        log = self._log(label)
        if at_least is not None:
            _not_behind(log.head, at_least)
        head, held = log.head, log.entries
        ids: Sequence[str] = log.ids
        if at is not None:
            _not_behind(log.head, at)
            if at.revision < log.floor:
                raise TooOld(f"label {label!r} was compacted past revision {at.revision}")
            if at.revision != head.revision:
                digest = log.digest_at(at.revision)
                head = Head(label, self.epoch, at.revision, digest)
                held = log.entries_at(at.revision)
                ids = sorted(held)
        start = bisect_right(ids, after)
        page = ids[start : start + limit]
        more = len(ids) > start + limit
        return ManifestPage(
            head, tuple(held[api_id] for api_id in page), page[-1] if more else None
        )

    def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        log = self._log(label)
        known = cursor.epoch == self.epoch and cursor.revision <= log.head.revision
        return log.digest_at(cursor.revision) if known else None

    def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        found = self._log(label).attestations_after(after)[:limit]
        return tuple(found[: count_in_page([len(each.leaves) for each in found])])

    def history(self, name: str) -> History:
        """See `Saver.history`."""
        identity = self._identities.get(name)
        wanted = {
            api_id
            for api_id in self._named.get(name if identity is None else identity.name, ())
            if identity is None or self._identities[api_id] == identity
        }
        if identity is not None:
            wanted |= self._named.get(name, set())
        found = [
            logged for _, log in sorted(self._logs.items()) for logged in log.history_of(wanted)
        ]
        return History(tuple(found), {each.label: self._log(each.label).floor for each in found})

    def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        return self._log(label).kept_after(since)[:limit]

    def confirmation(
        self, label: str, confirmation_id: str, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """The confirmation of the label's head as it is now, for `confirm`."""
        confirmation = Confirmation(confirmation_id, self.epoch, self._log(label).head.revision)
        return confirmation if sign is None else sign(label, confirmation)

    def confirm(self, label: str, confirmation: Confirmation) -> None:
        """Take a confirmation over that is durable."""
        log = self._logs.setdefault(label, _Log(Head(label, self.epoch)))
        log.head = msgspec.structs.replace(log.head, confirmation=confirmation)

    def floor_of(self, label: str, keep: int, young: int | None = None) -> int:
        """The floor that `Saver.compact` answers with."""
        return self._log(label).floor_of(keep, young)

    def compact(self, label: str, floor: int) -> None:
        """Forget what revisions from `floor` on do not need. A floor never moves back."""
        if label in self._logs:
            self._logs[label].compact(floor)

    def used(self) -> set[str]:
        """The digests of all contents that kept revisions name, in any label."""
        return {digest for log in self._logs.values() for digest in log.used()}

    def _log(self, label: str) -> "_Log":
        return self._logs.get(label) or _Log(Head(label, self.epoch))

    def _answered(self, key: str) -> tuple[str, SaveOutcome | Refused] | None:
        record = self._requests.get(key)
        if record is None:
            return None
        kept = [each for each in record.change_sets if each.revision > self._log(each.label).floor]
        return record.fingerprint, SaveOutcome(tuple(kept), record.heads, repeated=True)

    def _load(
        self, requests: Sequence[SaveRequest]
    ) -> tuple[dict[str, LabelState], ChainMap[str, Identity]]:
        """What the requests may touch, in copies that plans may move."""
        states = {
            label: self._log(label).state(*asked) for label, asked in touched(requests).items()
        }
        return states, ChainMap({}, self._identities)


class _Log:
    """One label's."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.floor = 0
        self.entries: dict[str, Entry] = {}
        self.ids: list[str] = []  # of the entries, sorted
        self._sets: list[ChangeSet] = []  # those after the floor
        self._asked: dict[int, _Asked] = {}
        self._published: dict[int, ChangeSet] = {}  # older ones, that history still names
        self._digests: list[tuple[int, LabelDigest]] = []  # of every revision, for ever
        self._versions: dict[str, list[tuple[int, Change]]] = {}
        self._attestations: dict[int, Attestation] = {}
        self._claims: dict[str, frozenset[str]] = {}
        self._owners: dict[str, str] = {}
        self._references: dict[str, frozenset[str]] = {}
        self._referrers: dict[str, set[str]] = {}

    def append(self, change_set: ChangeSet, record: Record) -> None:
        """Take one more change set over."""
        revision = change_set.revision
        for change in change_set.changes:  # frees first: artifacts of one set can swap names
            if change.entry.api_id in record.claims or change.instruction is Instruction.REMOVE:
                self._release(change.entry.api_id)
        for change in change_set.changes:
            api_id = change.entry.api_id
            self._versions.setdefault(api_id, []).append((revision, change))
            if change.instruction is Instruction.REMOVE:
                del self.entries[api_id]
                del self.ids[bisect_left(self.ids, api_id)]
                continue
            if api_id not in self.entries:
                insort(self.ids, api_id)
            self.entries[api_id] = change.entry
            if api_id in record.claims:
                self._take(api_id, record.claims[api_id], record.references.get(api_id, ()))
        self._sets.append(change_set)
        self._asked[revision] = record.author, record.origin
        self._digests.append((revision, change_set.digest))
        if change_set.signature is not None:
            self._attestations[revision] = attestation_of(change_set)
        confirmation = self.head.confirmation
        self.head = msgspec.structs.replace(change_set.head, confirmation=confirmation)

    def learn(self, api_id: str, claims: Iterable[str], references: Iterable[str]) -> None:
        """What an artifact claims and needs, whatever was known of that before."""
        self._release(api_id)
        self._take(api_id, claims, references)

    def state(self, named: set[str], wanted: set[str]) -> LabelState:
        """What a plan needs that names these artifacts, and makes or needs these claims."""
        claims = {api_id: held for api_id in named if (held := self._claims.get(api_id))}
        keys = wanted.union(*claims.values())
        needed = {api_id: need for api_id in named if (need := self._references.get(api_id))}
        return LabelState(
            self.head,
            {api_id: self.entries[api_id] for api_id in named if api_id in self.entries},
            {key: self._owners[key] for key in keys if key in self._owners},
            claims,
            needed,
            {
                key: self._referrers[key]
                for key in keys.union(*needed.values())
                if key in self._referrers
            },
        )

    def net_changes(self, since: int) -> Iterator[Change]:
        """At most one change an artifact, publishes first."""
        touched = dict.fromkeys(
            change.entry.api_id for each in self.kept_after(since) for change in each.changes
        )
        gone = []
        for api_id in touched:
            before, now = self._entry_at(api_id, since), self.entries.get(api_id)
            if now is not None and now != before:
                yield Change(Instruction.PUBLISH, now)
            elif now is None and before is not None:
                gone.append(Change(Instruction.REMOVE, before))
        yield from gone

    def entries_at(self, revision: int) -> dict[str, Entry]:
        """What the label held at a revision that is not below the floor."""
        found = {api_id: self._entry_at(api_id, revision) for api_id in self._versions}
        return {api_id: entry for api_id, entry in found.items() if entry is not None}

    def digest_at(self, revision: int) -> LabelDigest:
        """The label digest after everything up to a revision."""
        place = bisect_right(self._digests, revision, key=lambda each: each[0])
        return self._digests[place - 1][1] if place else EMPTY_LABEL

    def kept_after(self, revision: int) -> list[ChangeSet]:
        """The change sets after this revision that are kept."""
        return self._sets[bisect_right(self._sets, revision, key=lambda each: each.revision) :]

    def attestations_after(self, revision: int) -> list[Attestation]:
        """Those that are kept, in the order of their revisions."""
        return [each for number, each in self._attestations.items() if number > revision]

    def history_of(self, api_ids: Iterable[str]) -> list[LoggedChange]:
        """What is remembered of these artifacts, the newest first."""
        found = [
            (revision, self._place(revision, change), change)
            for api_id in api_ids
            for revision, change in self._versions.get(api_id, ())
        ]
        found.sort(key=lambda each: each[:2], reverse=True)
        return [self._logged(revision, change) for revision, _, change in found]

    def floor_of(self, keep: int, young: int | None) -> int:
        """The floor that keeps the newest `keep` revisions, and from the first young one on."""
        target = self.head.revision - keep
        if young is not None:
            recent = (each.revision for each in self._sets if each.published_at >= young)
            target = min(target, next(recent, target + 1) - 1)
        return max(self.floor, target)

    def compact(self, floor: int) -> None:
        """Forget what revisions from `floor` on do not need."""
        if floor <= self.floor:
            return
        self.floor = floor
        dropped = self._sets[: len(self._sets) - len(self.kept_after(floor))]
        self._published.update((each.revision, each) for each in dropped)
        del self._sets[: len(dropped)]
        for api_id, versions in list(self._versions.items()):
            place = bisect_right(versions, floor, key=lambda each: each[0])
            held = place and versions[place - 1][1].instruction is Instruction.PUBLISH
            del versions[: place - 1 if held else place]
            if not versions:
                del self._versions[api_id]
        named = {revision for versions in self._versions.values() for revision, _ in versions}
        self._published = {r: each for r, each in self._published.items() if r in named}
        kept = named | {each.revision for each in self._sets}
        self._asked = {r: each for r, each in self._asked.items() if r in kept}
        held_at_floor = {entry.revision for entry in self.entries_at(floor).values()}
        self._attestations = {
            r: each for r, each in self._attestations.items() if r >= floor or r in held_at_floor
        }

    def used(self) -> Iterator[str]:
        """The digests that kept revisions name."""
        for versions in self._versions.values():
            for _, change in versions:
                yield change.entry.digest

    def _entry_at(self, api_id: str, revision: int) -> Entry | None:
        versions = self._versions.get(api_id, [])
        place = bisect_right(versions, revision, key=lambda each: each[0])
        if not place:
            return None
        change = versions[place - 1][1]
        return change.entry if change.instruction is Instruction.PUBLISH else None

    def _place(self, revision: int, change: Change) -> int:
        """Which of its change set's changes this one is."""
        return self._change_set(revision).changes.index(change)

    def _logged(self, revision: int, change: Change) -> LoggedChange:
        change_set = self._change_set(revision)
        author, origin = self._asked[revision]
        entry = msgspec.structs.replace(change.entry, revision=revision)
        return LoggedChange(
            label=self.head.label,
            change=Change(change.instruction, entry),
            published_at=change_set.published_at,
            publisher=change_set.publisher,
            author=author,
            origin=origin,
        )

    def _change_set(self, revision: int) -> ChangeSet:
        older = self._published.get(revision)
        if older is not None:
            return older
        return self._sets[bisect_left(self._sets, revision, key=lambda each: each.revision)]

    def _release(self, api_id: str) -> None:
        for key in self._claims.pop(api_id, ()):
            if self._owners.get(key) == api_id:
                del self._owners[key]
        for key in self._references.pop(api_id, ()):
            self._referrers[key].discard(api_id)

    def _take(self, api_id: str, claims: Iterable[str], references: Iterable[str]) -> None:
        self._claims[api_id] = frozenset(claims)
        self._owners.update(dict.fromkeys(claims, api_id))
        self._references[api_id] = frozenset(references)
        for key in references:
            self._referrers.setdefault(key, set()).add(api_id)


def _record_of(request: SaveRequest, outcome: SaveOutcome) -> Record:
    published = {
        item.entry.api_id: item
        for items in request.sets
        for item in items
        if isinstance(item, Publish)
    }
    return Record(
        key=request.key,
        fingerprint=request.fingerprint,
        change_sets=outcome.change_sets,
        heads=outcome.heads,
        author=request.author,
        origin=request.origin,
        claims={i: tuple(c.key for c in item.claims) for i, item in published.items()},
        references={i: tuple(r.key for r in item.references) for i, item in published.items()},
    )


def _contents_of(request: SaveRequest, outcome: SaveOutcome) -> dict[str, bytes]:
    named = {
        change.entry.digest
        for change_set in outcome.change_sets
        for change in change_set.changes
        if change.instruction is Instruction.PUBLISH
    }
    published = (i for items in request.sets for i in items if isinstance(i, Publish))
    return {i.entry.digest: i.content for i in published if i.entry.digest in named}


def _not_behind(head: Head, wanted: Cursor) -> None:
    if head.epoch != wanted.epoch or head.revision < wanted.revision:
        raise Behind(head, wanted)
