"""A bench for the contract suite on a SQLite file."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gatesync.stores.sql import SqlStore, open_sql_store


class SqliteBench:
    """A store on a file; `reopen` closes it and opens the file again."""

    store: SqlStore

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._open = AsyncExitStack()

    async def catch_up(self) -> None:
        """Nothing lags: SQLite's readers see each commit."""

    async def reopen(self) -> None:
        await self.close()
        self.store = await self._open.enter_async_context(open_sql_store(self.url))

    async def close(self) -> None:
        await self._open.aclose()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteBench]:
    bench = SqliteBench(path)
    try:
        await bench.reopen()
        yield bench
    finally:
        await bench.close()
