"""Pushing to environments: side by side, bounded, and never in anybody's way."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatesync.artifacts.changes import ChangeSet, Head
from gatesync.events.messages import ChangeAnnounced, HeadsAnnounced, decode_announcement, encode
from gatesync.events.pushed import EVENT_MAX_BYTES, MadeOf, PushAnswer
from gatesync.publisher.pushing import (
    ATTEMPTS,
    PUSH_SECONDS,
    QUEUE_EVENTS,
    Environment,
    EnvironmentStatus,
    Post,
    Pusher,
    PushError,
)
from tests.gateway.makers import History
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast

HEARTBEAT = 5.0
AT_ONCE = 0.1


class Gateways:
    """What stands at each environment's URL: it takes events, hangs, or is away."""

    def __init__(self) -> None:
        self.taken: dict[str, list[bytes]] = {}
        self.tries: dict[str, int] = {}
        self.away: set[str] = set()
        self.hanging: set[str] = set()
        self.answer = PushAnswer("gw1", MadeOf.TAKEN)

    @asynccontextmanager
    async def open(self, environment: Environment) -> AsyncIterator[Post]:
        name = environment.name

        async def post(message: bytes) -> PushAnswer:
            self.tries[name] = self.tries.get(name, 0) + 1
            if name in self.hanging:
                await asyncio.sleep(3_600)
            if name in self.away:
                raise PushError(f"{environment.url} cannot be reached")
            self.taken.setdefault(name, []).append(message)
            return self.answer

        yield post

    def revisions(self, name: str) -> list[int]:
        """Of the change sets that came there, in this order."""
        read = map(decode_announcement, self.taken.get(name, []))
        return [each.change_set.revision for each in read if isinstance(each, ChangeAnnounced)]

    def heads(self, name: str) -> list[list[tuple[str, int]]]:
        read = map(decode_announcement, self.taken.get(name, []))
        return [
            [(head.label, head.revision) for head in each.heads]
            for each in read
            if isinstance(each, HeadsAnnounced)
        ]


@asynccontextmanager
async def pushing(gateways: Gateways, **labels: str) -> AsyncIterator[Pusher]:
    """A pusher to environments of these names, with the labels that each follows, as letters."""
    environments = [Environment(name, f"http://{name}", tuple(its)) for name, its in labels.items()]
    pusher = Pusher(
        environments,
        heartbeat=HEARTBEAT,
        open_post=gateways.open,
        numbers=itertools.repeat(1.0),
        wall_clock=lambda: asyncio.get_running_loop().time(),
    )
    task = asyncio.create_task(pusher.run())
    try:
        yield pusher
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def change(pusher: Pusher, change_set: ChangeSet) -> None:
    pusher.change(change_set, encode(ChangeAnnounced(change_set)))


def heads(pusher: Pusher, *its: Head) -> None:
    pusher.heads(its, lambda each: encode(HeadsAnnounced(each, "p1", 0)))


def status(pusher: Pusher, name: str) -> EnvironmentStatus:
    (found,) = (each for each in pusher.statuses() if each.name == name)
    return found


@in_virtual_time
async def test_an_event_goes_byte_for_byte_to_each_environment_of_its_label_and_no_other() -> None:
    gateways = Gateways()
    async with pushing(gateways, one="LM", two="L", other="M") as pusher:
        message = encode(ChangeAnnounced(change_set := History("L").publish("menu")))
        pusher.change(change_set, message)
        await until(lambda: len(gateways.taken) == 2, within=AT_ONCE)
    assert gateways.taken == {"one": [message], "two": [message]}


@in_virtual_time
async def test_each_is_told_the_heads_of_its_labels_in_one_message() -> None:
    gateways, history = Gateways(), History("L", revision=7)
    async with pushing(gateways, one="LM", two="M", third="N") as pusher:
        heads(pusher, history.head, History("M", revision=3).head)
        await until(lambda: len(gateways.taken) == 2, within=AT_ONCE)
        assert gateways.heads("one") == [[("L", 7), ("M", 3)]]
        assert gateways.heads("two") == [[("M", 3)]]
        assert status(pusher, "one").revisions == {"L": 7, "M": 3}
        assert pusher.labels == {"L", "M", "N"}


@pytest.mark.parametrize("trouble", ["away", "hanging"])
@in_virtual_time
async def test_one_that_is_down_holds_up_no_other(trouble: str) -> None:
    gateways, history = Gateways(), History("L")
    getattr(gateways, trouble).add("dead")
    async with pushing(gateways, dead="L", alive="L") as pusher:
        for revision in range(1, 4):
            change(pusher, history.publish("menu", version=revision))
            await until(lambda: gateways.revisions("alive")[-1:] == [revision], within=AT_ONCE)  # noqa: B023
        await asyncio.sleep(3 * PUSH_SECONDS)
        dead, alive = status(pusher, "dead"), status(pusher, "alive")
    assert (alive.answers, alive.revisions, alive.failures) == (True, {"L": 3}, 0)
    assert not dead.answers
    assert dead.reason == (
        "http://dead cannot be reached"
        if trouble == "away"
        else f"http://dead did not answer in {PUSH_SECONDS:g} s"
    )
    assert dead.failures >= 2


