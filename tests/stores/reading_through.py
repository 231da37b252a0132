"""A saver whose questions go another way: how retrievers pass the stores' contract."""

from collections.abc import Callable, Collection, Mapping, Sequence

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Delta,
    History,
    ManifestPage,
    Refused,
    Retriever,
    SaveOutcome,
    Saver,
    Sign,
    SignConfirmation,
)


class ReadThrough:
    """Saves go to the store itself; what gateways ask is asked of the retriever."""

    def __init__(self, store: Callable[[], Saver], retriever: Retriever) -> None:
        self._store = store
        self._retriever = retriever

    @property
    def epoch(self) -> str:
        return self._store().epoch

    async def labels(self) -> list[Head]:
        return await self._store().labels()

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        return await self._store().save(requests, sign=sign)

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        return await self._store().preview(requests)

    async def history(self, name: str) -> History:
        return await self._store().history(name)

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        return await self._store().sizes(digests)

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        return await self._store().change_sets(label, since, limit)

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        return await self._store().confirm(label, confirmation_id, sign=sign)

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        return await self._store().compact(label, keep, young)

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        return await self._retriever.heads(labels, at_least)

    async def changes(self, label: str, since: Cursor) -> Delta:
        return await self._retriever.changes(label, since)

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        return await self._retriever.manifest(
            label, at=at, after=after, limit=limit, at_least=at_least
        )

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        return await self._retriever.digest_at(label, cursor)

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        return await self._retriever.attestations(label, after, limit)

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        return await self._retriever.contents(digests)
