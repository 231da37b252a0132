"""The artifact store in a SQL database, through SQLAlchemy Core.

One way for every database: plain Core in threads of its own, one that writes, a few that read
(docs/decisions/0013).
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from gatesync.artifacts.changes import ChangeSet, Confirmation, Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores import (
    sql_attestations,
    sql_compact,
    sql_history,
    sql_issues,
    sql_leases,
    sql_manifest,
    sql_read,
    sql_write,
)
from gatesync.stores.leases import Lease
from gatesync.stores.receipts import ReceiptBook
from gatesync.stores.sql_opening import make_engines, prepare, shown
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_receipts import open_sql_receipt_book
from gatesync.stores.sql_running import ConstraintError, Lane
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Behind,
    Delta,
    History,
    ManifestPage,
    Refused,
    SaveOutcome,
    Sign,
    SignConfirmation,
    StoreError,
)

__all__ = ["SqlOptions", "SqlStore", "open_sql_store"]

_T = TypeVar("_T")


@asynccontextmanager
async def open_sql_store(
    url: str | URL | SqlSource, options: SqlOptions | None = None
) -> AsyncIterator["SqlStore"]:
    """Open the database, make what is missing in it, and close it at the end.

    Args:
        url: `sqlite:///PATH`, `postgresql://...`, `mysql://...` or `mariadb://...`; a driver in
            it (`postgresql+...`) is not heeded. A source says more: TLS, several hosts.
        options: times and numbers, where they should not be the usual ones.

    Raises:
        StoreError: the database cannot be opened, or its tables are not ours.
    """
    options = options or SqlOptions()
    store = SqlStore(url, *await asyncio.to_thread(make_engines, url, options), options)
    try:
        await store.prepare()
        yield store
    finally:
        await store.close()


class SqlStore:
    """`Saver` on SQLAlchemy: an engine that writes, one that reads. Use `open_sql_store`.

    `commits` counts the transactions that `save` committed.
    """

    def __init__(
        self, source: str | URL | SqlSource, writing: Engine, reading: Engine, options: SqlOptions
    ) -> None:
        self.epoch = ""
        self.commits = 0
        self._source = source
        self._options = options
        self._where = where = shown(writing.url)
        self._writing = Lane(
            writing, threads=1, name="store-write", where=where, deadline=options.deadline
        )
        self._reading = Lane(
            reading,
            threads=options.readers,
            name="store-read",
            where=where,
            deadline=options.deadline,
        )
        self._with_head: set[str] = set()  # labels that are known to have a head row

    async def prepare(self) -> None:
        """Create the tables where they are missing and learn the epoch."""
        self.epoch = await self._write(lambda c: prepare(c, self._where))

    async def close(self) -> None:
        """End the threads and the connections, after what they are doing."""
        await self._writing.close()
        await self._reading.close()

    def receipt_book(self) -> AbstractAsyncContextManager[ReceiptBook]:
        """See `KeepsReceipts`: the book is a table of this database."""
        return open_sql_receipt_book(self._source, self._options)

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
            lambda c: sql_manifest.read_manifest_page(
                c, self.epoch, label, at=at, after=after, limit=limit, at_least=at_least
            )
        )

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        return await self._read(lambda c: sql_read.read_digest_at(c, self.epoch, label, cursor))

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`."""
        return await self._read(lambda c: sql_read.read_contents(c, digests))

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        return await self._read(
            lambda c: sql_attestations.read_attestations(c, label, after, limit)
        )

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        """See `Saver.save`."""
        if not requests:
            return []
        try:
            await self._make_heads({label for each in requests for label in each.labels})
            tries = itertools.count()
            answers = await self._write(
                lambda c: sql_write.append(c, self.epoch, requests, sign, look_up=bool(next(tries)))
            )
        except ConstraintError as error:
            if len(requests) == 1:
                return [Refused((str(error),))]
            return await self._save_each(requests, sign)
        self.commits += 1
        return answers

    async def _save_each(
        self, requests: Sequence[SaveRequest], sign: Sign | None
    ) -> list[SaveOutcome | Refused]:
        answers: list[SaveOutcome | Refused] = []
        for each in requests:
            try:
                answers += await self.save([each], sign=sign)
            except StoreError as error:  # some are saved: all are told that they may be
                raise StoreError(str(error), unsure=error.unsure or bool(answers)) from error
        return answers

    async def preview(self, requests: Sequence[SaveRequest]) -> list[SaveOutcome | Refused]:
        """See `Saver.preview`."""
        return await self._read(lambda c: sql_write.preview(c, self.epoch, requests))

    async def history(self, name: str) -> History:
        """See `Saver.history`."""
        return await self._read(lambda c: sql_history.read_history(c, name))

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """See `Saver.sizes`."""
        return await self._read(lambda c: sql_read.read_sizes(c, digests))

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        """See `Saver.change_sets`."""
        return await self._read(
            lambda c: sql_read.read_change_sets(c, self.epoch, label, since, limit)
        )

    async def confirm(
        self, label: str, confirmation_id: str, *, sign: SignConfirmation | None = None
    ) -> Confirmation:
        """See `Saver.confirm`."""

        def write(connection: Connection) -> Confirmation:
            head = sql_write.lock_heads(connection, self.epoch, [label])[label]
            confirmation = Confirmation(confirmation_id, self.epoch, head.revision)
            if sign is not None:
                confirmation = sign(label, confirmation)
            sql_write.write_confirmation(connection, label, confirmation)
            return confirmation

        await self._make_heads({label})
        return await self._write(write)

    async def keep_issues(self, publisher: str, heads: Sequence[Head], issued_at: int) -> None:
        """See `KeepsIssues.keep_issues`."""
        await self._write(lambda c: sql_issues.write_issues(c, publisher, heads, issued_at))

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> Lease:
        """See `KeepsLeases.acquire_lease`."""
        return await self._write(lambda c: sql_leases.acquire(c, name, holder, seconds))

    async def renew_lease(self, lease: Lease, seconds: float) -> bool:
        """See `KeepsLeases.renew_lease`."""
        return await self._write(lambda c: sql_leases.renew(c, lease, seconds))

    async def release_lease(self, lease: Lease) -> None:
        """See `KeepsLeases.release_lease`."""
        await self._write(lambda c: sql_leases.release(c, lease))

    async def compact(self, label: str, keep: int, young: int | None = None) -> int:
        """See `Saver.compact`. In steps, so that nobody waits long for the label."""
        await self._make_heads({label})
        while True:
            floor, more = await self._write(lambda c: sql_compact.compact(c, label, keep, young))
            if not more:
                return floor

    async def _make_heads(self, labels: set[str]) -> None:
        missing = labels - self._with_head
        if missing:
            await self._write(lambda c: sql_write.make_heads(c, missing))
            self._with_head |= missing

    async def _read(self, work: Callable[[Connection], _T]) -> _T:
        return await self._reading.run(work)

    async def _write(self, work: Callable[[Connection], _T]) -> _T:
        try:
            return await self._writing.run(work)
        except StoreError:
            self._with_head.clear()  # perhaps it is another database now
            raise
