"""Heads that publishers signed, for gateways that read the database: nobody signs in between.

Each publisher keeps its own, written anew at each heartbeat; those of one that is gone are taken
away by the others. Plain functions on one connection, inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select

from gatesync.artifacts.changes import Head
from gatesync.stores import schema
from gatesync.stores.sql_rows import insert_rows

__all__ = ["read_issues", "write_issues"]

PART_HEADS: Final = 2_000  # some 700 kB in a row
GONE_MS: Final = 3_600_000  # a publisher that wrote nothing for so long by our clock

_issued = schema.issued_heads
_decoder: Final = msgspec.msgpack.Decoder(list[Head])


def write_issues(
    connection: Connection, publisher: str, heads: Sequence[Head], issued_at: int
) -> None:
    """Keep these as the publisher's last; what it wrote before goes. `issued_at` is now, in ms."""
    connection.execute(delete(_issued).where(_issued.c.PUBLISHER == publisher))
    rows = [
        dict(
            PUBLISHER=publisher,
            PART=number,
            ISSUED_AT=issued_at,
            HEADS=msgspec.msgpack.encode(heads[start : start + PART_HEADS]),
        )
        for number, start in enumerate(range(0, len(heads), PART_HEADS))
    ]
    insert_rows(connection, _issued, rows)
    # Looked for without a lock: two publishers that clean up at once would wait for each other.
    gone = select(_issued.c.PUBLISHER).where(_issued.c.ISSUED_AT < issued_at - GONE_MS).distinct()
    for name in sorted(connection.scalars(gone)):
        connection.execute(delete(_issued).where(_issued.c.PUBLISHER == name))


def read_issues(connection: Connection, heads: Mapping[str, Head]) -> dict[str, Head]:
    """Each head with the newest signature that was given to just this one, where there is any."""
    found = dict(heads)
    newest_first = select(_issued.c.HEADS).order_by(_issued.c.ISSUED_AT.desc())
    missing = set(found)
    for row in connection.execute(newest_first):
        for issued in _decode(bytes(row.HEADS)):
            if issued.label in missing and found[issued.label] == _bare(issued):
                found[issued.label] = issued
                missing.discard(issued.label)
        if not missing:
            break
    return found


def _decode(blob: bytes) -> list[Head]:
    """What a publisher wrote; none where it is something else, or of a later version."""
    try:
        return _decoder.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _bare(head: Head) -> Head:
    return msgspec.structs.replace(head, issue=None)
