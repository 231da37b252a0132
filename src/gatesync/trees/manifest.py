"""Which files of a tree gatesync wrote, and what it is about to write: a small SQLite database.

    files      what stands in the tree, and is ours
    intents    what may stand there by now, if the process was killed half-way

An intent is durable before its file appears, so that no file of ours is ever taken for a foreign
one. A file that vanished without being told is merely missing: removals need no intent.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from gatesync.trees.disk import Facts
from gatesync.trees.errors import TreeError

__all__ = ["Intent", "Manifest", "Row"]

FORMAT: Final = "gatesync.saved-tree/1"

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, api_id TEXT NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_artifact ON files (api_id);
CREATE TABLE IF NOT EXISTS intents (
    path TEXT PRIMARY KEY, api_id TEXT NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL,
    digest BLOB NOT NULL, moved BLOB
) WITHOUT ROWID;
"""

_SELECT: Final = "SELECT path, api_id, role, name, digest, size, mtime_ns, inode FROM files "


class Row(NamedTuple):
    """A file that gatesync wrote. `digest` is the SHA-256 of that; empty: it is to be removed."""

    path: str
    api_id: str
    role: str
    name: str
    digest: bytes
    facts: Facts


class Intent(NamedTuple):
    """A file that is about to appear. `moved` is the digest of a file that is moved there first."""

    path: str
    api_id: str
    role: str
    name: str
    digest: bytes
    moved: bytes | None = None


class Manifest:
    """The record of one tree, for one process and one thread at a time.

    All methods raise `TreeError`. Closing waits for nothing.

    Args:
        path: the database; its folder exists.
        step: called before each change, with what it does; for tests.
    """

    def __init__(self, path: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._step = step
        with self._explained():
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=5.0
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.executescript(_TABLES)
                self._check_format()
            except BaseException:
                self._connection.close()
                raise

    def _check_format(self) -> None:
        known = self.meta("format")
        if known is None:
            self.set_meta("format", FORMAT)
        elif known != FORMAT:
            reason = f"has format {known!r}; this version reads {FORMAT!r}"
            raise TreeError(f"the record of saved files {self._path} {reason}")

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def meta(self, key: str) -> str | None:
        """A remembered value."""
        with self._explained():
            found = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,))
            row = found.fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        with self._transaction("remember", durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def count(self) -> int:
        """How many files there are."""
        with self._explained():
            return int(self._connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def api_ids(self) -> set[str]:
        """The artifacts that have files."""
        with self._explained():
            found = self._connection.execute("SELECT DISTINCT api_id FROM files")
            return {str(row[0]) for row in found}

    def row(self, path: str) -> Row | None:
        """What is known of the file at this path."""
        return next(iter(self._rows("WHERE path = ?", path)), None)

    def of_artifact(self, api_id: str) -> list[Row]:
        """The files of an artifact."""
        return self._rows("WHERE api_id = ? ORDER BY path", api_id)

    def after(self, path: str, limit: int) -> list[Row]:
        """The next files, in the order of their paths."""
        return self._rows("WHERE path > ? ORDER BY path LIMIT ?", path, limit)

    def intents(self) -> list[Intent]:
        """What was begun, and neither finished nor given up."""
        with self._explained():
            found = self._connection.execute(
                "SELECT path, api_id, role, name, digest, moved FROM intents ORDER BY path"
            )
            return [Intent(*row) for row in found]

    def intend(self, intents: Iterable[Intent]) -> None:
        """Make durable what is about to appear."""
        with self._transaction("intend", durable=True) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)", intents
            )

    def leave(self, paths: Iterable[str]) -> None:
        """Take these files for ours, whatever is in them: they are about to be removed."""
        leaving = [(path,) for path in paths]
        if leaving:
            with self._transaction("leave", durable=False) as connection:
                connection.executemany("UPDATE files SET digest = x'' WHERE path = ?", leaving)

    def record(self, rows: Iterable[Row], gone: Iterable[str], settled: Iterable[str]) -> int:
        """Take over what happened; answers with how many files there are more than before.

        This is not durable at once: after a loss of power the intents tell the same.

        Args:
            rows: files that stand in the tree now.
            gone: paths that are not ours any more.
            settled: paths whose intents are done, or given up.
        """
        there = [(*row[:5], *row.facts) for row in rows]
        with self._transaction("record", durable=False) as connection:
            replaced = connection.executemany(
                "DELETE FROM files WHERE path = ?",
                [*((path,) for path in gone), *((row[0],) for row in there)],
            )
            connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", there)
            connection.executemany(
                "DELETE FROM intents WHERE path = ?", ((path,) for path in settled)
            )
        return len(there) - max(0, replaced.rowcount)

    def _rows(self, where: str, *values: str | int) -> list[Row]:
        with self._explained():
            found = self._connection.execute(_SELECT + where, values)
            return [
                Row(path, api_id, role, name, digest, Facts(*facts))
                for path, api_id, role, name, digest, *facts in found
            ]

    @contextmanager
    def _transaction(self, what: str, *, durable: bool) -> Iterator[sqlite3.Connection]:
        self._step(f"manifest: {what}")
        with self._explained():
            # In a write-ahead log NORMAL never damages the database; it may lose the last commits.
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._step(f"manifest: commit {what}")
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise TreeError(f"the record of saved files {self._path}: {error}") from error
