"""The rows of the cache file: their tables, their form, and the checksum that each carries.

    label    a log's state                      entry    its entries, and those that it retains
    applied  what the engine took               content  canonical forms by digest
    attestation  what proves that a revision was signed, where the node asks for that

A row whose checksum does not come out is not believed: a label digest covers api_ids and digests,
and would not notice that, say, an entry's context was damaged. A content has its digest.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.signatures import Attestation
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LogState

__all__ = [
    "FORMAT",
    "SCHEMA",
    "SCHEMA_SINCE",
    "AppliedRow",
    "DamagedError",
    "EntryRow",
    "LabelRow",
    "RowReader",
    "applied_row",
    "attestation_row",
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
SCHEMA_SINCE: Final = """
CREATE TABLE IF NOT EXISTS attestation (
    label BLOB, epoch BLOB, revision INTEGER, body BLOB NOT NULL,
    PRIMARY KEY (label, epoch, revision)
) WITHOUT ROWID;
"""
"""What came later, and earlier versions do not look at. It needs no checksum: it is signed."""
# Contents lie in the order they came, behind a narrow index: to keep them in the order of their
# digests takes twice the time to write, and three times to read.

LabelRow: TypeAlias = tuple[bytes, bytes, int]
EntryRow: TypeAlias = tuple[bytes, int, bytes, bytes, bytes, int]
AppliedRow: TypeAlias = tuple[bytes, bytes, bytes, bytes, int]
AttestationRow: TypeAlias = tuple[bytes, bytes, int, bytes]

_LABEL, _ENTRY, _RETAINED, _APPLIED = range(4)  # so that no row passes for one of another kind

_encoder: Final = msgspec.msgpack.Encoder()
_states: Final = msgspec.msgpack.Decoder(LogState)
_entries: Final = msgspec.msgpack.Decoder(Entry)
_attestations: Final = msgspec.msgpack.Decoder(Attestation)


class DamagedError(ValueError):
    """A row is not as it was written."""


def key_of(digest: str) -> bytes:
    """A digest, as short as the file holds it."""
    return bytes.fromhex(digest)


def label_row(label: str, state: LogState) -> LabelRow:
    """The row of a label."""
    name, body = label.encode(), _encoder.encode(state)
    return name, body, crc32(body, crc32(name, _LABEL))


def entry_row(label: str, entry: Entry, *, retained: bool) -> EntryRow:
    """The row of an entry that a label holds, or retains."""
    name, body = label.encode(), _encoder.encode(entry)
    total = crc32(body, crc32(name, _RETAINED if retained else _ENTRY))
    return name, int(retained), entry.api_id.encode(), key_of(entry.digest), body, total


def applied_row(wanted: Wanted) -> AppliedRow:
    """The row of an artifact that the engine took."""
    name, entry = wanted.label.encode(), wanted.entry
    body = _encoder.encode(entry)
    total = crc32(body, crc32(name, _APPLIED))
    return entry.api_id.encode(), name, key_of(entry.digest), body, total


def attestation_row(label: str, epoch: str, attestation: Attestation) -> AttestationRow:
    """The row of an attestation."""
    body = _encoder.encode(attestation)
    return label.encode(), epoch.encode(), attestation.revision, body


class RowReader:
    """Reads rows back; its methods raise `DamagedError`.

    What was applied is mostly what a label holds: read after the entries, it costs no decoding,
    and one value in memory serves both.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Entry] = {}

    def label(self, name: bytes, body: bytes, total: int) -> tuple[str, LogState]:
        """A label and its log's state."""
        try:
            _check(crc32(body, crc32(name, _LABEL)) == total)
            return name.decode(), _states.decode(body)
        except _UNREADABLE as error:
            raise DamagedError(str(error)) from error

    def entries(
        self, label: str, rows: Iterable[tuple[int, bytes, bytes, int]]
    ) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """What a label holds, and what it retains. Rows: retained, api_id, body, sum."""
        held: tuple[dict[str, Entry], dict[str, Entry]] = {}, {}
        begins = [crc32(label.encode(), place) for place in (_ENTRY, _RETAINED)]
        for retained, api_id, body, total in rows:
            try:
                _check(crc32(body, begins[retained]) == total)
                self._known[body] = entry = _entries.decode(body)
                _check(entry.api_id.encode() == api_id)
            except _UNREADABLE as error:
                raise DamagedError(f"entry {api_id!r}: {error}") from error
            held[retained][entry.api_id] = entry
        return held

    def attestation(self, epoch: bytes, body: bytes) -> tuple[str, Attestation]:
        """An attestation and its epoch. It is to be verified before it proves anything."""
        try:
            return epoch.decode(), _attestations.decode(body)
        except _UNREADABLE as error:
            raise DamagedError(str(error)) from error

    def applied(self, api_id: bytes, name: bytes, body: bytes, total: int) -> Wanted:
        """What the engine took."""
        try:
            _check(crc32(body, crc32(name, _APPLIED)) == total)
            entry = self._known.get(body) or _entries.decode(body)
            _check(entry.api_id.encode() == api_id)
            return Wanted(name.decode(), entry)
        except _UNREADABLE as error:
            raise DamagedError(str(error)) from error


# SQLite keeps whatever a column was given: a text or a number may stand where bytes are expected.
_UNREADABLE: Final = (DamagedError, msgspec.DecodeError, UnicodeDecodeError, TypeError, IndexError)


def _check(good: bool) -> None:
    if not good:
        raise DamagedError("its checksum does not come out")
