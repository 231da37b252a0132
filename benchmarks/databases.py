"""Databases for benchmarks: SQLite's file, or a server of the tests, started for this and ended.

By default they keep their files on disk, where a commit waits for it; see `GATESYNC_TEST_FOLDER`.
"""

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.servers.mariadb import mariadb_server
from tests.servers.postgresql import postgresql_server

__all__ = ["DATABASES", "MissingError", "database", "driver"]

DATABASES = ("sqlite", "postgresql", "mariadb")
_SERVERS: dict[str, Callable[[], Any]] = {
    "postgresql": postgresql_server,
    "mariadb": mariadb_server,
}


class MissingError(Exception):
    """The server is not installed; says what to install."""


@contextmanager
def database(name: str, folder: str | None = None) -> Iterator[str]:
    """An empty database, by its URL; SQLite's file is below `folder`.

    Raises:
        MissingError: before the block runs.
    """
    with ExitStack() as stack:
        if name == "sqlite":
            made = tempfile.TemporaryDirectory(prefix="gatesync-bench-", dir=folder)
            yield f"sqlite:///{stack.enter_context(made)}/store.db"
            return
        try:
            server = stack.enter_context(_SERVERS[name]())
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            raise MissingError(str(error)) from None
        yield stack.enter_context(server.database())


def driver(url: str) -> tuple[Callable[..., Any], Callable[[], None]]:
    """Run statements with the bare driver, each committed durably by itself; and close it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        lite = sqlite3.connect(parsed.database or "", isolation_level=None, check_same_thread=False)
        lite.execute("PRAGMA journal_mode = WAL")
        lite.execute("PRAGMA synchronous = FULL")
        return lambda statement, values=(): lite.execute(statement, values), lite.close
    where: dict[str, Any] = {"host": parsed.host, "port": parsed.port, "user": parsed.username}
    where |= {"password": parsed.password, "autocommit": True}
    if parsed.get_backend_name() == "postgresql":
        connection = psycopg.connect(dbname=parsed.database, **where)
        return connection.execute, connection.close
    my = pymysql.connect(database=parsed.database, **where)

    def run(statement: str, values: Sequence[Any] = ()) -> Any:
        cursor = my.cursor()
        cursor.execute(statement, values or None)
        return cursor

    return run, my.close
