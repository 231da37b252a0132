"""The share passes the contract of every store, on a local folder."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gatesync.stores.share_chain import first_manifest
from gatesync.stores.share_files import create_share
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareStore, open_share_store
from tests.contracts.store import Bench, StoreContract

pytestmark = pytest.mark.fast


class ShareBench:
    def __init__(self, source: ShareSource) -> None:
        self.source = source
        self.store: ShareStore
        self._stack = AsyncExitStack()

    async def catch_up(self) -> None:
        """What was saved can be read."""

    async def reopen(self) -> None:
        await self._stack.aclose()
        self.store = await self._stack.enter_async_context(open_share_store(self.source))


class TestShareStore(StoreContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        share = tmp_path / "share"
        share.mkdir()
        create_share(share, first_manifest)
        bench = ShareBench(ShareSource(path=share, state=tmp_path / "state"))
        await bench.reopen()
        yield bench
        await bench._stack.aclose()
