"""Databases for benchmarks: SQLite's file, or a server of the tests, started for this and ended.

By default they keep their files on disk, where a commit waits for it; see `GATESYNC_TEST_FOLDER`.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.servers.mariadb import mariadb_server
from tests.servers.postgresql import postgresql_server

__all__ = ["DATABASES", "MissingError", "database"]

DATABASES = ("sqlite", "postgresql", "mariadb")
_SERVERS = {"postgresql": postgresql_server, "mariadb": mariadb_server}


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
