"""A store whose reads lag behind its writes, as a replica's do."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.memory import MemoryStore
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

LAG_SECONDS = 3.0


class LaggingStore:
    """Writes go to one `MemoryStore` at once, and `lag` seconds later to the one that is read.

    Args:
        clock: seconds, rising.
        lag: seconds.
    """

    def __init__(self, clock: Callable[[], float], lag: float = LAG_SECONDS) -> None:
        self._clock = clock
        self._lag = lag
        self.primary = MemoryStore()
        self._replica = MemoryStore(self.primary.epoch)
        self._coming: deque[tuple[float, Callable[[], Awaitable[Any]]]] = deque()

    @property
    def epoch(self) -> str:
        return self.primary.epoch

    async def labels(self) -> list[Head]:
        return await (await self._replicated()).labels()

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        return await (await self._replicated()).heads(labels, at_least)

    async def changes(self, label: str, since: Cursor) -> Delta:
        return await (await self._replicated()).changes(label, since)

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        replica = await self._replicated()
        return await replica.manifest(label, at=at, after=after, limit=limit, at_least=at_least)

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        return await (await self._replicated()).digest_at(label, cursor)

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        return await (await self._replicated()).attestations(label, after, limit)

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        return await (await self._replicated()).contents(digests)

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        return await self.primary.preview(requests)

    async def history(self, name: str) -> History:
        return await (await self._replicated()).history(name)

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        return await (await self._replicated()).sizes(digests)

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        return await (await self._replicated()).change_sets(label, since, limit)

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        answers = await self.primary.save(requests, sign=sign)
        self._later(lambda: self._replica.save(requests, sign=sign))
        return answers

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        confirmation = await self.primary.confirm(label, confirmation_id, sign=sign)
        self._later(lambda: self._replica.confirm(label, confirmation_id, sign=sign))
        return confirmation

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        floor = await self.primary.compact(label, keep, young)
        self._later(lambda: self._replica.compact(label, keep, young))
        return floor

    def _later(self, write: Callable[[], Awaitable[Any]]) -> None:
        self._coming.append((self._clock() + self._lag, write))

    async def _replicated(self) -> MemoryStore:
        while self._coming and self._coming[0][0] <= self._clock():
            _, write = self._coming.popleft()
            await write()
        return self._replica
