"""A gateway that reads a replica: an older state is never taken for a newer one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatesync.artifacts.changes import Head
from gatesync.gateway.lag import LAG_SECONDS
from tests.contracts.saves import publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, until
from tests.stores.lagging import LaggingStore
from tests.stores.reading_through import ReadThrough

pytestmark = pytest.mark.fast


class Primary(ReadThrough):
    """What the publisher uses: it saves to both, and reads its own writes."""

    def __init__(self, both: LaggingStore) -> None:
        super().__init__(lambda: both, both.primary)
        self._both = both

    async def labels(self) -> list[Head]:
        return await self._both.primary.labels()


@asynccontextmanager
async def replicated(lag: float) -> AsyncIterator[tuple[Cluster, Node]]:
    """A cluster whose one node reads a replica, and serves "menu" in its first version."""
    both = LaggingStore(asyncio.get_running_loop().time, lag)
    async with Cluster(Primary(both), replica=both) as cluster:
        await cluster.publish("L", publish("menu", "1"))
        node = await cluster.start_node("n1", ["L"])
        await until(lambda: node.serves("menu", "1"), within=lag + 2 * HEARTBEAT)
        yield cluster, node


@pytest.mark.promise(2)
@in_virtual_time
async def test_what_an_event_brought_stays_while_the_replica_shows_less() -> None:
    async with replicated(lag=30) as (cluster, node):
        await cluster.publish("L", publish("menu", "2"), publish("bread"))
        await until(lambda: node.serves("menu", "2") and node.serves("bread"), within=1)
        cluster.broker.go_down()  # nobody to listen to: it asks the replica
        asked = node.link.questions
        for _ in range(40):
            await asyncio.sleep(1)
            assert node.serves("menu", "2")
            assert node.serves("bread")
            assert node.held("L") == 0
        assert node.link.questions > asked


@pytest.mark.promise(11)
@in_virtual_time
async def test_what_was_only_told_of_is_awaited_and_proves_nothing_before() -> None:
    async with replicated(lag=30) as (cluster, node):
        loop = asyncio.get_running_loop()
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("menu", "2"), remove("menu"), publish("bread"))
        cluster.faults.drop = 0.0
        told = loop.time() + HEARTBEAT
        await asyncio.sleep(20)
        assert node.serves("menu", "1")
        assert node.informer.proofs["L"] <= told
        await until(lambda: node.serves("bread") and not node.serves("menu"), within=20)
        await until(lambda: node.informer.proofs["L"] > told, within=HEARTBEAT)


@pytest.mark.promise(6)
@in_virtual_time
async def test_an_older_state_that_lasts_is_another_history_and_removes_nothing() -> None:
    async with replicated(lag=5) as (cluster, node):
        assert isinstance(cluster.replica, LaggingStore)
        cluster.replica._lag = 1e9
        await cluster.publish("L", publish("menu", "2"), publish("bread"))
        await until(lambda: node.serves("bread"), within=1)
        cluster.broker.go_down()
        await asyncio.sleep(LAG_SECONDS - 1)
        assert node.serves("menu", "2")
        await until(lambda: node.held("L") == 1, within=4 * HEARTBEAT)
        assert node.serves("bread")
        assert node.serves("menu", "1")
