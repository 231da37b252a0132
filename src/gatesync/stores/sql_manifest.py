"""Reading what a label holds, page by page, inside the caller's transaction.

What it holds now is read from the artifacts, what it held at an earlier revision from the log.
"""

from collections.abc import Iterator
from itertools import islice, starmap
from typing import Any

from sqlalchemy import Connection, Row, select

from gatesync.artifacts.changes import Cursor, Entry, Instruction
from gatesync.stores import schema
from gatesync.stores.sql_read import (
    entry_of,
    head_and_floor,
    head_at,
    identity_columns,
    identity_of,
    is_published,
    latest,
    until,
)
from gatesync.stores.store import Behind, ManifestPage

__all__ = ["read_manifest_page"]


def read_manifest_page(
    connection: Connection,
    epoch: str,
    label: str,
    *,
    at: Cursor | None,
    after: str,
    limit: int,
    at_least: Cursor | None,
) -> ManifestPage:
    """See `Retriever.manifest`."""
    head, floor = head_and_floor(connection, epoch, label)
    for wanted in (at, at_least):
        if wanted is not None and (wanted.epoch != epoch or wanted.revision > head.revision):
            raise Behind(head, wanted)
    if at is None or at.revision == head.revision:
        found = _held_now(connection, label, after, limit + 1)
    else:
        head = head_at(connection, epoch, label, at.revision, floor)
        rows = islice(_held_at(connection, label, at.revision, after, limit + 1), limit + 1)
        found = [entry_of(row, identity_of(row)) for row in rows]
    entries = tuple(found[:limit])
    return ManifestPage(head, entries, entries[-1].api_id if len(found) > limit else None)


def _held_now(connection: Connection, label: str, after: str, limit: int) -> list[Entry]:
    table, details = schema.artifacts, schema.details
    rows = connection.execute(
        select(
            table.c.API_ID,
            *identity_columns(),
            table.c.CONTEXT,
            table.c.DIGEST,
            table.c.CONTENT_SIZE,
            table.c.REVISION,
        )
        .join(details, details.c.API_ID == table.c.API_ID)
        .where(
            table.c.GATEWAY_LABEL == label,
            table.c.GATEWAY_INSTRUCTION == Instruction.PUBLISH.value,
            table.c.API_ID > after,
        )
        .order_by(table.c.API_ID)
        .limit(limit)
    )
    # A start reads very many: `entry_of` takes four times as long.
    return list(starmap(Entry, rows))


def _held_at(
    connection: Connection, label: str, revision: int, after: str, limit: int
) -> Iterator[Row[Any]]:
    table = schema.changes
    while True:
        query = latest(label, until(revision), table.c.API_ID > after, limit=limit)
        rows = connection.execute(query).all()
        yield from filter(is_published, rows)
        if len(rows) < limit:
            return
        after = rows[-1].API_ID  # what was removed by then took places of the page
