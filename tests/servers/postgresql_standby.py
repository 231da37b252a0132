"""A standby of a real PostgreSQL, streaming from it, that can be told to stand still."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from tests.servers.database import PASSWORD, USER, private_folder, run_once
from tests.servers.gatesync import until
from tests.servers.postgresql import PostgresqlProcess


class Standby(PostgresqlProcess):
    """With all that its primary has, some moments later."""

    def __init__(self, primary: PostgresqlProcess, folder: Path) -> None:
        self._primary = primary
        super().__init__(primary.programs, folder)

    def fill(self) -> None:
        source = make_conninfo(
            host="127.0.0.1", port=self._primary.port, user=USER, password=PASSWORD
        )
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream")
        data = self.folder / "data"
        run_once(self.programs / "pg_basebackup", "-D", data, "--dbname", source, *options)

    def pause(self) -> None:
        """What arrives from now on is kept, and not shown."""
        self._control("SELECT pg_wal_replay_pause()")
        until(lambda: self._control("SELECT pg_get_wal_replay_pause_state()") == "paused", "pause")

    def resume(self) -> None:
        self._control("SELECT pg_wal_replay_resume()")

    def here(self, url: str) -> str:
        """The URL of the same database on this server."""
        return make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def _control(self, statement: str) -> object:
        with self.connect() as connection:
            row = connection.execute(statement.encode()).fetchone()
            return row[0] if row else None


@contextmanager
def standby_of(primary: PostgresqlProcess) -> Iterator[Standby]:
    """Run one while the block runs."""
    with private_folder("standby") as folder:
        server = Standby(primary, folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()
