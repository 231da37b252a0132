"""What a start takes of a processor when everything is at hand: no driver, no network, no disk.

The real agent, over a retriever that holds what the driver has read: each content is hashed, the
list adds up to its head, each entry is decided and deployed in memory. Whatever a start reads from,
this comes on top.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gatesync.artifacts.changes import Cursor, Entry, Head
from gatesync.artifacts.digests import LabelDigest, digest_of, label_digest_of
from gatesync.artifacts.signatures import Attestation
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.agent import Agent
from gatesync.stores.store import Delta, ManifestPage
from gatesync.web.client import open_client

__all__ = ["seconds_at_hand"]

LABEL = "Default"


def seconds_at_hand(rows: Sequence[tuple[Any, ...]]) -> float:
    """Seconds of processor time of a start with these rows: an entry's fields, and the bytes."""
    gc.collect()
    gc.disable()  # as a gateway has it until it has started
    try:
        return asyncio.run(_start(_AtHand(rows)))
    finally:
        gc.enable()


async def _start(retriever: "_AtHand") -> float:
    async with open_client("http://127.0.0.1:9") as nobody:
        agent = Agent("bench", [LABEL], nobody, MemoryEngine(), _no_hub, retriever=retriever)
        started = time.process_time()
        running = asyncio.create_task(agent.run())
        await agent.informer.until_ready()
        seconds = time.process_time() - started
        assert agent.status().applied == len(retriever.bytes)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return seconds


class _AtHand:
    """A `Retriever` that has it all, and checks what it hands out as each of them does."""

    digests_at_once = 1_000

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        entries = sorted((Entry(*row[:-1]) for row in rows), key=lambda each: each.api_id)
        digest = label_digest_of([(each.api_id, each.digest) for each in entries])
        self.bytes = {row[6]: row[-1] for row in rows}
        self._entries = tuple(entries)
        self._head = Head(LABEL, "bench", max(each.revision for each in entries), digest)

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        return {LABEL: self._head}

    async def manifest(self, label: str, **_asked: Any) -> ManifestPage:
        return ManifestPage(self._head, self._entries)

    async def changes(self, label: str, since: Cursor) -> Delta:
        return Delta(since.revision, self._head, ())

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        return self._head.digest

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        found = {digest: self.bytes[digest] for digest in digests}
        return {digest: each for digest, each in found.items() if digest_of(each) == digest}

    async def attestations(
        self, label: str, after: int = 0, limit: int = 0
    ) -> tuple[Attestation, ...]:
        return ()


@asynccontextmanager
async def _no_hub() -> AsyncIterator[None]:
    yield None
