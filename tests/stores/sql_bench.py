"""A bench for the contract suite on a SQL database."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from gatesync.stores.sql import SqlStore, open_sql_store


class SqlBench:
    """A store on a database; `reopen` closes it and opens it again."""

    store: SqlStore

    def __init__(self, url: str) -> None:
        self.url = url
        self._open = AsyncExitStack()

    async def catch_up(self) -> None:
        """Nothing lags: readers see each commit."""

    async def reopen(self) -> None:
        await self.close()
        self.store = await self._open.enter_async_context(open_sql_store(self.url))

    async def close(self) -> None:
        await self._open.aclose()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlBench]:
    bench = SqlBench(url)
    try:
        await bench.reopen()
        yield bench
    finally:
        await bench.close()


class SqliteFiles:
    """`Databases` that are files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    @contextmanager
    def database(self) -> Iterator[str]:
        """One that is not there yet, by its URL."""
        number = next(self._numbers)
        yield f"sqlite:///{self._folder}/store{number}.db"
