"""Events that publishers push: heard as the broker's are, whichever way comes first."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from gatesync.artifacts.errors import FormatError
from gatesync.events.messages import ChangeAnnounced, HeadsAnnounced, announce_change, encode
from gatesync.events.pushed import MadeOf, PushAnswer
from gatesync.gateway import receiving
from gatesync.gateway.receiving import BusyError, Inbox
from gatesync.publisher.pushing import Environment, Post, Pusher, PushError
from gatesync.publisher.service import Publisher
from tests.contracts.saves import id_of, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast

AT_ONCE = 0.1
TWO_HEARTBEATS = 2 * HEARTBEAT


@asynccontextmanager
async def pushing(cluster: Cluster, *behind: Node) -> AsyncIterator[set[str]]:
    """The publisher pushes label L to these nodes, who take turns; yields those who are away."""
    away: set[str] = set()
    turns = itertools.cycle(behind)

    @asynccontextmanager
    async def way(_: Environment) -> AsyncIterator[Post]:
        async def post(message: bytes) -> PushAnswer:
            node = next(turns)
            if node.name in away:
                raise PushError(f"{node.name} is away")
            return PushAnswer(node.name, await node.agent.inbox.offer(message))

        yield post

    pusher = Pusher([Environment("E", "http://e", ("L",))], heartbeat=HEARTBEAT, open_post=way)
    publisher: Publisher = cluster.running
    publisher.announcer.pusher = pusher
    task = asyncio.create_task(pusher.run())
    try:
        yield away
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def nodes(cluster: Cluster, *names: str, labels: Sequence[str] = ("L",)) -> list[Node]:
    """Gateways that have read their labels."""
    made = [await cluster.start_node(name, labels) for name in names]
    await until(lambda: all(node.informer.processed for node in made), within=AT_ONCE)
    return made


@pytest.mark.promise(1)
@in_virtual_time
async def test_without_any_broker_a_push_brings_the_artifact_and_heads_prove_it() -> None:
    async with Cluster(broker=False) as cluster:
        (node,) = await nodes(cluster, "n1")
        async with pushing(cluster, node):
            await asyncio.sleep(TWO_HEARTBEATS)
            questions = node.link.questions
            for version in "123":
                await cluster.publish("L", publish("menu", version))
                await until(lambda: node.serves("menu", version), within=AT_ONCE)  # noqa: B023
            await cluster.publish("L", remove("menu"))
            await until(lambda: not node.serves("menu"), within=AT_ONCE)
            await asyncio.sleep(20 * HEARTBEAT)
            assert node.link.questions == questions  # heads came: nothing was left to ask
            assert node.informer.pulse.pushed > 20


@pytest.mark.promise(7)
@in_virtual_time
async def test_both_ways_at_once_deploys_once() -> None:
    async with Cluster() as cluster:
        (node,) = await nodes(cluster, "n1")
        async with pushing(cluster, node):
            for version in range(20):
                await cluster.publish("L", publish("menu", str(version)))
            await until(lambda: node.serves("menu", "19"), within=AT_ONCE)
            await asyncio.sleep(TWO_HEARTBEATS)
            assert node.informer.pulse.pushed >= 20
            assert node.engine.deploys[id_of("menu")] == 20


@pytest.mark.promise(1)
@in_virtual_time
async def test_gateways_behind_one_url_that_were_not_hit_heal_by_themselves() -> None:
    async with Cluster(broker=False) as cluster:
        three = await nodes(cluster, "n1", "n2", "n3")
        async with pushing(cluster, *three):
            for number in range(10):
                name = f"menu{number}"
                await cluster.publish("L", publish(name))
                await until(lambda: any(n.serves(name) for n in three), within=AT_ONCE)  # noqa: B023
                await until(lambda: all(n.serves(name) for n in three), within=TWO_HEARTBEATS)  # noqa: B023
            assert {id_of(f"menu{number}") for number in range(10)} == set(three[0].engine.deploys)
            assert all(set(n.engine.deploys.values()) == {1} for n in three)


@pytest.mark.promise(1)
@in_virtual_time
async def test_an_environment_that_was_away_is_healed_by_the_log() -> None:
    async with Cluster(broker=False) as cluster:
        (node,) = await nodes(cluster, "n1")
        async with pushing(cluster, node) as away:
            away.add("n1")
            node.link.up = False
            for version in range(100):
                await cluster.publish("L", publish("menu", str(version)))
            await asyncio.sleep(10 * HEARTBEAT)
            assert not node.serves("menu")
            away.clear()
            node.link.up = True
            await until(lambda: node.serves("menu", "99"), within=TWO_HEARTBEATS)


@pytest.mark.promise(7)
@in_virtual_time
async def test_two_publishers_that_push_the_same_do_no_harm() -> None:
    async with Cluster(broker=False) as cluster:
        (node,) = await nodes(cluster, "n1")
        outcome = await cluster.publish("L", publish("menu"))
        (change_set,) = outcome.change_sets
        event = encode(ChangeAnnounced(change_set))
        both = await asyncio.gather(node.agent.inbox.offer(event), node.agent.inbox.offer(event))
        assert both[0] is MadeOf.TAKEN
        assert both[1] is MadeOf.KNOWN
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        heads = encode(HeadsAnnounced((change_set.head,), "p2", 0))
        assert await node.agent.inbox.offer(heads) is MadeOf.KNOWN
        await asyncio.sleep(TWO_HEARTBEATS)
        assert node.engine.deploys == {id_of("menu"): 1}


@in_virtual_time
async def test_the_answer_says_what_the_node_made_of_it() -> None:
    async with Cluster(broker=False) as cluster:
        (node,) = await nodes(cluster, "n1")
        inbox = node.agent.inbox
        (first,) = (await cluster.publish("L", publish("menu"))).change_sets
        (second,) = (await cluster.publish("L", publish("menu", "2"))).change_sets
        (other,) = (await cluster.publish("M", publish("menu"))).change_sets
        assert await inbox.offer(encode(ChangeAnnounced(second))) is MadeOf.ASKING
        await until(lambda: node.serves("menu", "2"), within=AT_ONCE)
        assert await inbox.offer(encode(ChangeAnnounced(first))) is MadeOf.KNOWN
        assert await inbox.offer(encode(ChangeAnnounced(other))) is MadeOf.NOT_MINE
        with pytest.raises(FormatError):
            await inbox.offer(b"garbage")
        assert node.informer.pulse.refused_events == 1
        node.engine.slow = 100.0
        item = publish("menu", "3")
        (third,) = (await cluster.publish("L", item)).change_sets
        event = encode(announce_change(third, {item.entry.digest: item.content}))
        assert await inbox.offer(event) is MadeOf.WAITING
        await until(lambda: node.serves("menu", "3"), within=300.0)


@in_virtual_time
async def test_an_inbox_that_is_full_says_so_and_takes_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "INBOX_MESSAGES", 3)
    monkeypatch.setattr(receiving, "INBOX_BYTES", 10)
    inbox = Inbox()
    offers = [asyncio.create_task(inbox.offer(each)) for each in (b"one", b"two")]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):  # too many bytes
        await inbox.offer(b"third")
    offers.append(asyncio.create_task(inbox.offer(b"3")))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):  # too many messages
        await inbox.offer(b"4")
    for expected in (b"one", b"two", b"3"):
        pushed = await inbox.next()
        assert pushed.message == expected
        pushed.made(MadeOf.TAKEN)
    assert await asyncio.gather(*offers) == [MadeOf.TAKEN] * 3
    assert await inbox.offer(b"ten bytes.") is MadeOf.WAITING  # room again; nobody takes it out
    late = await inbox.next()
    late.made(MadeOf.TAKEN)  # and nobody waits for it
