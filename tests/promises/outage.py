"""A cluster on a database server that tests make trouble for: see test_sql_outages."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.secret import Secret
from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource, Tls, TlsMode
from tests.servers.database import DatabaseProcess
from tests.servers.gatesync import LABEL, Done, Place, Role, ask, sequence_xml, until
from tests.servers.mariadb import MariadbProcess, mariadb_server
from tests.servers.postgresql import PostgresqlProcess, postgresql_server
from tests.servers.proxy import Proxy, proxy_to
from tests.servers.small_disk import SmallDisk, can_mount, small_disk
from tests.stores.impatient import DEADLINE

ROOT = Path(__file__).parents[2]
_chosen = os.environ.get("GATESYNC_TEST_DB") or "postgresql,mariadb"
SERVERS = [each for each in _chosen.split(",") if each != "sqlite"]
USER, PASSWORD, DATABASE = "publisher", "Gue55-me/not", "outages"
GATEWAYS = ("gw1", "gw2")
ANSWER_SECONDS = DEADLINE * 2 + 4  # the store's limit, its last resort, and a command's start


class Server:
    """A database server as its administrator sees it; the publishers' user is no superuser."""

    process: DatabaseProcess

    full_disk: str
    """What a publish into a full disk is answered with."""

    def make_database(self) -> None:
        raise NotImplementedError

    def revive(self) -> None:
        """Start it again if it has died."""
        if not self.process.accepts():
            self.process.kill()
            self.process.start()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        raise NotImplementedError

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """The publishers' user may have no more connections, and has none."""
        raise NotImplementedError


class Postgresql(Server):
    full_disk = "No space left"

    def __init__(self, process: PostgresqlProcess) -> None:
        self.process: PostgresqlProcess = process

    def make_database(self) -> None:
        self._do(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self._do(f"CREATE DATABASE {DATABASE} OWNER {USER}")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._do("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self._do(
                "SET default_transaction_read_only = off",
                "ALTER SYSTEM RESET default_transaction_read_only",
                "SELECT pg_reload_conf()",
            )

    @contextmanager
    def crowded(self) -> Iterator[None]:
        self._do(
            f"ALTER ROLE {USER} CONNECTION LIMIT 0",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'",
        )
        try:
            yield
        finally:
            self._do(f"ALTER ROLE {USER} CONNECTION LIMIT -1")

    def _do(self, *statements: str) -> None:
        with self.process.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())


class Mariadb(Server):
    # MariaDB 10.11 tries for seconds to make room for a BLOB, and then ends itself.
    full_disk = "is full|no answer|Lost connection"

    def __init__(self, process: MariadbProcess) -> None:
        self.process: MariadbProcess = process

    def make_database(self) -> None:
        self._do(
            f"CREATE DATABASE {DATABASE}",
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON {DATABASE}.* TO {USER}@'%'",
        )

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._do("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self._do("SET GLOBAL read_only = 0")

    @contextmanager
    def crowded(self) -> Iterator[None]:
        port = self.process.port
        mine = pymysql.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD)
        try:
            self._do(f"ALTER USER {USER}@'%' WITH MAX_USER_CONNECTIONS 1")
            others = f"WHERE USER = '{USER}' AND ID <> {mine.thread_id()}"
            for (number,) in self._do(f"SELECT ID FROM information_schema.PROCESSLIST {others}"):
                with suppress(pymysql.err.OperationalError):  # it ended by itself meanwhile
                    self._do(f"KILL {number}")
            yield
        finally:
            mine.close()
            self._do(f"ALTER USER {USER}@'%' WITH MAX_USER_CONNECTIONS 0")

    def _do(self, *statements: str) -> Any:
        with self.process.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()


