"""The receipt book in the store's database: one table, and connections of its own.

What publishes never waits for it: it has its own threads, and on SQLite, where there is one
writer at a time, its transactions are short and do not wait for the disk.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, delete, event, inspect, select

from gatesync.stores.receipts import NodeRecord
from gatesync.stores.schema import receipts
from gatesync.stores.sql_opening import alone, make_engines, shown
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_rows import insert_rows
from gatesync.stores.sql_running import Lane
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.store import StoreError

__all__ = ["SqlReceiptBook", "open_sql_receipt_book"]

STEP: Final = 100  # records in one transaction: on SQLite a publish waits for one at most

_T = TypeVar("_T")


@asynccontextmanager
async def open_sql_receipt_book(
    url: str | URL | SqlSource, options: SqlOptions
) -> AsyncIterator["SqlReceiptBook"]:
    """Open the book of a store. See `KeepsReceipts`."""
    writing, reading = await asyncio.to_thread(make_engines, url, options)
    if writing.dialect.name == "sqlite":
        event.listen(writing, "connect", _hurry)
    book = SqlReceiptBook(
        *(
            Lane(
                engine,
                threads=1,
                name=f"receipts-{doing}",
                where=shown(engine.url),
                deadline=options.deadline,
            )
            for doing, engine in (("write", writing), ("read", reading))
        )
    )
    try:
        yield book
    finally:
        await book.close()


class SqlReceiptBook:
    """`ReceiptBook` on SQLAlchemy: a lane that writes, one that reads."""

    def __init__(self, writing: Lane, reading: Lane) -> None:
        self._writing = writing
        self._reading = reading
        self._is_there = False

    async def close(self) -> None:
        """End the threads and the connections."""
        await self._writing.close()
        await self._reading.close()

    async def editions(self) -> dict[str, int]:
        """See `ReceiptBook.editions`."""
        query = select(receipts.c.NODE_ID, receipts.c.EDITION)
        return await self._read(lambda c: {row.NODE_ID: row.EDITION for row in c.execute(query)})

    async def read(self, nodes: Collection[str]) -> list[NodeRecord]:
        """See `ReceiptBook.read`."""
        found: list[NodeRecord] = []
        for some in _steps(sorted(nodes)):
            query = select(receipts).where(receipts.c.NODE_ID.in_(some))
            rows = await self._read(lambda c, query=query: c.execute(query).all())  # type: ignore[misc]
            found += [NodeRecord(r.NODE_ID, r.EDITION, r.HEARD_AT, bytes(r.STATE)) for r in rows]
        return found

    async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
        """See `ReceiptBook.write`. In steps, so that nobody waits long for the database."""
        written: set[str] = set()
        for some in _steps(sorted(records, key=lambda each: each.node)):
            written |= await self._write(lambda c, some=some: _replace(c, some, seen))  # type: ignore[misc]
        return written

    async def remove(self, seen: Mapping[str, int]) -> None:
        """See `ReceiptBook.remove`."""
        for some in _steps(sorted(seen)):

            def work(connection: Connection, some: Sequence[str] = some) -> None:
                there = _editions(connection, some)
                gone = [node for node in some if there.get(node) == seen[node]]
                connection.execute(delete(receipts).where(receipts.c.NODE_ID.in_(gone)))

            await self._write(work)

    async def forget(self, before: int) -> None:
        """See `ReceiptBook.forget`."""
        await self._write(lambda c: c.execute(delete(receipts).where(receipts.c.HEARD_AT < before)))

    async def _read(self, work: Callable[[Connection], _T]) -> _T:
        await self._prepare()
        return await self._reading.run(work)

    async def _write(self, work: Callable[[Connection], _T]) -> _T:
        await self._prepare()
        try:
            return await self._writing.run(work)
        except StoreError:
            self._is_there = False  # perhaps it is another database now
            raise

    async def _prepare(self) -> None:
        if not self._is_there:
            if not await self._reading.run(_has_table):
                await self._writing.run(_create)
            self._is_there = True


def _has_table(connection: Connection) -> bool:
    folded = connection.dialect.name == "postgresql"
    return inspect(connection).has_table(receipts.name.lower() if folded else receipts.name)


def _create(connection: Connection) -> None:
    """In a store that an earlier version made."""
    with alone(connection):
        if not _has_table(connection):
            receipts.create(connection, checkfirst=False)


def _replace(
    connection: Connection, records: Sequence[NodeRecord], seen: Mapping[str, int]
) -> set[str]:
    there = _editions(connection, [each.node for each in records])
    fresh = [each for each in records if there.get(each.node) == seen.get(each.node)]
    old = [each.node for each in fresh if each.node in there]
    if old:
        connection.execute(delete(receipts).where(receipts.c.NODE_ID.in_(old)))
    insert_rows(
        connection,
        receipts,
        [
            dict(NODE_ID=each.node, EDITION=each.edition, HEARD_AT=each.heard_at, STATE=each.state)
            for each in fresh
        ],
    )
    return {each.node for each in fresh}


def _editions(connection: Connection, nodes: Sequence[str]) -> dict[str, int]:
    """Of these nodes, locked in the order of their names until the transaction ends."""
    query = (
        select(receipts.c.NODE_ID, receipts.c.EDITION)
        .where(receipts.c.NODE_ID.in_(nodes))
        .order_by(receipts.c.NODE_ID)
        .with_for_update()
    )
    return {row.NODE_ID: row.EDITION for row in connection.execute(query)}


def _steps(items: Sequence[_T]) -> list[Sequence[_T]]:
    return [items[start : start + STEP] for start in range(0, len(items), STEP)]


def _hurry(connection: sqlite3.Connection, _record: Any) -> None:
    # The book may lose its last second in a power cut. The next publish syncs the file anyway.
    connection.execute("PRAGMA synchronous = NORMAL")
