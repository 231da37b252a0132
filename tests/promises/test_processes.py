"""The design's promises, held by real processes that are killed, cut off and misled."""

import http.server
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from tests.faults import DROP_FILE, KILL_FILE
from tests.promises.corrupting import CORRUPT_FILE
from tests.servers.gatesync import GATESYNC, LABEL, Place, environment, sequence_xml, until

ROOT = Path(__file__).parents[2]
FAULTY = '[gatesync.event_hub]\nadapter = "tests.faults:open_faulty_nats_hub"\n'
NO_BROKER = "[apim.event_hub]\nenable = false\n"


class Cluster:
    """A traffic manager, a publisher and one gateway, each a process with a folder of its own."""

    def __init__(self, folder: Path, *, broker: bool = True, engine: str = "") -> None:
        self.drop, self.kill = folder / "drop", folder / "kill"
        self.corrupt = folder / "corrupt"
        self.control = Place(folder / "control")
        with self.control.config.open("a") as config:
            config.write(FAULTY if broker else NO_BROKER)
        self.node = Place(folder / "node", publisher=self.control.publisher)
        if engine:
            text = self.node.config.read_text()
            line = f'[gatesync.gateway]\nengine = "{engine}"\n'
            self.node.config.write_text(text.replace("[gatesync.gateway]\n", line))
        env = {"PYTHONPATH": str(ROOT), DROP_FILE: str(self.drop), KILL_FILE: str(self.kill)}
        self.broker = self.control.role("traffic-manager")
        self.publisher = self.control.role("publisher", **env)
        self.gateway = self.node.role(
            "gateway", PYTHONPATH=str(ROOT), **{CORRUPT_FILE: str(self.corrupt)}
        )
        if broker:
            self.broker.start()
        self.publisher.start()
        self.control.give_token(self.node, LABEL)
        self.gateway.start()

    def end(self) -> None:
        self.node.end()
        self.control.end()

    def write(self, name: str, text: str) -> Path:
        path = self.control.folder / f"{name}.xml"
        path.write_bytes(sequence_xml(name, text))
        return path

    def publish(self, name: str, text: str = "hello") -> None:
        done = self.control.run("publish", self.write(name, text), "-l", LABEL)
        assert done.code == 0, done.err

    def serves(self, **expected: str) -> bool:
        """Whether the gateway serves exactly these sequences, with these texts."""
        return self.node.held() == {name: digest(name, text) for name, text in expected.items()}

    def serves_soon(self, **expected: str) -> None:
        self.gateway.wait_for(lambda: self.serves(**expected), f"exactly {expected} is served")

    def held_removals(self) -> int:
        removals = self.control.run("labels", "--json").json()["removals_held"]
        return int(removals.get(LABEL, 0))

    @contextmanager
    def publisher_stopped(self) -> Iterator[Path]:
        """The database file may be touched within."""
        self.publisher.stop()
        yield self.control.data / "artifacts.db"
        self.publisher.start()


@contextmanager
def running(folder: Path, *, broker: bool = True, engine: str = "") -> Iterator[Cluster]:
    cluster = Cluster(folder, broker=broker, engine=engine)
    try:
        yield cluster
    finally:
        cluster.end()


def digest(name: str, text: str) -> str:
    artifact = artifact_from_xml(sequence_xml(name, text), f"{name}.xml")
    return digest_of(canonical.encode(artifact))


def copy(database: Path, to: Path) -> None:
    """Copy a database that nobody has open, with what has not been checkpointed yet."""
    for suffix in ("", "-wal", "-shm"):
        target = to.with_name(to.name + suffix)
        target.unlink(missing_ok=True)
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copy(source, target)


