"""The artifact store in a SQL database, through SQLAlchemy Core.

SQLite is served by plain Core in threads of its own: one that writes, a few that read. That was
measured fastest, and one writer is all that SQLite has.
"""

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, SQLAlchemyError

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.stores import schema, sql_history, sql_read, sql_write
from gatesync.stores.store import (
    PAGE_ENTRIES,
    Behind,
    Delta,
    History,
    ManifestPage,
    Refused,
    SaveOutcome,
    StoreError,
)

__all__ = ["SqlStore", "open_sql_store"]

BUSY_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02  # SQLite asks four times in them
_READERS: Final = 4

_T = TypeVar("_T")


@asynccontextmanager
async def open_sql_store(
    url: str, *, busy_seconds: float = BUSY_SECONDS
) -> AsyncIterator["SqlStore"]:
    """Open the database, make what is missing in it, and close it at the end.

    Args:
        url: `sqlite:///PATH`.
        busy_seconds: how long a transaction waits for one of another process.

    Raises:
        StoreError: the database cannot be opened, or was made by a later version.
    """
    store = SqlStore(*_sqlite(url, busy_seconds))
    try:
        await store.prepare()
        yield store
    finally:
        await store.close()


class SqlStore:
    """`Saver` on SQLAlchemy: an engine that writes, one that reads. Use `open_sql_store`.

    `commits` counts the transactions that `save` committed.
    """

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self.epoch = ""
        self.commits = 0
        self._writing = writing
        self._reading = reading
        self._where = writing.url.render_as_string(hide_password=True)
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._readers = ThreadPoolExecutor(_READERS, "store-read")

    async def prepare(self) -> None:
        """Create the tables where they are missing and learn the epoch."""
        self.epoch = await self._write(lambda c: _prepare(c, self._where))

    async def close(self) -> None:
        """End the threads and the connections, after what they are doing."""
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._writing.dispose()
        self._reading.dispose()

    async def labels(self) -> list[Head]:
        """See `Saver.labels`."""
        return await self._read(lambda c: sql_read.read_labels(c, self.epoch))

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        found = await self._read(lambda c: sql_read.read_heads(c, self.epoch, labels))
        for label, wanted in (at_least or {}).items():
            head = found[label]
            if head.epoch != wanted.epoch or head.revision < wanted.revision:
                raise Behind(head, wanted)
        return found

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        return await self._read(lambda c: sql_read.read_changes(c, self.epoch, label, since))

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        return await self._read(
            lambda c: sql_read.read_manifest_page(
                c, self.epoch, label, at=at, after=after, limit=limit, at_least=at_least
            )
        )

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        return await self._read(lambda c: sql_read.read_digest_at(c, self.epoch, label, cursor))

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`."""
        return await self._read(lambda c: sql_read.read_contents(c, digests))

    async def save(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        try:
            answers = await self._write(lambda c: sql_write.append(c, self.epoch, requests))
        except _ConstraintError as error:
            if len(requests) == 1:
                return [Refused((str(error),))]
            return [answer for each in requests for answer in await self.save([each])]
        self.commits += 1
        return answers

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        return await self._read(lambda c: sql_write.preview(c, self.epoch, requests))

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        return await self._read(lambda c: sql_history.read_history(c, name))

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        return await self._read(
            lambda c: sql_read.read_change_sets(c, self.epoch, label, since, limit)
        )

    async def confirm(self, label: str, confirmation_id: str) -> Confirmation:
        """See `Saver.confirm`."""

        def write(connection: Connection) -> Confirmation:
            head = sql_write.lock_heads(connection, self.epoch, [label])[label]
            connection.execute(
                update(schema.heads)
                .where(schema.heads.c.GATEWAY_LABEL == label)
                .values(CONFIRMATION_ID=confirmation_id, CONFIRMED_REVISION=head.revision)
            )
            return Confirmation(confirmation_id, self.epoch, head.revision)

        return await self._write(write)

    async def compact(self, label: str, keep: int) -> int:
        """See `Saver.compact`."""
        return await self._write(lambda c: sql_write.compact(c, self.epoch, label, keep))

    async def _read(self, work: Callable[[Connection], _T]) -> _T:
        return await self._run(self._readers, self._reading, work)

    async def _write(self, work: Callable[[Connection], _T]) -> _T:
        return await self._run(self._writer, self._writing, work)

    async def _run(
        self, threads: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], _T]
    ) -> _T:
        def transaction() -> _T:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except IntegrityError as error:
                raise _ConstraintError(f"database {self._where}: {error.orig}") from error
            except SQLAlchemyError as error:
                cause = getattr(error, "orig", None) or error
                raise StoreError(f"database {self._where}: {cause}") from error

        return await asyncio.get_running_loop().run_in_executor(threads, transaction)


class _ConstraintError(StoreError):
    """The database refused a row; only the transaction it was in is to blame."""


def _prepare(connection: Connection, where: str) -> str:
    schema.metadata.create_all(connection)
    table = schema.stores
    row = connection.execute(select(table)).first()
    if row is None:
        epoch = str(uuid.uuid4())
        connection.execute(
            insert(table).values(ID=1, EPOCH=epoch, SCHEMA_FORMAT=schema.SCHEMA_FORMAT)
        )
        return epoch
    if row.SCHEMA_FORMAT != schema.SCHEMA_FORMAT:
        raise StoreError(
            f"database {where} has tables of format {row.SCHEMA_FORMAT}; this version reads "
            f"format {schema.SCHEMA_FORMAT}: use the version of gatesync that wrote it"
        )
    return str(row.EPOCH)


def _sqlite(url: str, busy_seconds: float) -> tuple[Engine, Engine]:
    try:
        parsed: URL = make_url(url)
    except ArgumentError:
        raise StoreError("the database URL cannot be read; write sqlite:///PATH") from None
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise StoreError(
            f"database {parsed.render_as_string(hide_password=True)}: "
            "this version stores in a SQLite file; write sqlite:///PATH"
        )
    _make_private(Path(parsed.database))
    writing = create_engine(parsed, connect_args={"timeout": _POLL_SECONDS})
    reading = create_engine(parsed, connect_args={"timeout": busy_seconds})
    for engine in (writing, reading):
        event.listen(engine, "connect", _on_connect)
    event.listen(writing, "begin", lambda connection: _begin_writing(connection, busy_seconds))
    event.listen(reading, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return writing, reading


def _make_private(path: Path) -> None:
    """Create the file so that nobody else can read it; SQLite's other files take its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"database file {path}: {error.strerror}") from error


def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # promise 3: a commit is on the disk
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_writing(connection: Connection, busy_seconds: float) -> None:
    # SQLite looks for the lock ever more seldom, down to ten times a second, and nobody queues
    # for it: four busy processes have kept a fifth waiting for 10 s. Asking anew asks more often.
    give_up = time.monotonic() + busy_seconds
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _is_busy(error.orig) or time.monotonic() >= give_up:
                raise
        else:
            return


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)  # above the low byte stands the kind of it
