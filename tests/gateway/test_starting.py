"""How a gateway starts: sync and async, with a store that is away, and an engine that refuses."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.engines.engine import Deployable
from gatesync.gateway.starting import RETRY_SECONDS_MAX, StartUp
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import Cluster, WatchedEngine
from tests.gateway.virtual_time import in_virtual_time, now, until

pytestmark = pytest.mark.fast

HOUR = 3_600.0


@in_virtual_time
async def test_sync_is_ready_when_everything_was_processed() -> None:
    async with Cluster() as cluster:
        await cluster.publish("L", *[publish(f"a{number}") for number in range(5)])
        node = await cluster.start_node("n1", ["L"], start=StartUp("sync"))
        assert not node.agent.status().ready
        await until(lambda: node.agent.status().ready, within=0.1)
        assert node.agent.status().applied == 5


@in_virtual_time
async def test_async_is_ready_at_once_and_gets_there_later() -> None:
    async with Cluster(broker=False) as cluster:
        await cluster.publish("L", publish("menu"))
        await cluster.stop_publisher()
        node = await cluster.start_node("n1", ["L"], start=StartUp("async", wait=15.0))
        assert node.agent.status().ready
        assert not node.serves("menu")
        await asyncio.sleep(HOUR)
        await cluster.start_publisher()
        await until(lambda: node.serves("menu"), within=2 * cluster.heartbeat)


@in_virtual_time
async def test_sync_tries_so_many_times_with_the_same_wait_and_then_starts_without() -> None:
    async with Cluster(broker=False) as cluster:
        await cluster.publish("L", publish("menu"))
        await cluster.stop_publisher()
        begin = now()
        node = await cluster.start_node("n1", ["L"], start=StartUp("sync", retries=10, wait=15.0))
        await asyncio.sleep(149.0)
        assert not node.agent.status().ready
        await until(lambda: node.agent.status().ready, within=2.0)
        assert now() - begin == pytest.approx(150, abs=1)
        assert node.agent.status().applied == 0
        await cluster.start_publisher()
        await until(lambda: node.serves("menu"), within=2 * cluster.heartbeat)


@in_virtual_time
async def test_no_retries_mean_one_try() -> None:
    async with Cluster(broker=False) as cluster:
        await cluster.stop_publisher()
        node = await cluster.start_node("n1", ["L"], start=StartUp("sync", retries=0, wait=15.0))
        await until(lambda: node.agent.status().ready, within=0.1)


@in_virtual_time
async def test_one_label_that_cannot_be_read_does_not_hide_the_others_and_delays_the_start() -> (
    None
):
    async with Cluster() as cluster:
        await cluster.publish("L", publish("menu"))
        start = StartUp("sync", retries=2, wait=10.0)
        node = await cluster.start_node("n1", ["L", "M"], start=start, forbidden={"M"})
        await until(lambda: node.serves("menu"), within=0.1)
        await asyncio.sleep(19)
        assert not node.agent.status().ready
        await until(lambda: node.agent.status().ready, within=10)


@in_virtual_time
async def test_sync_gives_what_the_engine_refuses_all_its_tries_before_it_starts_without() -> None:
    async with Cluster() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        engine = WatchedEngine()
        engine.refuses[id_of("bread")] = "no yeast"
        begin = now()
        node = await cluster.start_node("n1", ["L"], engine, StartUp("sync", retries=3, wait=15.0))
        await until(lambda: node.serves("menu"), within=0.1)
        await until(lambda: node.agent.status().ready, within=60)
        tries = [round(each - begin) for each in engine.tries[id_of("bread")]]
        assert tries == [0, 15, 30, 45], "not doubled"
        assert node.agent.status().failed == {id_of("bread"): "no yeast"}
        engine.refuses.clear()
        await until(lambda: node.serves("bread"), within=2 * 15)


@in_virtual_time
async def test_async_doubles_the_wait_for_what_is_refused_up_to_an_hour() -> None:
    async with Cluster() as cluster:
        await cluster.publish("L", publish("bread"))
        engine = WatchedEngine()
        engine.refuses[id_of("bread")] = "no yeast"
        await cluster.start_node("n1", ["L"], engine, StartUp("async", wait=15.0))
        await asyncio.sleep(24 * HOUR)
        tries = engine.tries[id_of("bread")]
        waits = [later - earlier for earlier, later in pairwise(tries)]
        for number, wait in enumerate(waits):
            longest = min(15.0 * 2**number, HOUR)
            assert longest / 2 - 0.01 <= wait <= longest + 0.01, "half of it is chance"
        assert len(waits) > 24, "never more than an hour"
        assert len({round(wait / longest, 3) for wait in waits[-5:]}) > 1, "jitter"


@in_virtual_time
async def test_a_new_version_of_what_was_refused_is_tried_at_once() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"], start=StartUp("async", wait=15.0))
        made = publish("bread", "1")
        node.engine.refuses_digests[made.entry.digest] = "no yeast"
        await cluster.publish("L", made)
        await asyncio.sleep(10 * HOUR)
        await cluster.publish("L", publish("bread", "2"))
        await until(lambda: node.serves("bread", "2"), within=0.1)


@pytest.mark.promise(6)
@in_virtual_time
async def test_what_an_earlier_process_left_goes_only_when_every_label_was_read() -> None:
    async with Cluster(broker=False) as cluster:
        await cluster.publish("L", publish("menu"))
        engine = WatchedEngine()
        left = [publish(name, "before") for name in ("menu", "stray")]
        await engine.apply([Deployable(each.entry, each.content) for each in left], ())
        start = StartUp("sync", retries=1, wait=5.0)
        node = await cluster.start_node("n1", ["L", "M"], engine, start, forbidden={"M"})
        await asyncio.sleep(60)
        assert node.agent.status().ready
        assert node.serves("menu", "<api/>")
        assert node.serves("stray"), "M may have it"
        node.link.forbidden.clear()
        await until(lambda: not node.serves("stray"), within=2 * cluster.heartbeat)
        assert node.serves("menu")


@given(st.integers(1, 40), st.floats(0, 1, exclude_max=True), st.floats(0.001, 5_000))
def test_waits_are_bounded_and_grow(failures: int, random: float, first: float) -> None:
    after = StartUp("async", wait=first)
    longest = max(first, RETRY_SECONDS_MAX)
    assert 0 < after.delay(failures, random) <= longest
    assert after.delay(failures + 1, random) >= after.delay(failures, random)
    assert StartUp("sync", wait=first).delay(failures, random) == first


def test_a_failure_is_over_when_the_store_answers() -> None:
    start = StartUp("sync", retries=2, wait=10.0)
    if True:
        start.failed("L", 100.0)
        start.answered("L")
        start.failed("L", 115.0)
        assert not start.gave_up_on("L", 120.0)
        assert not start.look(["L"], [], 134.0)
        assert start.look(["L"], [], 135.0)
        assert start.ready
        assert not start.look([], [], 136.0), "it is over only once"
