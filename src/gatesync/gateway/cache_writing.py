"""What one transaction of the cache writes, and how.

rows that changed → the contents they need → away with contents that nothing needs any more
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.signatures import Attestation
from gatesync.gateway.cache_rows import (
    applied_row,
    attestation_row,
    entry_row,
    key_of,
    label_row,
)
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
        attestations: by label and epoch.
        attested: of these labels, of which revisions attestations are still needed.
    """

    labels: tuple[LabelPart, ...] = ()
    forgotten: frozenset[str] = frozenset()
    applied: Mapping[str, Wanted | None] = {}
    whole: bool = False
    contents: Mapping[str, bytes] = {}
    served: Mapping[str, bytes] = {}
    attestations: Mapping[tuple[str, str], Mapping[int, Attestation]] = {}
    attested: Mapping[str, frozenset[int]] = {}


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
        return _Writing(db).write(batch, rejected)


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


class _Writing:
    """One transaction: what it saw of digests saves asking for them again."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._referred: set[bytes] = set()  # digests of the rows that were written
        self._gone: set[bytes] = set()  # digests that may have lost their last reference
        self._present: set[bytes] = set()  # digests whose contents are there

    def write(self, batch: Batch, rejected: Rejected | None) -> list[str]:
        """See `write_batch`."""
        if rejected is not None:
            self._remove(rejected)
        for label in batch.forgotten:
            self._forget(label)
            self._db.execute("DELETE FROM attestation WHERE label = ?", (label.encode(),))
        for part in batch.labels:
            self._write_label(part)
        self._write_applied(batch)
        self._write_attestations(batch)
        for digest, content in batch.contents.items():
            self._write_content(key_of(digest), content)
        for digest, content in batch.served.items():
            if digest_of(content) == digest:
                self._write_content(key_of(digest), content)
        whole = batch.whole or any(part.whole for part in batch.labels)
        if rejected is not None or whole or batch.forgotten:
            self._sweep()
        else:
            self._drop_contents()
        return [
            api_id
            for api_id, wanted in batch.applied.items()
            if wanted is not None and not self._has_content(key_of(wanted.entry.digest))
        ]

    def _remove(self, rejected: Rejected) -> None:
        for name in rejected.labels:
            self._db.execute("DELETE FROM label WHERE name IS ?", (name,))
        self._db.execute("DELETE FROM entry WHERE label NOT IN (SELECT name FROM label)")
        self._db.execute("DELETE FROM attestation WHERE label NOT IN (SELECT name FROM label)")
        for api_id in rejected.applied:
            self._db.execute("DELETE FROM applied WHERE api_id IS ?", (api_id,))
        for digest in rejected.contents:
            self._db.execute("DELETE FROM content WHERE digest = ?", (digest,))

    def _forget(self, label: str) -> None:
        self._db.execute("DELETE FROM label WHERE name = ?", (label.encode(),))
        self._db.execute("DELETE FROM entry WHERE label = ?", (label.encode(),))

    def _write_label(self, part: LabelPart) -> None:
        if part.whole:
            self._forget(part.label)
        self._db.execute("REPLACE INTO label VALUES (?, ?, ?)", label_row(part.label, part.state))
        for retained, entries in enumerate((part.entries, part.retained)):
            for api_id, entry in entries.items():
                key = (part.label.encode(), retained, api_id.encode())
                found = self._db.execute(
                    "SELECT digest, sum FROM entry WHERE label = ? AND retained = ? AND api_id = ?",
                    key,
                )
                before = found.fetchone()
                if entry is not None:
                    row = entry_row(part.label, entry, retained=bool(retained))
                    if self._moves(before, (row[3], row[5])):
                        self._db.execute("REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)", row)
                elif self._moves(before, None):
                    self._db.execute(
                        "DELETE FROM entry WHERE label = ? AND retained = ? AND api_id = ?", key
                    )

    def _write_applied(self, batch: Batch) -> None:
        if batch.whole:
            self._db.execute("DELETE FROM applied")
        for api_id, wanted in batch.applied.items():
            key = (api_id.encode(),)
            found = self._db.execute("SELECT digest, sum FROM applied WHERE api_id = ?", key)
            before = found.fetchone()
            if wanted is not None:
                row = applied_row(wanted)
                if self._moves(before, (row[2], row[4])):
                    self._db.execute("REPLACE INTO applied VALUES (?, ?, ?, ?, ?)", row)
            elif self._moves(before, None):
                self._db.execute("DELETE FROM applied WHERE api_id = ?", key)

    def _write_attestations(self, batch: Batch) -> None:
        for (label, epoch), each in batch.attestations.items():
            rows = [attestation_row(label, epoch, attestation) for attestation in each.values()]
            self._db.executemany("REPLACE INTO attestation VALUES (?, ?, ?, ?)", rows)
        for label, revisions in batch.attested.items():
            name = label.encode()
            found = self._db.execute("SELECT revision FROM attestation WHERE label = ?", (name,))
            gone = [(name, revision) for (revision,) in found if revision not in revisions]
            self._db.executemany("DELETE FROM attestation WHERE label = ? AND revision = ?", gone)

    def _moves(self, before: tuple[bytes, int] | None, after: tuple[bytes, int] | None) -> bool:
        """Whether a row changes, given its digest and checksum before and after."""
        if before is not None and (after is None or after[0] != before[0]):
            self._gone.add(before[0])
        if after is not None:
            self._referred.add(after[0])
        return before != after

    def _write_content(self, digest: bytes, content: bytes) -> None:
        """Write it if something refers to it."""
        referred = digest in self._referred or self._is_referred(digest)
        if referred and not self._has_content(digest):
            row = (digest, content)
            self._db.execute("INSERT INTO content (digest, body) VALUES (?, ?)", row)
            self._present.add(digest)

    def _drop_contents(self) -> None:
        for digest in self._gone - self._referred:
            if not self._is_referred(digest):
                self._db.execute("DELETE FROM content WHERE digest = ?", (digest,))

    def _sweep(self) -> None:
        """Remove every content that nothing refers to. Reads the indexes, not the contents."""
        self._db.execute(
            "DELETE FROM content WHERE"
            " NOT EXISTS (SELECT 1 FROM entry WHERE entry.digest = content.digest)"
            " AND NOT EXISTS (SELECT 1 FROM applied WHERE applied.digest = content.digest)"
        )

    def _has_content(self, digest: bytes) -> bool:
        if digest not in self._present:
            found = self._db.execute("SELECT 1 FROM content WHERE digest = ?", (digest,))
            if found.fetchone() is None:
                return False
            self._present.add(digest)
        return True

    def _is_referred(self, digest: bytes) -> bool:
        [[referred]] = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM entry WHERE digest = ?1)"
            " OR EXISTS (SELECT 1 FROM applied WHERE digest = ?1)",
            (digest,),
        )
        return bool(referred)
