"""The file of the last-known-good cache: SQLite, for one thread of one process.

    CACHE/lock       held as long as a gateway uses the folder, even if it cannot write there
    CACHE/cache.db   with -wal and -shm beside it while it is open

Nothing in it is believed because it is there: rows have checksums, a label's entries add up to its
digest, contents have theirs (promise 8). A file that SQLite or this version cannot read is thrown
away, and begun anew: all that it holds can be fetched again.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.signatures import Attestation
from gatesync.gateway.cache_rows import (
    FORMAT,
    SCHEMA,
    SCHEMA_SINCE,
    DamagedError,
    RowReader,
    key_of,
)
from gatesync.gateway.cache_writing import Batch, Rejected, write_batch
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LabelLog, LogState

__all__ = ["CacheFile", "CacheInUseError", "Found", "UntrustedError"]

BUSY_SECONDS: Final = 1.0  # nobody else should have the file open, but somebody may look into it
LOG_PAGES: Final = 4096  # 16 MiB: then they are copied into the file, and both are synced
ASKED_AT_ONCE: Final = 500  # digests in one question; SQLite takes 999 everywhere

# It is no database, or is damaged, or lacks the tables that its format says it has. Anything
# else (full, read-only, locked, unreadable) says nothing of what the file holds.
_UNTRUSTED: Final = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}


class CacheInUseError(Exception):
    """Another process uses this folder."""


class UntrustedError(Exception):
    """The file could not be trusted, and was thrown away."""


class Found(msgspec.Struct):
    """What was read; `damaged` says what was there and not believed.

    `attestations` by label and epoch, where they were asked for.
    """

    labels: dict[str, LabelLog] = {}
    applied: dict[str, Wanted] = {}
    contents: dict[str, bytes] = {}
    attestations: dict[str, dict[str, list[Attestation]]] = {}
    damaged: list[str] = []


class CacheFile:
    """One thread uses it. It is opened when it is first needed, and again after an error.

    Every method raises `OSError` or `sqlite3.Error` where the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cache.db"
        self._folder = folder
        self._locks = contextlib.ExitStack()
        self._locked = False
        self._db: sqlite3.Connection | None = None
        self._writable = False
        self._rejected: Rejected | None = None

    def lock(self) -> None:
        """Make the folder, and keep others out of it: two writers would mix what they know.

        Raises:
            CacheInUseError: another process has it.
        """
        if self._locked:
            return
        path = self._folder / "lock"
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700, parents=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:  # a disk that cannot be written can be locked
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                raise error from None
        file = self._locks.enter_context(os.fdopen(descriptor, "r"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.readline(20).strip()
            self._locks.close()
            raise CacheInUseError(
                f"another gateway (process {owner or 'unknown'}) uses the cache in {self._folder}; "
                "end it, or give this one another folder in [gatesync] data"
            ) from None
        except BaseException:
            self._locks.close()
            raise
        self._locked = True  # the system lets go of it even after SIGKILL
        with contextlib.suppress(OSError):  # it only tells people who has it
            os.truncate(path, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def load(self, labels: Collection[str] | None, *, attested: bool = False) -> Found:
        """Read all but the contents, and forget other labels; None keeps every one.

        Attestations are read where they are asked for.

        Raises:
            UntrustedError: there was a file, and now there is none.
        """
        with self._trusting():
            db = self._open(writing=False)
            found, reader = Found(), RowReader()
            self._rejected = rejected = Rejected()
            for row in db.execute("SELECT name, state, sum FROM label").fetchall():
                try:
                    label, state = reader.label(*row)
                    if labels is None or label in labels:
                        found.labels[label] = _log_in(db, reader, label, state)
                    else:
                        rejected.labels.append(row[0])
                except (DamagedError, FormatError) as error:
                    found.damaged.append(f"label {row[0]!r}: {error}")
                    rejected.labels.append(row[0])
            for row in db.execute("SELECT api_id, label, body, sum FROM applied"):
                try:
                    wanted = reader.applied(*row)
                except DamagedError as error:
                    found.damaged.append(f"applied artifact {row[0]!r}: {error}")
                    rejected.applied.append(row[0])
                else:
                    found.applied[wanted.entry.api_id] = wanted
            if attested:
                _read_attestations(db, reader, found)
            return found

    def contents(self, digests: Sequence[str]) -> Found:
        """Read these contents. What is not there, or is damaged, is left out.

        Raises:
            UntrustedError: there was a file, and now there is none.
        """
        found = Found()
        with self._trusting():
            db = self._open(writing=False)
            for start in range(0, len(digests), ASKED_AT_ONCE):
                asked = digests[start : start + ASKED_AT_ONCE]
                try:
                    rows = self._read(db, asked)
                except sqlite3.DatabaseError:  # pages of some are damaged: which?
                    rows = [row for digest in asked for row in self._read_one(db, digest, found)]
                for key, content in rows:
                    digest = key.hex()
                    if isinstance(content, bytes) and digest_of(content) == digest:  # promise 8
                        found.contents[digest] = content
                    else:
                        self._reject(digest, found)
        return found

    def write(self, batch: Batch) -> list[str]:
        """Write all of it or nothing; answers with the applied api_ids that lack their contents.

        Raises:
            UntrustedError: there was a file, and now there is none.
        """
        with self._trusting():
            try:
                lacking = write_batch(self._open(writing=True), batch, self._rejected)
            except sqlite3.Error:
                self._disconnect()  # begin from the file as it is, whatever this error was
                raise
        self._rejected = None
        return lacking

    def close(self) -> None:
        """Close the file, and let others have the folder."""
        try:
            self._disconnect()
        finally:
            self._locked = False
            self._locks.close()

    def _open(self, *, writing: bool) -> sqlite3.Connection:
        """The connection; one that can only read, where that must do."""
        if self._db is not None and (self._writable or not writing):
            return self._db
        self._disconnect()
        try:
            self.lock()
            self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            if writing or _is_untrusted(error) or not self._connect_to_read():
                raise
        assert self._db is not None
        return self._db

    def _connect(self) -> None:
        # SQLite would make the file as the umask says.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        with _closed_on_error(db):
            _prepare(db)
            db.execute("PRAGMA journal_mode = WAL")
            # A crash of the machine may take the last commits back, never a part of one. What is
            # lost is fetched again.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {LOG_PAGES * 4096}")
            if _format_of(db) == 0:
                db.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
            db.executescript(SCHEMA_SINCE)
        self._db, self._writable = db, True

    def _connect_to_read(self) -> bool:
        """On a disk that is full or read-only; False where there is nothing to read."""
        if not self._locked or not self.path.exists():
            return False
        # Without its -shm file SQLite reads only what it may take for immutable. That is true as
        # long as there is no log beside it: we hold the lock.
        log = self.path.with_name(self.path.name + "-wal")
        for options in ("mode=ro", "mode=ro&immutable=1"):
            if "immutable" in options and log.exists() and log.stat().st_size:
                break
            uri = f"{self.path.absolute().as_uri()}?{options}"
            db = sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
            try:
                with _closed_on_error(db):
                    _prepare(db)
                    if _format_of(db) == 0:
                        return False
            except sqlite3.OperationalError:
                continue
            self._db, self._writable = db, False
            return True
        return False

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def _trusting(self) -> Iterator[None]:
        """Throw the file away where it turns out not to be trustworthy."""
        try:
            yield
        except (sqlite3.Error, UntrustedError, UnicodeDecodeError) as error:
            # The last one: Python could not read what SQLite says of a damaged schema.
            if isinstance(error, sqlite3.Error) and not _is_untrusted(error):
                raise
            self._disconnect()
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._rejected = None
            raise UntrustedError(f"{self.path} was thrown away: {error}") from error

    def _read(self, db: sqlite3.Connection, digests: Sequence[str]) -> list[tuple[bytes, object]]:
        marks = ",".join("?" * len(digests))
        # By their places first: they are read in the order in which they lie there.
        places = f"SELECT id FROM content WHERE digest IN ({marks})"  # noqa: S608 (marks)
        question = f"SELECT digest, body FROM content WHERE id IN ({places})"  # noqa: S608 (marks)
        return db.execute(question, [key_of(each) for each in digests]).fetchall()

    def _read_one(
        self, db: sqlite3.Connection, digest: str, found: Found
    ) -> list[tuple[bytes, object]]:
        try:
            return self._read(db, [digest])
        except sqlite3.DatabaseError:
            self._reject(digest, found)
            return []

    def _reject(self, digest: str, found: Found) -> None:
        """A content is removed with the next write: what can be read is read first."""
        found.damaged.append(f"contents {digest}")
        self._rejected = self._rejected or Rejected()
        self._rejected.contents.append(key_of(digest))


def _log_in(db: sqlite3.Connection, reader: RowReader, label: str, state: LogState) -> LabelLog:
    """A label's log, whole. Raises `DamagedError` and `FormatError`: half of a log is none."""
    question = "SELECT retained, api_id, body, sum FROM entry WHERE label = ?"
    held = reader.entries(label, db.execute(question, (label.encode(),)))
    return LabelLog.restored(label, state, *held)


def _read_attestations(db: sqlite3.Connection, reader: RowReader, found: Found) -> None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'attestation'").fetchone():
        return  # written by an earlier version, on a disk that is read-only by now
    for label in found.labels:
        question = "SELECT epoch, body FROM attestation WHERE label = ? ORDER BY revision"
        for row in db.execute(question, (label.encode(),)):
            try:
                epoch, attestation = reader.attestation(*row)
            except DamagedError as error:
                found.damaged.append(f"attestation of label {label!r}: {error}")
            else:
                held = found.attestations.setdefault(label, {})
                held.setdefault(epoch, []).append(attestation)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")


def _format_of(db: sqlite3.Connection) -> int:
    """The format of the file, 0 for one that is empty. Raises `UntrustedError` for another."""
    [[version]] = db.execute("PRAGMA user_version")
    [[tables]] = db.execute("SELECT count(*) FROM sqlite_master")
    if version == FORMAT or (version == 0 and tables == 0):
        return int(version)
    raise UntrustedError(f"it has format {version}, and this version of gatesync writes {FORMAT}")


def _is_untrusted(error: Exception) -> bool:
    # The lower byte is the kind of error; the rest says more.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNTRUSTED


@contextlib.contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise
