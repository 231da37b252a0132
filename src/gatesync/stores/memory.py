"""An artifact store in memory: for unit tests, and to read what the contract means."""

import asyncio
import uuid
from collections.abc import Collection, Mapping, Sequence

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.log_index import LogIndex
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Delta,
    History,
    ManifestPage,
    Refused,
    SaveOutcome,
    Sign,
    SignConfirmation,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps logs and contents. One event loop; `save` holds a lock.

    Args:
        epoch: the history's UUID; a new one when left out.
    """

    def __init__(self, epoch: str | None = None) -> None:
        self.epoch = epoch or str(uuid.uuid4())
        self._index = LogIndex(self.epoch)
        self._contents: dict[str, bytes] = {}
        self._lock = asyncio.Lock()

    async def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        return self._index.labels()

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        return self._index.heads(labels, at_least)

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        return self._index.changes(label, since)

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
        return self._index.manifest(label, at=at, after=after, limit=limit, at_least=at_least)

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        return self._index.digest_at(label, cursor)

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`."""
        return {digest: self._contents[digest] for digest in digests if digest in self._contents}

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        return self._index.attestations(label, after, limit)

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        async with self._lock:
            planned = self._index.plan(requests, sign)
            self._contents |= planned.contents
            for record in planned.records:
                self._index.append(record)
            return planned.answers

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        return self._index.preview(requests)

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        return self._index.history(name)

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """See `Saver.sizes`."""
        return {digest: len(content) for digest, content in (await self.contents(digests)).items()}

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        return self._index.change_sets(label, since, limit)

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """See `Saver.confirm`."""
        confirmation = self._index.confirmation(label, confirmation_id, sign)
        self._index.confirm(label, confirmation)
        return confirmation

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """See `Saver.compact`."""
        floor = self._index.floor_of(label, keep, young)
        self._index.compact(label, floor)
        used = self._index.used()
        self._contents = {d: content for d, content in self._contents.items() if d in used}
        return floor
