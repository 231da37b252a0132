"""Promises 4 and 9: what an engine refuses is told, retried, and stands in nobody's way."""

import asyncio

import pytest

from gatesync.events.messages import INLINE_MAX_BYTES
from gatesync.publisher.fleet import Receipt, ReceiptStatus
from tests.contracts.saves import id_of, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster
from tests.gateway.virtual_time import in_virtual_time, now, until

pytestmark = pytest.mark.fast

SOON = 2 * HEARTBEAT


async def receipt(cluster: Cluster, node: str, status: ReceiptStatus, within: float) -> Receipt:
    async with asyncio.timeout(within):
        while True:
            found = (await cluster.receipts("L")).get(node)
            if found is not None and found.status is status:
                return found
            await asyncio.sleep(0.01)


@pytest.mark.promise(4)
@pytest.mark.promise(9)
@in_virtual_time
async def test_one_refused_artifact_is_reported_and_the_others_go_on() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu", "1"))
        await until(lambda: node.serves("menu", "1"), within=SOON)
        node.engine.refuses[id_of("menu")] = "bad endpoint"
        await cluster.publish("L", [publish("menu", "2"), publish("bread"), publish("ham")])
        failed = await receipt(cluster, "n1", ReceiptStatus.FAILED, within=1)
        assert "bad endpoint" in failed.reason
        assert "api menu 1.0.0" in failed.reason
        assert node.serves("bread")
        assert node.serves("ham")
        assert node.serves("menu", "1"), "what was served before goes on serving"
        await cluster.publish("L", publish("olives"))
        await until(lambda: node.serves("olives"), within=1)
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=1)


@pytest.mark.promise(4)
@in_virtual_time
async def test_it_is_retried_with_backoff_and_heals_when_the_engine_accepts() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        node.engine.refuses[id_of("menu")] = "bad endpoint"
        await cluster.publish("L", publish("menu"))
        tries = node.engine.tries
        await until(lambda: len(tries.get(id_of("menu"), ())) == 8, within=120)
        waits = [
            b - a for a, b in zip(tries[id_of("menu")], tries[id_of("menu")][1:], strict=False)
        ]
        for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8, 8], strict=True):
            assert longest / 2 <= wait <= longest + 0.1
        node.engine.refuses.clear()
        await until(lambda: node.serves("menu"), within=8.1)
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=1)


@pytest.mark.promise(4)
@in_virtual_time
async def test_new_bytes_are_tried_at_once_and_a_removal_ends_the_matter() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        bad = publish("menu", "bad")
        node.engine.refuses_digests[bad.entry.digest] = "bad endpoint"
        await cluster.publish("L", bad)
        await asyncio.sleep(60)
        await cluster.publish("L", publish("menu", "good"))
        await until(lambda: node.serves("menu", "good"), within=0.1)
        await cluster.publish("L", bad)
        await cluster.publish("L", remove("menu"))
        await until(lambda: not node.serves("menu"), within=1)
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=1)
        tries = len(node.engine.tries[id_of("menu")])
        await asyncio.sleep(60)
        assert len(node.engine.tries[id_of("menu")]) == tries


@pytest.mark.promise(4)
@in_virtual_time
async def test_an_engine_that_is_out_of_order_is_tried_until_it_works() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=SOON)
        node.engine.broken = "no connection"
        await cluster.publish("L", remove("menu"), publish("bread"))
        await asyncio.sleep(60)
        assert node.serves("menu")
        node.engine.broken = ""
        await until(lambda: node.serves("bread") and not node.serves("menu"), within=SOON)


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_removal_that_an_engine_cannot_do_is_not_reported_as_done() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=SOON)
        node.engine.broken = "no connection"
        await cluster.publish("L", remove("menu"))
        await asyncio.sleep(5 * HEARTBEAT)
        assert (await cluster.receipts("L"))["n1"].status is ReceiptStatus.WAITING
        node.engine.broken = ""
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=SOON)
        assert not node.serves("menu")


@pytest.mark.promise(9)
@in_virtual_time
async def test_each_change_has_a_receipt_with_its_time_soon_after_it_is_applied() -> None:
    async with Cluster() as cluster:
        for name in ("n1", "n2", "n3"):
            await cluster.start_node(name, ["L"])
        for number in range(5):
            await cluster.publish("L", publish("menu", str(number)))
            for name in cluster.nodes:
                done = await receipt(cluster, name, ReceiptStatus.APPLIED, within=1)
                published = int((1_700_000_000 + now()) * 1000)
                assert 0 <= published - done.at < 200


