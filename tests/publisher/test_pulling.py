"""Who may pull now, and when the others may: alone by the clock, and hundreds in virtual time."""

import asyncio
import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesync.publisher.pulling import WAIT_SECONDS, FullPulls
from tests.gateway.virtual_time import in_virtual_time, now

pytestmark = pytest.mark.fast


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def pulls_of(most: int, clock: Clock, number: float = 0.5) -> FullPulls:
    return FullPulls(most, clock=clock, random=lambda: number)


def test_a_node_alone_never_waits_whatever_it_asks_for_at_once() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    for _ in range(20):
        assert [pulls.begin("n") for _ in range(8)] == [None] * 8
        clock.now += 3.0
        for _ in range(8):
            pulls.end("n")
        clock.now += 30.0
    assert pulls.counts().deferred == 0


def test_who_finds_no_place_is_told_when_to_come_and_finds_one_then() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    assert pulls.begin("first") is None
    wait = pulls.begin("second")
    assert wait is not None
    assert 1 <= wait <= WAIT_SECONDS
    pulls.end("first")
    clock.now += wait
    assert pulls.begin("second") is None
    assert pulls.begin("first") is not None


def test_a_pull_goes_on_while_its_node_rests_for_a_moment() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    pulls.begin("n")
    clock.now += 4.0
    pulls.end("n")
    clock.now += 0.4
    assert pulls.begin("other") is not None
    assert pulls.go_on("n")
    pulls.end("n")
    clock.now += 0.4
    assert pulls.begin("n") is None


def test_a_further_page_is_no_pull_of_its_own() -> None:
    pulls = pulls_of(1, Clock())
    assert not pulls.go_on("n")
    assert pulls.counts().under_way == 0


def test_a_place_is_kept_for_who_is_due_and_no_longer_than_that() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    pulls.begin("first")
    wait = pulls.begin("due")
    pulls.end("first")
    assert wait is not None
    clock.now += wait + 0.1
    assert pulls.begin("newcomer") is not None, "the place was the other's"
    clock.now += 3.0
    assert pulls.begin("newcomer") is None, "who does not come holds nobody up"


def test_an_answer_that_nobody_reads_does_not_hold_its_place_for_ever() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    pulls.begin("stuck")
    clock.now += 100.0
    assert pulls.begin("other") is not None
    clock.now += 60.0
    assert pulls.begin("other") is None
    pulls.end("stuck")  # at last: it has no place to give back
    assert pulls.counts().under_way == 1


def test_who_gave_up_is_forgotten() -> None:
    clock = Clock()
    pulls = pulls_of(1, clock)
    pulls.begin("first")
    for number in range(10):
        pulls.begin(f"n{number}")
    assert pulls.counts().waiting == 10
    pulls.end("first")
    clock.now += 200.0
    assert pulls.counts().waiting == 0


def test_those_who_came_together_are_told_to_come_back_one_by_one() -> None:
    clock = Clock()
    numbers = random.Random(1)
    pulls = FullPulls(10, clock=clock, random=numbers.random)
    waits = [pulls.begin(f"n{number}") for number in range(1_000)]
    told = [wait for wait in waits if wait is not None]
    assert len(told) == 990
    assert max(told) <= WAIT_SECONDS
    most = max(told.count(seconds) for seconds in set(told) - {WAIT_SECONDS})
    assert most < 40, "some 10 pulls end each second"


class Fleet:
    """Nodes that start at once, at a publisher that answers one request after the other.

    Each takes its list, reads it for a moment, and fetches batches three at a time.
    """

    ANSWER: Final = 0.01
    BATCHES: Final = 12

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self.random = random.Random(seed)
        self.pulls = FullPulls(most, clock=now, random=self.random.random)
        self.processor = asyncio.Lock()
        self.busy: dict[str, int] = {}
        self.most_busy = 0
        self.waits: dict[str, int] = {}
        self.served: dict[str, float] = {}

    async def ask(self, node: str) -> None:
        while (wait := self.pulls.begin(node)) is not None:
            self.waits[node] = self.waits.get(node, 0) + 1
            await asyncio.sleep(wait + self.random.random() / 2)
        self.busy[node] = self.busy.get(node, 0) + 1
        self.most_busy = max(self.most_busy, sum(map(bool, self.busy.values())))
        async with self.processor:
            await asyncio.sleep(self.ANSWER)
        self.busy[node] -= 1
        self.pulls.end(node)

    async def start(self, node: str) -> None:
        await self.ask(node)
        await asyncio.sleep(0.1)
        batches = iter(range(self.BATCHES))

        async def fetch() -> None:
            for _ in batches:
                await self.ask(node)
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as fetchers:
            for _ in range(3):
                fetchers.create_task(fetch())
        self.served[node] = now()


@pytest.mark.parametrize("nodes", [1, 64, 400])
@in_virtual_time
async def test_all_are_served_and_the_publisher_is_kept_busy(nodes: int) -> None:
    fleet, started = Fleet(64, seed=nodes), now()
    async with asyncio.TaskGroup() as tasks:
        for number in range(nodes):
            tasks.create_task(fleet.start(f"n{number}"))
    assert len(fleet.served) == nodes
    assert fleet.most_busy <= fleet.most
    least = nodes * (fleet.BATCHES + 1) * fleet.ANSWER
    took = now() - started
    assert took < least * 1.3 + 1.0, "places stood empty while nodes waited"
    if nodes <= fleet.most:
        assert fleet.waits == {}
    assert max(fleet.waits.values(), default=0) <= took / 2, "nobody asks all the time"


@in_virtual_time
async def test_nobody_starves_while_others_come_again_and_again() -> None:
    fleet = Fleet(8, seed=5)
    started = now()

    async def again_and_again(node: str) -> None:
        while True:
            await fleet.start(node)
            await asyncio.sleep(0.7)  # its place is gone by then

    async with asyncio.TaskGroup() as tasks:
        greedy = [tasks.create_task(again_and_again(f"greedy-{n}")) for n in range(24)]
        await asyncio.sleep(5.0)
        async with asyncio.TaskGroup() as late:
            for number in range(100):
                late.create_task(fleet.start(f"late-{number}"))
        for task in greedy:
            task.cancel()
    assert fleet.most_busy <= fleet.most
    # 8 places, a second for each pull: all 124 had a turn within 16 s, were it in order
    assert now() - started < 40.0
    assert max(n for node, n in fleet.waits.items() if node.startswith("late")) < 6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 40)), max_size=80))
def test_there_are_never_more_than_so_many(steps: list[tuple[int, bool, float]]) -> None:
    clock = Clock()
    pulls = pulls_of(3, clock, 0.999)
    open_requests: dict[str, int] = {}
    for number, ends, seconds in steps:
        node = f"n{number}"
        if ends and open_requests.get(node):
            pulls.end(node)
            open_requests[node] -= 1
        elif (wait := pulls.begin(node)) is None:
            open_requests[node] = open_requests.get(node, 0) + 1
        else:
            assert 1 <= wait <= WAIT_SECONDS
        clock.now += seconds
        counts = pulls.counts()
        assert counts.under_way <= 3
        assert counts.under_way + counts.waiting <= 10
