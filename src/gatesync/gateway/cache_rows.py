"""The rows of the cache file: their tables, their form, and the checksum that each carries.

    label    a log's state                      entry    its entries, and those that it retains
    applied  what the engine took               content  canonical forms by digest

A row whose checksum does not come out is not believed: a label digest covers api_ids and digests,
and would not notice that, say, an entry's context was damaged. A content has its digest.
"""

from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LogState

__all__ = [
    "FORMAT",
    "SCHEMA",
    "AppliedRow",
    "DamagedError",
    "EntryRow",
    "LabelRow",
    "RowReader",
    "applied_row",
    "entry_row",
    "key_of",
    "label_row",
]

FORMAT: Final = 1
"""Written into the file; one of another format is thrown away. It is only a cache."""

SCHEMA: Final = """
CREATE TABLE label (
    name BLOB PRIMARY KEY, state BLOB NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE entry (
    label BLOB, retained INTEGER, api_id BLOB, digest BLOB NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (label, retained, api_id)
) WITHOUT ROWID;
CREATE INDEX entry_digest ON entry (digest);
CREATE TABLE applied (
    api_id BLOB PRIMARY KEY, label BLOB NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX applied_digest ON applied (digest);
CREATE TABLE content (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL
);
"""
# Contents lie in the order they came, behind a narrow index: to keep them in the order of their
# digests takes twice the time to write, and three times to read.

LabelRow: TypeAlias = tuple[bytes, bytes, int]
EntryRow: TypeAlias = tuple[bytes, int, bytes, bytes, bytes, int]
AppliedRow: TypeAlias = tuple[bytes, bytes, bytes, bytes, int]

_LABEL, _ENTRY, _RETAINED, _APPLIED = range(4)  # where a row's checksum begins

_encoder: Final = msgspec.msgpack.Encoder()
_states: Final = msgspec.msgpack.Decoder(LogState)
_entries: Final = msgspec.msgpack.Decoder(Entry)


class DamagedError(ValueError):
    """A row is not as it was written."""


def key_of(digest: str) -> bytes:
    """A digest, as short as the file holds it."""
    return bytes.fromhex(digest)


def label_row(label: str, state: LogState) -> LabelRow:
    """The row of a label."""
    name, body = label.encode(), _encoder.encode(state)
    return name, body, _sum(_LABEL, name, body)


def entry_row(label: str, entry: Entry, *, retained: bool) -> EntryRow:
    """The row of an entry that a label holds, or retains."""
    name, api_id, digest = label.encode(), entry.api_id.encode(), key_of(entry.digest)
    body = _encoder.encode(entry)
    place = _RETAINED if retained else _ENTRY
    return name, int(retained), api_id, digest, body, _sum(place, name, api_id, digest, body)


def applied_row(wanted: Wanted) -> AppliedRow:
    """The row of an artifact that the engine took."""
    entry, name = wanted.entry, wanted.label.encode()
    api_id, digest, body = entry.api_id.encode(), key_of(entry.digest), _encoder.encode(entry)
    return api_id, name, digest, body, _sum(_APPLIED, name, api_id, digest, body)


class RowReader:
    """Reads rows back. What was applied is mostly what a label holds: one value serves both."""

    def __init__(self) -> None:
        self._known: dict[bytes, Entry] = {}

    def label(self, row: LabelRow) -> tuple[str, LogState]:
        """Raises `DamagedError`."""
        name, body, total = row
        _check(total, _LABEL, name, body)
        try:
            return name.decode(), _states.decode(body)
        except ValueError as error:  # also msgspec's, and what is not UTF-8
            raise DamagedError(str(error)) from error

    def entry(self, row: EntryRow) -> Entry:
        """Raises `DamagedError`."""
        name, retained, api_id, digest, body, total = row
        _check(total, _RETAINED if retained else _ENTRY, name, api_id, digest, body)
        return self._decode(body)

    def applied(self, row: AppliedRow) -> Wanted:
        """Raises `DamagedError`."""
        api_id, name, digest, body, total = row
        _check(total, _APPLIED, name, api_id, digest, body)
        try:
            return Wanted(name.decode(), self._decode(body))
        except UnicodeDecodeError as error:
            raise DamagedError(str(error)) from error

    def _decode(self, body: bytes) -> Entry:
        entry = self._known.get(body)
        if entry is None:
            try:
                entry = self._known[body] = _entries.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DamagedError(str(error)) from error
        return entry


def _check(total: int, place: int, *columns: bytes) -> None:
    # SQLite keeps whatever a column was given: a number may stand where bytes are expected.
    if not all(isinstance(each, bytes) for each in columns) or _sum(place, *columns) != total:
        raise DamagedError("its checksum does not come out")


def _sum(place: int, *columns: bytes) -> int:
    total = place
    for each in columns:
        total = crc32(each, total)
    return total
