"""The memory engine: an immutable map from api_id to bytes, swapped whole.

It keeps the bytes and decodes nothing: they were validated at publish and verified on arrival.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from immutables import Map

from gatesync.engines.engine import Deployable

__all__ = ["MemoryEngine", "open_memory_engine"]


class MemoryEngine:
    """See `Engine`. Readers take `snapshot` and keep it as long as they like."""

    name = "memory"

    def __init__(self) -> None:
        self._deployed: Map[str, bytes] = Map()

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """See `Engine.apply`. Memory refuses nothing."""
        with self._deployed.mutate() as draft:
            for api_id in undeploy:
                draft.pop(api_id, None)
            for each in deploy:
                draft[each.entry.api_id] = each.content
            self._deployed = draft.finish()  # promise 5: one assignment is the swap
        return {}

    def content(self, api_id: str) -> bytes | None:
        """See `Engine.content`."""
        return self._deployed.get(api_id)

    def api_ids(self) -> Collection[str]:
        """See `Engine.api_ids`."""
        return self.snapshot().keys()

    def snapshot(self) -> Map[str, bytes]:
        """Everything that is served, as of now; later changes do not show in it."""
        return self._deployed


@asynccontextmanager
async def open_memory_engine(_settings: Any) -> AsyncIterator[MemoryEngine]:
    """Open an empty memory engine."""
    yield MemoryEngine()
