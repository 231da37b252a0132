"""SQLite: a file that only its owner can read, one writer at a time, durable commits."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.store import StoreError

__all__ = ["sqlite_engines", "sqlite_reading_engine"]

_POLL_SECONDS: Final = 0.02  # SQLite asks four times in them
_OPENING_MILLISECONDS: Final = 5_000


def sqlite_engines(url: URL, options: SqlOptions, _source: object = None) -> tuple[Engine, Engine]:
    """The engine that writes and the one that reads; the file is created where it is missing.

    Raises:
        StoreError: the URL names no file, or the file cannot be opened.
    """
    if url.database in {None, "", ":memory:"}:
        shown = url.render_as_string(hide_password=True)
        raise StoreError(f"database {shown}: the store needs a file; write sqlite:///PATH")
    _make_private(Path(str(url.database)))
    writing = create_engine(url, connect_args={"timeout": _POLL_SECONDS})
    reading = create_engine(
        url, connect_args={"timeout": options.busy_timeout}, pool_size=options.readers
    )
    for engine in (writing, reading):
        event.listen(engine, "connect", _on_connect)
    event.listen(writing, "connect", _keep_pages)
    event.listen(writing, "begin", lambda each: _begin_writing(each, options.busy_timeout))
    event.listen(reading, "begin", lambda each: each.exec_driver_sql("BEGIN"))
    return writing, reading


def sqlite_reading_engine(url: URL, options: SqlOptions) -> Engine:
    """The engine of another process's file: it is neither made nor written."""
    # As a URI, for its mode. SQLite reads `?`, `#` and `%` in one as a browser would.
    file = f"file:{quote(str(url.database))}?mode=ro"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            file, uri=True, timeout=options.busy_timeout, check_same_thread=False
        )
        connection.isolation_level = None
        return connection

    engine = create_engine(url, creator=connect, pool_size=options.readers)
    event.listen(engine, "begin", lambda each: each.exec_driver_sql("BEGIN"))
    return engine


def _make_private(path: Path) -> None:
    """Create the file so that nobody else can read it; SQLite's other files take its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"database file {path}: {error.strerror}") from error


def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say
    # Of several that open a new file at once, one makes it a WAL; the others wait.
    [[milliseconds]] = connection.execute("PRAGMA busy_timeout")
    connection.execute(f"PRAGMA busy_timeout = {_OPENING_MILLISECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
    connection.execute("PRAGMA synchronous = FULL")  # promise 3: a commit is on the disk
    connection.execute("PRAGMA foreign_keys = ON")
    # Pages, 32 MiB: a large commit fills the usual 4 MiB, and each would wait for a checkpoint.
    connection.execute("PRAGMA wal_autocheckpoint = 8192")


def _keep_pages(connection: sqlite3.Connection, _record: Any) -> None:
    # KiB. A batch of publishes touches more pages than the usual 2 MiB hold: SQLite would write
    # some to the log twice, and read others again for each batch.
    connection.execute("PRAGMA cache_size = -65536")


def _begin_writing(connection: Connection, busy_seconds: float) -> None:
    # SQLite looks for the lock ever more seldom, down to ten times a second, and nobody queues
    # for it: four busy processes have kept a fifth waiting for 10 s. Asking anew asks more often.
    give_up = time.monotonic() + busy_seconds
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _is_busy(error.orig) or time.monotonic() >= give_up:
                raise
        else:
            return


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)  # above the low byte stands the kind of it
