"""Where `gatesync rsync` has its lease: in the store that the configuration names, if it can."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from gatesync.cli.rsync_job import Job
from gatesync.cli.rsync_turn import Turn, holder_name
from gatesync.config import Loaded
from gatesync.config.adapters import WSO2_NAMES
from gatesync.stores.leases import KeepsLeases, MemoryLeases

__all__ = ["LeaseLostError", "open_turn", "while_held"]

_T = TypeVar("_T")


class LeaseLostError(Exception):
    """Another host has it now, or may have: what was being done was given up."""


@asynccontextmanager
async def open_turn(job: Job, loaded: Loaded, tell: Callable[[str], None]) -> AsyncIterator[Turn]:
    """The lease across hosts; it is given up at the end. `tell` is told where there is none.

    Raises:
        StoreError: the store cannot be opened.
        ConfigError: its configuration is wrong.
    """
    settings, holder = loaded.settings, holder_name(job.node_id)
    name = settings.publisher.artifact_saver
    if WSO2_NAMES.get(name, name) != "sql":
        tell(f"{name} keeps no leases: only this host's lock holds; run one host's runner only")
    elif settings.database.url is None:
        tell("no database is named that hosts share: only this host's lock holds")
    else:
        from gatesync.cli.storing import open_store

        async with open_store(settings) as store:
            assert isinstance(store, KeepsLeases)
            async with _giving_up(Turn(store, job.lease_name, holder, job.lease_seconds)) as turn:
                yield turn
        return
    yield Turn(MemoryLeases(), job.lease_name, holder, job.lease_seconds)


@asynccontextmanager
async def _giving_up(turn: Turn) -> AsyncIterator[Turn]:
    try:
        yield turn
    finally:
        await turn.give_up()


async def while_held(turn: Turn, work: Coroutine[Any, Any, _T]) -> _T:
    """Do it as long as the lease is ours; it is cancelled, and its rsyncs killed, when it is lost.

    Raises:
        LeaseLostError: it was lost.
    """
    doing = asyncio.create_task(work, name="rsync")
    keeping = asyncio.create_task(turn.keep(), name="lease")
    try:
        await asyncio.wait((doing, keeping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return await doing
        await keeping
        raise LeaseLostError
    finally:
        for task in (doing, keeping):
            task.cancel()
        await asyncio.gather(doing, keeping, return_exceptions=True)
