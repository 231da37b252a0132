"""A real MariaDB on a port and in a folder of its own, for tests."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import URL

from tests.servers.database import PASSWORD, USER, DatabaseProcess, private_folder, run_once

# What is not here is as it is by default: fsync, max_allowed_packet, isolation.
SETTINGS = ("bind-address=127.0.0.1", "max-connections=200", "skip-name-resolve")


class MariadbProcess(DatabaseProcess):
    """With one user, who may do everything."""

    def __init__(self, programs: tuple[str, str], folder: Path) -> None:
        server, install = programs
        places = (f"--datadir={folder}/data", f"--socket={folder}/socket")
        settings = [f"--{each}" for each in SETTINGS]
        command = [server, "--no-defaults", *places, f"--pid-file={folder}/pid", *settings]
        super().__init__(command, folder)
        self._names = (f"test_{number}" for number in itertools.count())
        self._user = "root"
        run_once(
            *(install, "--no-defaults", places[0], "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        )

    def start(self) -> None:
        super().start()
        if self._user == "root":
            with self.connect() as connection, connection.cursor() as cursor:
                cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (USER, PASSWORD))
                cursor.execute("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", (USER,))
            self._user = USER

    def connect(self) -> "pymysql.Connection[Any]":
        """To the server, without a database."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=self._user,
            password="" if self._user == "root" else PASSWORD,
            autocommit=True,
            connect_timeout=2,
            read_timeout=10,
        )

    def accepts(self) -> bool:
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        return True

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty database, by its URL; it is dropped at the end."""
        name = next(self._names)
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        yield self.url(name)
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")

    def url(self, database: str) -> str:
        url = URL.create("mariadb", USER, PASSWORD, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)


@contextmanager
def mariadb_server() -> Iterator[MariadbProcess]:
    """Run one while the block runs; skips the test where MariaDB is not installed."""
    server = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if server is None or install is None:
        pytest.skip("needs MariaDB: apt-get install mariadb-server")
    with private_folder("mariadb") as folder:
        process = MariadbProcess((server, install), folder)
        process.start()
        try:
            yield process
        finally:
            process.stop()
