"""Real processes on a real broker that dies, and on a network whose packets vanish."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from tests.events.counting_engine import counted
from tests.servers.cut_network import CutNetwork, cut_network, why_not
from tests.servers.gatesync import (
    GATESYNC,
    LABEL,
    Place,
    Role,
    document,
    publishing,
    sequence_xml,
    until,
)
from tests.servers.nats import NatsProcess

ROOT = Path(__file__).parents[2]
CHANGES, NAMES = 200, 20
USERS = """
authorization { users: [
  { user: "publisher", password: "p", permissions: {
    publish: { allow: ["gatesync.label.>"] }, subscribe: { allow: ["gatesync.report.>"] } } }
  { user: "gateway", password: "g", permissions: {
    publish: { allow: ["gatesync.report.>"] }, subscribe: { allow: ["gatesync.label.>"] } } }
] }
"""


class Cluster:
    """A broker that is not ours, a publisher, and gateways that find the broker through it."""

    def __init__(
        self, folder: Path, broker: NatsProcess, gateways: Sequence[str], heartbeat_ms: int
    ) -> None:
        self.heartbeat = heartbeat_ms / 1000
        self.control = Place(folder / "control", heartbeat_ms=heartbeat_ms)
        self.nodes = [
            Place(
                folder / node,
                node=node,
                publisher=self.control.publisher,
                heartbeat_ms=heartbeat_ms,
            )
            for node in gateways
        ]
        credentials = self.control.folder / "broker.json"
        credentials.write_text('{"publisher": {"user": "publisher", "password": "p"}}')
        credentials.chmod(0o600)
        with self.control.config.open("a") as config:
            config.write(
                f'[apim.event_hub]\nevent_listening_endpoints = ["{broker.url}"]\n'
                '[gatesync.event_hub]\ncredentials_file = "broker.json"\n'
            )
        for node in self.nodes:
            text = node.config.read_text()
            engine = 'engine = "tests.events.counting_engine:open_counting_engine"\n'
            ours, hub = "[gatesync.gateway]\n", "[apim.event_hub]\n"
            login = 'username = "gateway"\npassword = "g"\n'  # this broker knows no nodes
            text = text.replace(ours, ours + engine).replace(hub, hub + login)
            node.config.write_text(text)

    def start(self, network: CutNetwork | None = None) -> None:
        self.control.role("publisher").start()
        for node in self.nodes:
            self.control.give_token(node, LABEL)
            role = node.role("gateway", PYTHONPATH=str(ROOT))
            if network is not None:
                role = Elsewhere(role, network)
                node.started.append(role)
            role.start()

    def publish(self, first: int, count: int) -> dict[str, str]:
        """So many changes, each of a text of its own; answers with what is served then, by name."""
        served: dict[str, str] = {}
        for number in range(first, first + count):
            name, text = f"s{number % NAMES}", f"change {number}"
            body = publishing(document(name, sequence_xml(name, text)))
            answer = self.control.ask("/v1/changes", method="POST", body=body)
            assert answer.status == 200, answer.body
            served[name] = digest(name, text)
        return served

    def in_step(self, served: dict[str, str]) -> None:
        """Each gateway serves exactly this within two heartbeats, and did nothing twice."""
        started = time.monotonic()
        for node in self.nodes:
            left = 2 * self.heartbeat - (time.monotonic() - started)
            until(lambda node=node: node.held() == served, f"{node.node} is in step", left)
            deployed = counted(node.data)
            assert set(served.values()) <= set(deployed)
            assert set(deployed.values()) == {1}, "a change was deployed twice"

    def end(self) -> None:
        for each in (*self.nodes, self.control):
            each.end()


class Elsewhere(Role):
    """A role whose process runs in another network."""

    def __init__(self, role: Role, network: CutNetwork) -> None:
        super().__init__(role.folder, role.arguments, role._ready, role._env)
        self._network = network

    def start(self, *, wait: bool = True) -> "Role":
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._network.prefix, str(GATESYNC), *self.arguments],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for url in self._ready:
            self.wait_for(lambda url=url: is_ready(url), f"{url} is ready")
        return self


def is_ready(url: str) -> bool:
    from tests.servers.gatesync import ask

    try:
        return ask(url, "/health/ready").status == 200
    except OSError:
        return False


def digest(name: str, text: str) -> str:
    return digest_of(canonical.encode(artifact_from_xml(sequence_xml(name, text), f"{name}.xml")))


@asynccontextmanager
async def broker_at(folder: Path, host: str = "127.0.0.1") -> AsyncIterator[NatsProcess]:
    broker = NatsProcess(folder, USERS, host=host)
    try:
        await broker.start()
        yield broker
    finally:
        broker.kill()


@contextmanager
def ended(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.mark.promise(1)
@pytest.mark.promise(7)
async def test_a_broker_that_dies_and_comes_back_while_200_changes_are_published(
    tmp_path: Path,
) -> None:
    async with broker_at(tmp_path) as broker:
        with ended(Cluster(tmp_path, broker, ("gw1", "gw2"), heartbeat_ms=1_000)) as cluster:
            cluster.start()
            publishing_all = asyncio.create_task(asyncio.to_thread(cluster.publish, 0, CHANGES))
            deaths = 0
            while not publishing_all.done():
                await asyncio.sleep(0.15)  # some changes with a broker, some without
                broker.kill()
                deaths += 1
                await asyncio.sleep(0.15)
                await broker.start()
            served = await publishing_all
            assert deaths > 1
            await asyncio.to_thread(cluster.in_step, served)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.promise(1)
@pytest.mark.promise(7)
async def test_a_gateway_whose_packets_vanish_for_longer_than_it_takes_to_reconnect(
    tmp_path: Path,
) -> None:
    """The silence is noticed within two heartbeats, and nobody is told of an end."""
    with cut_network() as network:
        async with broker_at(tmp_path, network.here) as broker:
            made = Cluster(tmp_path, broker, ("gw1",), heartbeat_ms=2_000)
            (node,) = made.nodes
            rewire(made.control, network.here)
            rewire(node, network.there, publisher=made.control.publisher)
            with ended(made) as cluster, ExitStack() as mending:
                cluster.start(network)
                served = await asyncio.to_thread(cluster.publish, 0, NAMES)
                await asyncio.to_thread(cluster.in_step, served)
                log = node.started[-1]
                network.cut()
                mending.callback(network.mend)
                cut = time.monotonic()
                served |= await asyncio.to_thread(cluster.publish, NAMES, NAMES // 2)
                noticed = partial(until, lambda: "broker.silent" in log.said(), "it is noticed")
                await asyncio.to_thread(noticed, 2 * cluster.heartbeat + 1)
                await asyncio.sleep(max(0.0, 4.5 * cluster.heartbeat - (time.monotonic() - cut)))
                assert "broker.unreachable" in log.said()
                mending.close()
                await asyncio.to_thread(cluster.in_step, served)


def rewire(place: Place, address: str, publisher: str = "") -> None:
    """Have a place listen on the cable, and find its publisher there."""
    before = "127.0.0.1"
    text = place.config.read_text().replace(f'listen = "{before}', f'listen = "{address}')
    if publisher:
        text = text.replace(publisher.replace(address_of(publisher), before), publisher)
    place.config.write_text(text.replace("[gatesync]\n", "[gatesync]\nallow_plaintext = true\n"))
    place.publisher = place.publisher.replace(before, address)
    place.gateway = place.gateway.replace(before, address)


def address_of(url: str) -> str:
    return url.partition("//")[2].partition(":")[0]
