"""What a gateway says of itself: how it is, and of its failures the newest."""

import asyncio

import pytest

from gatesync.gateway.pacing import BURST, REPORTS_PER_SECOND, Pace
from gatesync.gateway.reporting import LISTED
from gatesync.publisher.fleet import ReceiptStatus
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import HEARTBEAT, Cluster
from tests.gateway.virtual_time import in_virtual_time, now, until

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


@in_virtual_time
async def test_very_many_changes_in_a_row_are_told_in_fewer_reports() -> None:
    async with Cluster() as cluster:
        await cluster.start_node("n1", ["L"])
        fleet = cluster.running.fleet
        await until(lambda: len(fleet) == 1, within=SOON)
        before, began = fleet.version, now()
        while now() < began + 20:
            await cluster.publish("L", publish("menu", str(now())))
            await asyncio.sleep(0.01)  # a hundred changes a second
        head = (await cluster.saver.heads(["L"]))["L"]
        assert head.revision >= 1_500
        await until(lambda: fleet.in_step(head) == ["n1"], within=0.2)
        assert BURST < fleet.version - before <= BURST + 21 * REPORTS_PER_SECOND


def test_a_pace_is_at_once_until_there_are_too_many_and_again_after_a_while() -> None:
    pace = Pace(0.0)
    assert [pace.take(1.0) for _ in range(BURST)] == [0.0] * BURST
    assert pace.take(1.0) == pytest.approx(0.1)
    assert pace.take(1.1) == pytest.approx(0.1)
    assert pace.take(1_000.0) == 0.0


def _failed(cluster: Cluster) -> int:
    return sum(label.failed for node in cluster.running.fleet.nodes() for label in node.labels)
