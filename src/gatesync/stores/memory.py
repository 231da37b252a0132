"""An artifact store in memory: for unit tests, and to read what the contract means."""

import asyncio
import copy
import uuid
from collections.abc import Collection, Mapping, Sequence

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
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, Publish, SaveRequest
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
    outcome_of,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps every change set in a list. One event loop; `save` holds a lock.

    Args:
        epoch: the history's UUID; a new one when left out.
    """

    def __init__(self, epoch: str | None = None) -> None:
        self.epoch = epoch or str(uuid.uuid4())
        self._log: dict[str, list[ChangeSet]] = {}
        self._states: dict[str, LabelState] = {}
        self._floors: dict[str, int] = {}
        self._contents: dict[str, bytes] = {}
        self._identities: dict[str, Identity] = {}
        self._asked: dict[tuple[str, int], SaveRequest] = {}
        self._requests: dict[str, tuple[str, SaveOutcome]] = {}
        self._lock = asyncio.Lock()

    async def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        heads = [state.head for _, state in sorted(self._states.items())]
        return [head for head in heads if head.revision or head.confirmation]

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        found = {label: self._head(label) for label in labels}
        for label, wanted in (at_least or {}).items():
            _not_behind(found[label], wanted)
        return found

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        head = self._head(label)
        if since.epoch != head.epoch or since.revision < self._floors.get(label, 0):
            raise TooOld(f"label {label!r} keeps no changes since {since}")
        _not_behind(head, since)
        before = self._at(label, since.revision)
        now = self._at(label, head.revision)
        changes = [
            Change(Instruction.PUBLISH, entry)
            for api_id, entry in now.items()
            if before.get(api_id) != entry
        ]
        changes += [
            Change(Instruction.REMOVE, entry)
            for api_id, entry in before.items()
            if api_id not in now
        ]
        return Delta(since.revision, head, tuple(changes))

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        head = self._head(label)
        if at_least is not None:
            _not_behind(head, at_least)
        if at is not None:
            _not_behind(head, at)
            if at.revision < self._floors.get(label, 0):
                raise TooOld(f"label {label!r} was compacted past revision {at.revision}")
            if at.revision != head.revision:
                head = self._head_at(label, at.revision)
        held = self._at(label, head.revision)
        ids = sorted(api_id for api_id in held if api_id > after)
        entries = tuple(held[api_id] for api_id in ids[:limit])
        return ManifestPage(head, entries, ids[limit - 1] if len(ids) > limit else None)

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        known = cursor.epoch == self.epoch and cursor.revision <= self._head(label).revision
        return self._head_at(label, cursor.revision).digest if known else None

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`."""
        return {digest: self._contents[digest] for digest in digests if digest in self._contents}

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        floor = self._floors.get(label, 0)
        held = {entry.revision for entry in self._at(label, floor).values()}
        found = [
            attestation_of(each)
            for each in self._log.get(label, [])
            if each.signature and each.revision > after
            if each.revision >= floor or each.revision in held
        ][:limit]
        return tuple(found[: count_in_page([len(each.leaves) for each in found])])

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        async with self._lock:
            return [self._save(request, sign) for request in requests]

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        labels = {label for request in requests for label in request.labels}
        states = {label: copy.deepcopy(self._state(label)) for label in labels}
        identities = dict(self._identities)
        return [outcome_of(request, states, identities) for request in requests]

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        wanted = {self._identities.get(name)} | {
            identity for identity in self._identities.values() if identity.name == name
        }
        found = [
            self._logged(label, change_set, change)
            for label, log in sorted(self._log.items())
            for change_set in reversed(log)
            for change in reversed(change_set.changes)
            if change.entry.identity in wanted and self._is_kept(label, change_set, change)
        ]
        return History(
            tuple(found), {each.label: self._floors.get(each.label, 0) for each in found}
        )

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """See `Saver.sizes`."""
        return {digest: len(content) for digest, content in (await self.contents(digests)).items()}

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        since = max(since, self._floors.get(label, 0))
        return [each for each in self._log.get(label, []) if each.revision > since][:limit]

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """See `Saver.confirm`."""
        state = self._state(label)
        confirmation = Confirmation(confirmation_id, self.epoch, state.head.revision)
        if sign is not None:
            confirmation = sign(label, confirmation)
        state.head = msgspec.structs.replace(state.head, confirmation=confirmation)
        return confirmation

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """See `Saver.compact`. Contents go; the log stays, to replay what was held from."""
        target = self._head(label).revision - keep
        if young is not None:
            recent = (s.revision for s in self._log.get(label, []) if s.published_at >= young)
            target = min(target, next(recent, target + 1) - 1)
        floor = max(self._floors.get(label, 0), target)
        self._floors[label] = floor
        used = {digest for each in self._log for digest in self._used(each)}
        self._contents = {digest: self._contents[digest] for digest in used}
        return floor

    def _save(self, request: SaveRequest, sign: Sign | None) -> SaveOutcome | Refused:
        known = self._requests.get(request.key)
        if known is not None:
            fingerprint, before = known
            if fingerprint != request.fingerprint:
                return Refused((f"key {request.key!r} was used for another request",), True)
            kept = [s for s in before.change_sets if s.revision > self._floors.get(s.label, 0)]
            return SaveOutcome(tuple(kept), before.heads, repeated=True)
        states = {label: self._state(label) for label in sorted(request.labels)}
        outcome = outcome_of(request, states, self._identities, sign)
        if isinstance(outcome, Refused):
            return outcome
        for change_set in outcome.change_sets:
            self._log.setdefault(change_set.label, []).append(change_set)
            self._asked[change_set.label, change_set.revision] = request
        for items in request.sets:
            for item in items:
                if isinstance(item, Publish):
                    self._contents[item.entry.digest] = item.content
        self._requests[request.key] = (request.fingerprint, outcome)
        return outcome

    def _logged(self, label: str, change_set: ChangeSet, change: Change) -> LoggedChange:
        request = self._asked[label, change_set.revision]
        entry = msgspec.structs.replace(change.entry, revision=change_set.revision)
        return LoggedChange(
            label=label,
            change=Change(change.instruction, entry),
            published_at=change_set.published_at,
            publisher=change_set.publisher,
            author=request.author,
            origin=request.origin,
        )

    def _is_kept(self, label: str, change_set: ChangeSet, change: Change) -> bool:
        floor = self._floors.get(label, 0)
        held = self._at(label, floor).get(change.entry.api_id)
        return change_set.revision > floor or held == change.entry

    def _state(self, label: str) -> LabelState:
        if label not in self._states:
            self._states[label] = LabelState(Head(label, self.epoch))
        return self._states[label]

    def _head(self, label: str) -> Head:
        state = self._states.get(label)
        return state.head if state else Head(label, self.epoch)

    def _head_at(self, label: str, revision: int) -> Head:
        for change_set in self._log.get(label, []):
            if change_set.revision == revision:
                return change_set.head
        return Head(label, self.epoch, revision)

    def _used(self, label: str) -> set[str]:
        """The digests that the label's kept revisions name."""
        floor = self._floors.get(label, 0)
        kept = [each for each in self._log[label] if each.revision > floor]
        used = {change.entry.digest for each in kept for change in each.changes}
        return used | {entry.digest for entry in self._at(label, floor).values()}

    def _at(self, label: str, revision: int) -> dict[str, Entry]:
        held: dict[str, Entry] = {}
        for change_set in self._log.get(label, []):
            if change_set.revision > revision:
                break
            for change in change_set.changes:
                if change.instruction is Instruction.PUBLISH:
                    held[change.entry.api_id] = change.entry
                else:
                    held.pop(change.entry.api_id, None)
        return held


def _not_behind(head: Head, wanted: Cursor) -> None:
    if head.epoch != wanted.epoch or head.revision < wanted.revision:
        raise Behind(head, wanted)