@pytest.mark.promise(9)
@in_virtual_time
async def test_how_long_it_took_is_measured_at_the_node() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await until(lambda: node.informer.processed, within=1)
        node.engine.slow = 0.25
        await cluster.publish("L", publish("menu"))
        done = await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=2)
        assert 249_000 <= done.took_us < 270_000


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_node_that_is_still_fetching_is_waited_for() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("bread"))
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=SOON)
        node.link.up = False
        large = b"x" * (INLINE_MAX_BYTES + 1)
        await cluster.publish("L", publish("menu", large))
        await asyncio.sleep(3 * HEARTBEAT)
        waiting = (await cluster.receipts("L"))["n1"]
        assert waiting.status is ReceiptStatus.WAITING
        node.link.up = True
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=90)


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_node_that_vanished_is_lost_and_one_that_said_goodbye_is_gone() -> None:
    async with Cluster() as cluster:
        for name in ("n1", "n2"):
            await cluster.start_node(name, ["L"])
        await cluster.publish("L", publish("menu"))
        for name in cluster.nodes:
            await receipt(cluster, name, ReceiptStatus.APPLIED, within=SOON)
        await cluster.stop_node("n1")
        cluster.broker.report = _nowhere  # type: ignore[method-assign]
        await cluster.stop_node("n2")
        await cluster.publish("L", publish("bread"))
        lost = await receipt(cluster, "n2", ReceiptStatus.LOST, within=4 * HEARTBEAT)
        assert "not heard of" in lost.reason
        assert "n1" not in await cluster.receipts("L")


async def _nowhere(_node: str, _message: bytes) -> None:
    return None


@pytest.mark.promise(9)
@pytest.mark.parametrize("broker", [True, False], ids=["broker down", "no broker"])
@in_virtual_time
async def test_reports_find_their_way_without_a_broker(broker: bool) -> None:
    async with Cluster(broker=broker) as cluster:
        cluster.broker.go_down()
        await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=SOON)


@in_virtual_time
async def test_a_goodbye_that_nobody_takes_does_not_keep_a_gateway_from_stopping() -> None:
    async with Cluster(broker=False) as cluster:
        node = await cluster.start_node("n1", ["L"])
        await until(lambda: node.informer.processed, within=1)
        node.agent.reporter._send = _never  # type: ignore[assignment]
        started = now()
        await cluster.stop_node("n1")  # raises what the agent ended with
        assert node.task.cancelled()
        assert now() - started <= 1.1


async def _never(_report: bytes) -> None:
    await asyncio.Event().wait()


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_report_made_while_a_slow_engine_is_at_work_can_be_read() -> None:
    """What failed may have been removed from the label already, and not yet been forgotten."""
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        node.engine.refuses[id_of("menu")] = "bad endpoint"
        await cluster.publish("L", publish("menu"))
        await receipt(cluster, "n1", ReceiptStatus.FAILED, within=SOON)
        node.engine.slow = 3 * HEARTBEAT
        await cluster.publish("L", publish("bread"))
        await cluster.publish("L", remove("menu"))
        await asyncio.sleep(2 * HEARTBEAT)
        cluster.check_alive()
        assert not cluster.running.fleet.nodes()[0].lost
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=4 * HEARTBEAT)


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_receipt_waits_for_an_engine_that_takes_its_time() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await until(lambda: node.informer.processed, within=1)
        node.engine.slow = 3 * HEARTBEAT  # it reports meanwhile
        await cluster.publish("L", publish("menu"))
        await asyncio.sleep(2 * HEARTBEAT)
        assert (await cluster.receipts("L"))["n1"].status is ReceiptStatus.WAITING
        await receipt(cluster, "n1", ReceiptStatus.APPLIED, within=2 * HEARTBEAT)
        assert node.serves("menu")


@pytest.mark.promise(9)
@in_virtual_time
async def test_a_busy_label_does_not_keep_the_others_from_being_reported() -> None:
    async with Cluster() as cluster:
        await cluster.start_node("n1", ["L", "M"])
        await cluster.publish("M", publish("bread"))
        await asyncio.sleep(SOON)
        await cluster.stop_publisher()
        await cluster.start_publisher()  # which knows nothing of any node
        for number in range(20):
            await cluster.publish("L", publish("menu", str(number)))
            await asyncio.sleep(HEARTBEAT / 10)
        assert (await cluster.receipts("M"))["n1"].status is ReceiptStatus.APPLIED
