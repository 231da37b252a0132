"""The log as a gateway reads it, straight from the publishers' database.

Nothing is written, nothing is created, and no transaction outlives the question it was for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest, digest_of
from gatesync.artifacts.signatures import Attestation
from gatesync.stores import schema, sql_attestations, sql_issues, sql_manifest, sql_read
from gatesync.stores.sql_opening import make_reading_engine, read_epoch, shown
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_running import Lane
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Behind,
    Delta,
    ManifestPage,
    StoreError,
)

__all__ = ["READ_TABLES", "SqlRetriever", "open_sql_retriever"]

READ_TABLES: Final = (
    schema.stores,
    schema.heads,
    schema.change_sets,
    schema.changes,
    schema.details,
    schema.artifacts,
    schema.old_contents,
    schema.attestations,
    schema.issued_heads,
)
"""What its user needs SELECT on."""

_log = structlog.get_logger("gatesync.gateway")

_T = TypeVar("_T")


@asynccontextmanager
async def open_sql_retriever(
    url: str | URL | SqlSource, options: SqlOptions | None = None
) -> AsyncIterator["SqlRetriever"]:
    """Read from a database, which need not be there yet; close its connections at the end.

    Args:
        url: as for `open_sql_store`; it may be a replica's.
        options: times and numbers, where they should not be the usual ones.
    """
    retriever = SqlRetriever(url, options or SqlOptions())
    try:
        yield retriever
    finally:
        await retriever.close()


class SqlRetriever:
    """`Retriever` on a database. Use `open_sql_retriever`.

    Every question is an error until a publisher has made the tables. The epoch is read with
    each answer: a backup that takes the database's place is seen as another history.

    Attributes:
        digests_at_once: see `store.digests_at_once`.
    """

    digests_at_once: Final = 1_000

    def __init__(self, url: str | URL | SqlSource, options: SqlOptions) -> None:
        self._url = url
        self._options = options
        self._lane: Lane | None = None
        self._where = ""
        self._no_issues = ""
        self._made = False  # whether the tables were there the last time
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """End the threads and the connections, after what they are doing."""
        if self._lane is not None:
            await self._lane.close()

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`. Each with the newest signature that a publisher gave to it."""
        found = await self._read(lambda c, epoch: sql_read.read_heads(c, epoch, labels))
        found = await self._issued(found)
        for label, wanted in (at_least or {}).items():
            head = found[label]
            if head.epoch != wanted.epoch or head.revision < wanted.revision:
                raise Behind(head, wanted)
        return found

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        return await self._read(lambda c, epoch: sql_read.read_changes(c, epoch, label, since))

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
            lambda c, epoch: sql_manifest.read_manifest_page(
                c, epoch, label, at=at, after=after, limit=limit, at_least=at_least
            )
        )

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        return await self._read(lambda c, epoch: sql_read.read_digest_at(c, epoch, label, cursor))

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        return await self._read(
            lambda c, _epoch: sql_attestations.read_attestations(c, label, after, limit)
        )

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`. What does not match its digest counts as not there."""

        def read(connection: Connection, _epoch: str) -> dict[str, bytes]:
            found = sql_read.read_contents(connection, digests)
            return {each: body for each, body in found.items() if digest_of(body) == each}

        return await self._read(read)  # promise 8

    async def _issued(self, heads: dict[str, Head]) -> dict[str, Head]:
        """In a transaction of its own: whoever asks for no signatures may not be let read them."""
        try:
            issued = await self._read(lambda c, _epoch: sql_issues.read_issues(c, heads))
        except StoreError as error:
            if str(error) != self._no_issues:
                _log.warning("signed heads cannot be read", reason=str(error))
            self._no_issues = str(error)
            return heads
        self._no_issues = ""
        return issued

    async def _read(self, work: Callable[[Connection, str], _T]) -> _T:
        lane = await self._connected()

        def read(connection: Connection) -> _T:
            epoch = read_epoch(connection, self._where, made=self._made)
            self._made = epoch is not None
            if epoch is None:
                raise StoreError(
                    f"database {self._where} has no tables of gatesync yet; start a publisher "
                    "that uses it, or mend the url"
                )
            return work(connection, epoch)

        try:
            return await lane.run(read)
        except StoreError:
            self._made = False  # the tables may be gone
            raise

    async def _connected(self) -> Lane:
        """The lane; made when it is needed, since a server has to be asked for its kind."""
        async with self._connecting:
            if self._lane is None:
                engine = await asyncio.to_thread(make_reading_engine, self._url, self._options)
                self._where = shown(engine.url)
                self._lane = Lane(
                    engine,
                    threads=self._options.readers,
                    name="store-read",
                    where=self._where,
                    deadline=self._options.deadline,
                )
            return self._lane
