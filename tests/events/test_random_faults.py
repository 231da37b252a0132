"""Events that are dropped, doubled, delayed and reordered at random: nothing is lost or done twice.

In virtual time: the figures of hours of it, in seconds. `make long` makes 10,000 changes.
"""

import asyncio
import random
from collections import Counter

import pytest

from gatesync.engines.engine import Deployable
from gatesync.events.hub import TooLarge
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import read_manifest
from tests.contracts.saves import publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node, WatchedEngine
from tests.gateway.virtual_time import eventually, in_virtual_time, now, until
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.fast

CHANGES = max(100, int(500 * BUDGET))
ROUND = 50  # changes between two times when the faults end
LABELS = ("Production", "Sandbox", "Production and Sandbox")
NODES = {"n1": LABELS, "n2": LABELS[:1], "n3": LABELS[1:]}


class CountingEngine(WatchedEngine):
    """Notes every artifact that it is given to deploy, by its digest."""

    def __init__(self) -> None:
        super().__init__()
        self.deployed: Counter[str] = Counter()

    def check(self, each: Deployable) -> None:
        self.deployed[each.entry.digest] += 1


@pytest.mark.promise(1)
@pytest.mark.promise(7)
@pytest.mark.timeout(600)
@in_virtual_time
async def test_every_gateway_is_in_step_two_heartbeats_after_the_faults() -> None:
    chance = random.Random(6)
    async with Cluster(MemoryStore(), seed=6) as cluster:
        for name, labels in NODES.items():
            await cluster.start_node(name, labels, CountingEngine())
        live: dict[str, set[str]] = {label: set() for label in LABELS}
        made = 0
        while made < CHANGES:
            trouble(cluster, chance)
            for _ in range(min(ROUND, CHANGES - made)):
                made += 1
                await change(cluster, chance, live, made)
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.05, 0.5]))
            await cluster.hub.close()  # what is on its way now never arrives
            faults = cluster.faults
            faults.drop = faults.duplicate = faults.reorder = faults.delay = 0.0
            await in_step(cluster, made)
        for node in cluster.nodes.values():
            assert isinstance(node.engine, CountingEngine)
            assert node.engine.deployed
            assert node.informer.pulse.events
            assert node.informer.pulse.pulls, "no fault was felt"
            assert set(node.engine.deployed.values()) == {1}, "a change was deployed twice"
        assert cluster.hub.dropped > CHANGES / 50


def trouble(cluster: Cluster, chance: random.Random) -> None:
    """More or less of each fault in each round; a delay may be longer than a heartbeat."""
    faults = cluster.faults
    faults.drop, faults.duplicate = chance.uniform(0.05, 0.5), chance.uniform(0, 0.5)
    faults.reorder, faults.delay = chance.uniform(0, 0.5), chance.uniform(0, 0.5)
    faults.longest_delay = chance.choice([0.01, 1.0, 2 * HEARTBEAT])


async def change(
    cluster: Cluster, chance: random.Random, live: dict[str, set[str]], number: int
) -> None:
    """Publish what nobody ever published, or remove something."""
    label = chance.choice(LABELS)
    if live[label] and chance.random() < 0.1:
        name = chance.choice(sorted(live[label]))
        live[label].remove(name)
        await cluster.publish(label, remove(name))
        return
    name = f"{label} api {chance.randrange(40)}"
    live[label].add(name)
    await cluster.publish(label, publish(name, f"change {number}"))


async def in_step(cluster: Cluster, made: int) -> None:
    wanted: dict[str, dict[str, bytes]] = {}
    for label in LABELS:
        _, entries = await read_manifest(cluster.memory, label)
        contents = await cluster.memory.contents([each.digest for each in entries.values()])
        wanted[label] = {each.api_id: contents[each.digest] for each in entries.values()}
    ended = now()
    await until(
        lambda: all(serves(node, wanted) for node in cluster.nodes.values()),
        within=2 * cluster.heartbeat,
    )
    assert now() - ended <= 2 * cluster.heartbeat, f"after {made} changes"
    cluster.check_alive()


def serves(node: Node, wanted: dict[str, dict[str, bytes]]) -> bool:
    expected = {api_id: each for label in node.labels for api_id, each in wanted[label].items()}
    found = {api_id: bytes(each) for api_id, each in node.engine.snapshot().items()}
    return found == expected


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_report_that_is_too_large_for_the_broker_goes_by_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(node: str, message: bytes) -> None:
        raise TooLarge("too large", size=len(message), limit=1)

    async with Cluster(MemoryStore()) as cluster:
        monkeypatch.setattr(cluster.broker, "report", refuse)
        await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await eventually(lambda: cluster.receipts("L"), within=2 * HEARTBEAT)
        assert set(await cluster.receipts("L")) == {"n1"}
