"""What a gateway says of itself: how it is, and of its failures the newest."""

import pytest

from gatesync.gateway.reporting import LISTED
from gatesync.publisher.fleet import ReceiptStatus
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import HEARTBEAT, Cluster
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = [pytest.mark.fast, pytest.mark.promise(9)]

SOON = 2 * HEARTBEAT


@in_virtual_time
async def test_heartbeats_say_how_the_node_is_and_how_old_its_proof() -> None:
    async with Cluster() as cluster:
        await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        fleet = cluster.running.fleet

        def ready() -> bool:
            return [each.status for each in fleet.nodes()] == ["ready"]

        await until(ready, within=SOON)
        [node] = fleet.nodes()
        [label] = node.labels
        assert (node.mode, label.stale, label.failed) == ("async", False, 0)
        assert label.proof_age_ms is not None
        assert label.proof_age_ms <= SOON * 1_000


@in_virtual_time
async def test_a_change_that_is_refused_is_told_also_where_a_hundred_others_were() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        names = [f"bad{number}" for number in range(LISTED + 20)]
        node.engine.refuses.update(dict.fromkeys(map(id_of, names), "bad endpoint"))
        await cluster.publish("L", [publish(name) for name in names[:-1]])
        await cluster.publish("L", publish(names[-1]))

        async def reported() -> ReceiptStatus | None:
            found = (await cluster.receipts("L")).get("n1")
            return found.status if found else None

        await until(lambda: _failed(cluster) == LISTED + 20, within=SOON)
        assert await reported() is ReceiptStatus.FAILED
        [label] = cluster.running.fleet.nodes()[0].labels
        assert len(label.exceptions) == LISTED
        assert label.exceptions[0].artifact == f"api {names[-1]} 1.0.0"


def _failed(cluster: Cluster) -> int:
    return sum(label.failed for node in cluster.running.fleet.nodes() for label in node.labels)
