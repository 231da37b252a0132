"""A publisher in the benchmark's own process, served over HTTP on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.http import publisher_app
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.service import Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.web.app import AppState
from gatesync.web.guard import Guard
from gatesync.web.server import serve

__all__ = ["running", "serving"]

BODY_MOST = 1 << 26  # bytes of a request


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    """Let it commit, announce and listen while the block runs."""
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def serving(
    publisher: Publisher, folder: Path, heartbeat: float, pulls: FullPulls | None = None
) -> AsyncIterator[tuple[str, str]]:
    """Serve it; yields its URL and a token that reads everything. `heartbeat` is seconds."""

    async def ready() -> tuple[bool, str]:
        return True, ""

    token = TokenFile(folder / "tokens.json").create(Role.READ, "bench")
    cluster = ClusterAnswer("bench", publisher.saver.epoch, int(heartbeat * 1000), None)
    app = publisher_app(publisher, cluster, AppState(ready, CollectorRegistry()), pulls)
    registry = TokenRegistry(folder / "tokens.json")
    async with serve(Guard(app, registry.authenticate, BODY_MOST), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", token
