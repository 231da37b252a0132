"""The database that the publisher stores in: a file, or a server of the demo's own."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from demo.processes import DemoError

__all__ = ["DATABASES", "Database", "open_database"]

DATABASES: Final = ("sqlite", "postgresql", "mariadb")
_ROOT: Final = Path(__file__).resolve().parents[2]


class Database(msgspec.Struct, frozen=True):
    """What runs, and the keys of `[database.sync_runtime_artifacts_db]` that lead to it."""

    kind: str
    address: str
    pid: int
    keys: dict[str, str]


@contextmanager
def open_database(kind: str) -> Iterator[Database | None]:
    """Run a database server, as the tests do; None for SQLite, which needs none.

    Raises `DemoError` when it is not installed.
    """
    if kind == "sqlite":
        yield None
        return
    sys.path.append(str(_ROOT))
    import pytest
    from sqlalchemy import make_url
    from tests.servers.mariadb import mariadb_server
    from tests.servers.postgresql import postgresql_server

    servers = {"postgresql": postgresql_server, "mariadb": mariadb_server}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers[kind]())
        except pytest.skip.Exception as error:
            raise DemoError(f"DB={kind} {error}") from None
        url = make_url(stack.enter_context(server.database()))
        address = f"{url.host}:{url.port}"
        keys = {
            "type": kind,
            "url": f"jdbc:{kind}://{address}/{url.database}",
            "username": str(url.username),
            "password": str(url.password),
        }
        yield Database(kind, address, server.pid, keys)
