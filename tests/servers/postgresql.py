"""A real PostgreSQL on a port and in a folder of its own, for tests."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from tests.servers.database import PASSWORD, USER, DatabaseProcess, private_folder, run_once

# What is not here is as it is by default: fsync is on.
SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "dynamic_shared_memory_type=mmap",  # in its folder: a kill leaves nothing in /dev/shm
)


class PostgresqlProcess(DatabaseProcess):
    """With one user, who may do everything."""

    def __init__(self, programs: Path, folder: Path) -> None:
        settings = [f"--{each}" for each in SETTINGS]
        super().__init__([programs / "postgres", "-D", folder / "data", *settings], folder)
        self.programs = programs
        self._names = (f"test_{number}" for number in itertools.count())
        self.fill()

    def fill(self) -> None:
        """Make what it needs in its folder."""
        programs, folder = self.programs, self.folder
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-sync")
        run_once(programs / "initdb", "-D", folder / "data", "-U", USER, "--locale=C", *options)

    def connect(self) -> psycopg.Connection:
        """To the database that everybody has."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
            connect_timeout=2,
        )

    def accepts(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty database, by its URL; it is dropped at the end."""
        name = next(self._names)
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        yield self.url(name)
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def url(self, database: str) -> str:
        url = URL.create("postgresql", USER, PASSWORD, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)


@contextmanager
def postgresql_server() -> Iterator[PostgresqlProcess]:
    """Run one while the block runs; skips the test where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with private_folder("postgresql") as folder:
        server = PostgresqlProcess(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path | None:
    """The newest; Debian does not put them onto PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    places = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((each.parent for each in places), key=_version, default=None)


def _version(folder: Path) -> float:
    return float(folder.parent.name)