class Cluster:
    """A broker, a publisher on a database behind a proxy, and two gateways.

    The first gateway reads from the publisher, the second from the database.

    None of these processes is ever started again, whatever happens to the database.
    """

    def __init__(self, folder: Path, server: Server, proxy: Proxy, disk: SmallDisk | None) -> None:
        self.server, self.proxy, self.disk = server, proxy, disk
        self._folder = folder
        self.control = Place(folder / "control")
        kind = "postgresql" if isinstance(server, Postgresql) else "mariadb"
        url = f"jdbc:{kind}://127.0.0.1:{proxy.port}/{DATABASE}?sslMode=disable&connect_timeout=2"
        self.database = database = (
            f'[database.sync_runtime_artifacts_db]\ntype = "{kind}"\nurl = "{url}"\n'
            f'username = "{USER}"\npassword = "{PASSWORD}"\n'
        )
        with self.control.config.open("a") as config:
            config.write(
                "[apim.sync_runtime_artifacts.publisher]\n"
                'artifact_saver = "tests.stores.impatient:open_impatient_store"\n' + database
            )
        self.nodes = [
            Place(folder / name, node=name, publisher=self.control.publisher) for name in GATEWAYS
        ]
        with self.nodes[1].config.open("a") as config:
            config.write(database)
        self.roles = [
            self.control.role("traffic-manager"),
            self.control.role("publisher", PYTHONPATH=str(ROOT)),
            *(node.role("gateway") for node in self.nodes),
        ]
        self.publisher = self.roles[1]
        self._texts: dict[str, str] = {}

    def source(self, hosts: tuple[DatabaseHost, ...]) -> SqlSource:
        """The database, at these hosts."""
        postgresql = isinstance(self.server, Postgresql)
        return SqlSource(
            dialect=Dialect.POSTGRESQL if postgresql else Dialect.MYSQL,
            database=DATABASE,
            hosts=hosts,
            username=USER,
            password=Secret(PASSWORD),
            tls=Tls(mode=TlsMode.DISABLE),
            connect_seconds=2,
        )

    def start(self) -> None:
        for role in self.roles[:2]:
            role.start()
        for node, role in zip(self.nodes, self.roles[2:], strict=True):
            self.control.give_token(node, LABEL)
            role.start()

    def end(self) -> None:
        for each in (*self.nodes, self.control):
            each.end()

    @contextmanager
    def another_publisher(self) -> Iterator[tuple[Role, str]]:
        """One more, with the usual time limits and without a broker, while the block runs."""
        other = Place(self._folder / "another", node="another")
        with other.config.open("a") as config:
            config.write(f"[apim.event_hub]\nenable = false\n{self.database}")
        try:
            yield other.role("publisher").start(), other.publisher
        finally:
            other.end()

    def publish(self, name: str, text: str) -> Done:
        path = self.control.folder / f"{name}.xml"
        path.write_bytes(sequence_xml(name, text))
        return self.control.run("publish", path, "-l", LABEL)

    def published(self, name: str, text: str) -> Done:
        """Publish it, and see that everybody gets it."""
        done = self.publish(name, text)
        assert done.code == 0, done.err
        self._texts[name] = text
        self.converges()
        return done

    def serves(self) -> bool:
        """Whether both gateways serve exactly what was published."""
        wanted = {name: _digest(name, text) for name, text in self._texts.items()}
        return all(node.held() == wanted for node in self.nodes)

    def converges(self) -> None:
        until(self.serves, "both gateways serve what was published")

    def refused(self, name: str, text: str, why: str) -> Done:
        """A publish fails as it should; the gateways do not mind."""
        started = time.monotonic()
        done = self.publish(name, text)
        took = time.monotonic() - started
        assert done.code == 3, done
        assert re.search(why, done.err), done.err
        assert f"127.0.0.1:{self.proxy.port}/{DATABASE}" in done.err, done.err
        assert PASSWORD not in done.err
        assert took < ANSWER_SECONDS, done.err
        self.serves_on()
        return done

    def serves_on(self) -> None:
        assert self.serves()
        for node in self.nodes:
            assert ask(node.gateway, "/health/ready").status == 200

    def head(self) -> int:
        (head,) = self.control.heads()
        revision: int = head["revision"]
        return revision

    def readiness(self) -> tuple[int, dict[str, str]]:
        answer = ask(self.control.publisher, "/health/ready")
        return answer.status, answer.json()

    def says(self, key: str, why: str, *, status: int | None = None) -> None:
        """The publisher's own health tells of it soon."""

        def told() -> bool:
            code, document = self.readiness()
            return status in {code, None} and bool(re.search(why, document[key]))

        try:
            until(told, f"readiness says {status} and {why!r} of {key}", ANSWER_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.readiness()}") from None
        assert PASSWORD not in str(self.readiness())

    def is_stale(self) -> bool:
        """Whether the gateways show that they have not been told of being in step for a while."""
        for node in self.nodes:
            status = node.health().json()
            if min(label["proof_age_ms"] for label in status["labels"]) < 500:
                return False
        return True

    def recovers(self) -> None:
        self.says("store", "good", status=200)


@contextmanager
def cluster_on(kind: str, folder: Path) -> Iterator[Cluster]:
    """Everything started; the database's files are on a disk of their own where that can be."""
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk()) if can_mount() else None
        if disk is not None:
            stack.enter_context(_environment("GATESYNC_TEST_FOLDER", str(disk.folder)))
        server: Server
        if kind == "postgresql":
            server = Postgresql(stack.enter_context(postgresql_server()))
        else:
            server = Mariadb(stack.enter_context(mariadb_server()))
        server.make_database()
        proxy = stack.enter_context(proxy_to(server.process.port))
        cluster = Cluster(folder, server, proxy, disk)
        stack.callback(cluster.end)
        cluster.start()
        yield cluster


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _digest(name: str, text: str) -> str:
    artifact = artifact_from_xml(sequence_xml(name, text), f"{name}.xml")
    return digest_of(canonical.encode(artifact))
