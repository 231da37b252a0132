"""What one transaction of the cache writes, and how.

rows that changed → the contents they need → away with contents that nothing needs any more
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.gateway.cache_rows import applied_row, entry_row, key_of, label_row
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LogState

__all__ = ["Batch", "LabelPart", "Rejected", "write_batch"]


class LabelPart(msgspec.Struct, frozen=True):
    """One label as of one moment: its state, and the entries that differ from the file's.

    None stands for one that is not there. A `whole` part is all that there is of the label.
    """

    label: str
    state: LogState
    entries: Mapping[str, Entry | None]
    retained: Mapping[str, Entry | None]
    whole: bool


class Batch(msgspec.Struct, frozen=True):
    """What is written in one transaction, taken from the live objects at one moment.

    Attributes:
        labels: those that moved.
        forgotten: labels to forget.
        applied: what changed of what the engine took, by api_id; None for what it has no longer.
        whole: `applied` is all that there is.
        contents: verified, by digest.
        served: by digest; not verified yet.
    """

    labels: tuple[LabelPart, ...] = ()
    forgotten: frozenset[str] = frozenset()
    applied: Mapping[str, Wanted | None] = {}
    whole: bool = False
    contents: Mapping[str, bytes] = {}
    served: Mapping[str, bytes] = {}


class Rejected(msgspec.Struct):
    """What was read and not believed, or belongs to nobody: keys as they stand in the file."""

    labels: list[bytes] = []
    applied: list[bytes] = []
    contents: list[bytes] = []


def write_batch(db: sqlite3.Connection, batch: Batch, rejected: Rejected | None) -> list[str]:
    """Write all of it or nothing.

    Args:
        db: in autocommit mode; this opens its own transaction.
        batch: what to write.
        rejected: what to remove before; None where nothing was read since the last time.

    Returns:
        which of the applied api_ids have no contents in the file.

    Raises:
        sqlite3.Error: nothing was written.
    """
    with _transaction(db):
        gone: set[bytes] = set()
        if rejected is not None:
            _remove(db, rejected)
        for label in batch.forgotten:
            _forget(db, label)
        for part in batch.labels:
            gone |= _write_label(db, part)
        gone |= _write_applied(db, batch)
        _write_contents(db, batch.contents.items())
        _write_contents(
            db, (each for each in batch.served.items() if digest_of(each[1]) == each[0])
        )
        if (
            rejected is not None
            or batch.whole
            or batch.forgotten
            or any(part.whole for part in batch.labels)
        ):
            _sweep(db)
        else:
            _drop_contents(db, gone)
        return [
            api_id
            for api_id, wanted in batch.applied.items()
            if wanted is not None and not _has_content(db, key_of(wanted.entry.digest))
        ]


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block is committed, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _remove(db: sqlite3.Connection, rejected: Rejected) -> None:
    for name in rejected.labels:
        db.execute("DELETE FROM label WHERE name IS ?", (name,))
    db.execute("DELETE FROM entry WHERE label NOT IN (SELECT name FROM label)")
    for api_id in rejected.applied:
        db.execute("DELETE FROM applied WHERE api_id IS ?", (api_id,))
    for digest in rejected.contents:
        db.execute("DELETE FROM content WHERE digest = ?", (digest,))


def _forget(db: sqlite3.Connection, label: str) -> None:
    db.execute("DELETE FROM label WHERE name = ?", (label.encode(),))
    db.execute("DELETE FROM entry WHERE label = ?", (label.encode(),))


def _write_label(db: sqlite3.Connection, part: LabelPart) -> set[bytes]:
    """Answers with the digests that may have lost their last reference."""
    gone: set[bytes] = set()
    if part.whole:
        _forget(db, part.label)
    db.execute("REPLACE INTO label VALUES (?, ?, ?)", label_row(part.label, part.state))
    for retained, entries in enumerate((part.entries, part.retained)):
        for api_id, entry in entries.items():
            key = (part.label.encode(), retained, api_id.encode())
            before = None
            if not part.whole:
                before = db.execute(
                    "SELECT digest, sum FROM entry WHERE (label, retained, api_id) = (?, ?, ?)", key
                ).fetchone()
            row = None if entry is None else entry_row(part.label, entry, retained=bool(retained))
            if row is not None and before != (row[3], row[5]):
                db.execute("REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)", row)
            if row is None and before is not None:
                db.execute("DELETE FROM entry WHERE (label, retained, api_id) = (?, ?, ?)", key)
            if before is not None and (row is None or row[3] != before[0]):
                gone.add(before[0])
    return gone


def _write_applied(db: sqlite3.Connection, batch: Batch) -> set[bytes]:
    """Answers with the digests that may have lost their last reference."""
    gone: set[bytes] = set()
    if batch.whole:
        db.execute("DELETE FROM applied")
    for api_id, wanted in batch.applied.items():
        key = (api_id.encode(),)
        before = db.execute("SELECT digest, sum FROM applied WHERE api_id = ?", key).fetchone()
        row = None if wanted is None else applied_row(wanted)
        if row is not None and before != (row[2], row[4]):
            db.execute("REPLACE INTO applied VALUES (?, ?, ?, ?, ?)", row)
        if row is None and before is not None:
            db.execute("DELETE FROM applied WHERE api_id = ?", key)
        if before is not None and (row is None or row[2] != before[0]):
            gone.add(before[0])
    return gone


def _write_contents(db: sqlite3.Connection, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write those that something refers to."""
    for digest, content in contents:
        key = key_of(digest)
        if not _has_content(db, key) and _is_referred(db, key):
            db.execute("INSERT INTO content (digest, body) VALUES (?, ?)", (key, content))


def _drop_contents(db: sqlite3.Connection, digests: Iterable[bytes]) -> None:
    for digest in digests:
        if not _is_referred(db, digest):
            db.execute("DELETE FROM content WHERE digest = ?", (digest,))


def _sweep(db: sqlite3.Connection) -> None:
    """Remove every content that nothing refers to. Reads the indexes, not the contents."""
    db.execute(
        "DELETE FROM content WHERE"
        " NOT EXISTS (SELECT 1 FROM entry WHERE entry.digest = content.digest)"
        " AND NOT EXISTS (SELECT 1 FROM applied WHERE applied.digest = content.digest)"
    )


def _has_content(db: sqlite3.Connection, digest: bytes) -> bool:
    return bool(db.execute("SELECT 1 FROM content WHERE digest = ?", (digest,)).fetchone())


def _is_referred(db: sqlite3.Connection, digest: bytes) -> bool:
    [[referred]] = db.execute(
        "SELECT EXISTS (SELECT 1 FROM entry WHERE digest = ?1)"
        " OR EXISTS (SELECT 1 FROM applied WHERE digest = ?1)",
        (digest,),
    )
    return bool(referred)
