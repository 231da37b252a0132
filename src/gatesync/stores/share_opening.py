"""Opens a share for a publisher, which keeps its tree while it may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatesync.stores.share_keeper import ShareKeeper
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareStore, open_share_store

__all__ = ["open_share_saver"]


@asynccontextmanager
async def open_share_saver(source: ShareSource) -> AsyncIterator[ShareStore]:
    """The store, and what keeps the share while the block runs.

    Raises:
        StoreError: the share is not mounted, or is another one than this publisher knows.
    """
    async with open_share_store(source) as store, asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(ShareKeeper(store, source).run(), name="share")
        yield store
        keeping.cancel()