@in_virtual_time
async def test_an_event_is_tried_again_and_comes_in_order() -> None:
    gateways, history = Gateways(), History("L")
    gateways.away.add("one")
    async with pushing(gateways, one="L") as pusher:
        change(pusher, history.publish("menu"))
        change(pusher, history.publish("bread"))
        await until(lambda: gateways.tries.get("one") == 1, within=AT_ONCE)
        gateways.away.clear()
        await until(lambda: gateways.revisions("one") == [1, 2], within=1.0)
        found = status(pusher, "one")
    assert (found.sent, found.failed, found.failures, found.dropped) == (2, 1, 0, 0)
    assert found.reason == "http://one cannot be reached"  # the last failure stays to be seen


@in_virtual_time
async def test_what_an_environment_missed_for_too_long_is_left_to_the_heads() -> None:
    gateways, history = Gateways(), History("L")
    gateways.away.add("one")
    async with pushing(gateways, one="L") as pusher:
        for _ in range(5):
            change(pusher, history.publish("menu"))
        await until(lambda: gateways.tries.get("one") == ATTEMPTS, within=HEARTBEAT)
        assert (status(pusher, "one").waiting, status(pusher, "one").dropped) == (0, 4)
        gateways.away.clear()
        heads(pusher, history.head)
        await until(lambda: gateways.heads("one") == [[("L", 5)]], within=HEARTBEAT)
        change(pusher, history.publish("menu"))
        await until(lambda: gateways.revisions("one") == [6], within=AT_ONCE)
        assert status(pusher, "one").answers


@in_virtual_time
async def test_a_dead_environment_is_tried_about_once_each_heartbeat() -> None:
    gateways, history = Gateways(), History("L")
    gateways.away.add("one")
    async with pushing(gateways, one="L") as pusher:
        for _ in range(100):
            for _ in range(20):
                change(pusher, history.publish("menu"))
            heads(pusher, history.head)
            await asyncio.sleep(HEARTBEAT)
    assert 90 <= gateways.tries["one"] <= 110


@in_virtual_time
async def test_a_queue_that_is_full_is_dropped_and_heads_follow() -> None:
    gateways, history = Gateways(), History("L")
    gateways.hanging.add("one")
    async with pushing(gateways, one="L") as pusher:
        change(pusher, history.publish("menu"))
        await until(lambda: gateways.tries.get("one") == 1, within=AT_ONCE)
        for _ in range(QUEUE_EVENTS):
            change(pusher, history.publish("menu"))
        assert status(pusher, "one").waiting == QUEUE_EVENTS
        change(pusher, history.publish("menu"))
        assert (status(pusher, "one").waiting, status(pusher, "one").dropped) == (
            0,
            QUEUE_EVENTS + 1,
        )
        heads(pusher, history.head)
        gateways.hanging.clear()
        await until(lambda: bool(gateways.heads("one")), within=PUSH_SECONDS + HEARTBEAT)
        assert gateways.heads("one") == [[("L", history.revision)]]


@in_virtual_time
async def test_queues_hold_no_more_than_so_many_bytes_and_no_event_that_none_would_take() -> None:
    gateways, history = Gateways(), History("L")
    gateways.hanging.add("one")
    async with pushing(gateways, one="L") as pusher:
        pusher.change(history.publish("menu"), bytes(EVENT_MAX_BYTES + 1))
        assert (status(pusher, "one").waiting, status(pusher, "one").dropped) == (0, 1)
        for _ in range(3):
            pusher.change(history.publish("menu"), bytes(EVENT_MAX_BYTES))
        assert (status(pusher, "one").waiting, status(pusher, "one").dropped) == (0, 4)


@in_virtual_time
async def test_of_heads_that_could_not_be_told_only_the_newest_are() -> None:
    gateways, history = Gateways(), History("L")
    gateways.hanging.add("one")
    async with pushing(gateways, one="L") as pusher:
        for _ in range(4):
            history.publish("menu")
            heads(pusher, history.head)
            await asyncio.sleep(AT_ONCE)
        gateways.hanging.clear()
        await until(lambda: bool(gateways.heads("one")), within=PUSH_SECONDS + HEARTBEAT)
        await asyncio.sleep(HEARTBEAT)
    assert gateways.heads("one") == [[("L", 4)]]


@in_virtual_time
async def test_what_does_not_fit_although_it_answers_is_told() -> None:
    gateways, history = Gateways(), History("L")
    async with pushing(gateways, one="L") as pusher:

        async def after(answer: PushAnswer) -> str:
            gateways.answer, sent = answer, status(pusher, "one").sent
            heads(pusher, history.head)
            await until(lambda: status(pusher, "one").sent > sent, within=AT_ONCE)
            return status(pusher, "one").doubt

        assert await after(PushAnswer("gw1", MadeOf.KNOWN)) == ""
        assert await after(PushAnswer("gw1", MadeOf.NOT_MINE)) == "gw1 follows none of these labels"
        assert await after(PushAnswer("gw2", MadeOf.KNOWN, "sandbox")) == (
            "gw2 is of type sandbox, the configuration says hybrid"
        )