@pytest.mark.promise(1)
def test_a_gateway_converges_though_every_event_is_dropped(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.publish("a")
        cluster.serves_soon(a="hello")
        cluster.drop.touch()
        cluster.publish("b")
        cluster.publish("a", "edited")
        cluster.serves_soon(a="edited", b="hello")
        assert cluster.control.run("remove", "b").code == 0
        cluster.serves_soon(a="edited")


@pytest.mark.promise(1)
def test_a_gateway_converges_with_the_broker_dead(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.broker.stop(signal.SIGKILL)
        cluster.publish("a")
        cluster.serves_soon(a="hello")
        cluster.broker.start()
        cluster.publish("b")
        cluster.serves_soon(a="hello", b="hello")


@pytest.mark.promise(3)
def test_a_change_whose_publisher_dies_before_its_event_arrives_once(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.publish("a")
        cluster.serves_soon(a="hello")
        (before,) = cluster.control.heads()
        cluster.kill.touch()
        asking = subprocess.Popen(
            [GATESYNC, "publish", cluster.write("b", "hello"), "-l", LABEL],
            cwd=cluster.control.folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: not cluster.publisher.alive, "the publisher has killed itself")
            assert cluster.serves(a="hello")
            cluster.kill.unlink()
            cluster.publisher.start()
            cluster.serves_soon(a="hello", b="hello")
            assert asking.wait(60) == 0
        finally:
            asking.kill()
            asking.wait()
        (after,) = cluster.control.heads()
        assert after["revision"] == before["revision"] + 1


@pytest.mark.promise(6)
def test_a_restored_backup_removes_nothing_until_confirmed(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.publish("a")
        cluster.publish("b")
        with cluster.publisher_stopped() as database:
            copy(database, tmp_path / "backup.db")
        cluster.publish("a", "edited")
        cluster.publish("c")
        cluster.serves_soon(a="edited", b="hello", c="hello")
        with cluster.publisher_stopped() as database:
            copy(tmp_path / "backup.db", database)
        # what the backup changes is applied, what it would remove stays
        cluster.serves_soon(a="hello", b="hello", c="hello")
        until(lambda: cluster.held_removals() == 1, "the held removal is told")
        assert cluster.control.run("verify").code == 1
        cluster.publish("d")
        cluster.serves_soon(a="hello", b="hello", c="hello", d="hello")
        assert cluster.control.run("labels", "confirm", LABEL).code == 0
        cluster.serves_soon(a="hello", b="hello", d="hello")
        cluster.publish("e")
        cluster.serves_soon(a="hello", b="hello", d="hello", e="hello")
        assert cluster.control.run("verify").code == 0
        assert cluster.held_removals() == 0


@pytest.mark.promise(6)
@pytest.mark.parametrize("broker", [True, False])
def test_an_empty_new_store_removes_nothing_until_confirmed(tmp_path: Path, broker: bool) -> None:
    with running(tmp_path, broker=broker) as cluster:
        cluster.publish("a")
        cluster.publish("b")
        cluster.serves_soon(a="hello", b="hello")
        with cluster.publisher_stopped() as database:
            for path in database.parent.glob("artifacts.db*"):
                path.unlink()
        until(lambda: cluster.held_removals() == 2, "two removals are held")
        assert cluster.serves(a="hello", b="hello")
        (row,) = cluster.control.run("labels").out.splitlines()[1:]
        assert row.split() == [*LABEL.split(), "0", "0", "2"]
        cluster.publish("c")
        cluster.publish("b", "edited")
        cluster.serves_soon(a="hello", b="edited", c="hello")
        assert cluster.control.run("labels", "confirm", LABEL).code == 0
        cluster.serves_soon(b="edited", c="hello")
        assert cluster.control.run("verify").code == 0


@pytest.mark.promise(6)
def test_a_fork_that_is_ahead_removes_nothing_until_confirmed(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.publish("a")
        with cluster.publisher_stopped() as database:
            copy(database, tmp_path / "backup.db")
        cluster.publish("b")
        cluster.serves_soon(a="hello", b="hello")
        os.kill(cluster.gateway.pid, signal.SIGSTOP)  # it sees neither the backup nor the way on
        try:
            with cluster.publisher_stopped() as database:
                copy(tmp_path / "backup.db", database)
            cluster.publish("c")
            cluster.publish("d")
        finally:
            os.kill(cluster.gateway.pid, signal.SIGCONT)
        cluster.serves_soon(a="hello", b="hello", c="hello", d="hello")
        assert cluster.control.run("labels", "confirm", LABEL).code == 0
        cluster.serves_soon(a="hello", c="hello", d="hello")


class _Answers(http.server.BaseHTTPRequestHandler):
    """Somebody else on the publisher's port: 404 for every second question, else an empty 200."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(404 if self.asked % 2 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815 - the name that http.server asks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.promise(6)
def test_a_404_and_an_empty_answer_remove_nothing(tmp_path: Path) -> None:
    with running(tmp_path, broker=False) as cluster:
        cluster.publish("a")
        cluster.serves_soon(a="hello")
        host, port = cluster.control.publisher.removeprefix("http://").split(":")
        with cluster.publisher_stopped():
            server = http.server.ThreadingHTTPServer((host, int(port)), _Answers)
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                until(lambda: _Answers.asked >= 8, "the gateway has asked several times")
            finally:
                server.shutdown()
                server.server_close()
                thread.join()
            assert cluster.serves(a="hello")
        cluster.publish("b")
        cluster.serves_soon(a="hello", b="hello")


@pytest.mark.promise(8)
def test_verify_finds_what_was_damaged_in_memory_and_the_gateway_heals(tmp_path: Path) -> None:
    engine = "tests.promises.corrupting:open_corrupting_engine"
    with running(tmp_path, engine=engine) as cluster:
        cluster.publish("a")
        cluster.publish("b")
        cluster.serves_soon(a="hello", b="hello")
        damaged = artifact_from_xml(sequence_xml("a"), "a.xml").identity.default_api_id()
        cluster.corrupt.write_text(damaged)
        done = cluster.control.run("verify", "--json")
        assert done.code == 1
        (verdict,) = done.json()["verdicts"]
        (drift,) = verdict["drifted"]
        assert (verdict["status"], drift["api_id"]) == ("drift", damaged)
        assert (drift["expected"], drift["actual"] != drift["expected"]) == (
            digest("a", "hello"),
            True,
        )
        cluster.serves_soon(a="hello", b="hello")
        assert cluster.control.run("verify").code == 0


def test_verify_ends_with_3_where_a_gateway_gives_no_answer(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.publish("a")
        cluster.serves_soon(a="hello")
        os.kill(cluster.gateway.pid, signal.SIGSTOP)
        try:
            done = cluster.control.run("verify", "--timeout", "1s")
        finally:
            os.kill(cluster.gateway.pid, signal.SIGCONT)
        assert done.code == 3
        assert "gw1  no answer" in done.out
