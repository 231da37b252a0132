"""Events are hints: lost, late, doubled, damaged or absent, the gateway gets there."""

import asyncio

import msgspec
import pytest

from gatesync.artifacts.changes import Change, ChangeSet, Instruction
from gatesync.artifacts.compression import compress
from gatesync.artifacts.planning import Publish
from gatesync.events.messages import (
    INLINE_MAX_BYTES,
    ChangeAnnounced,
    announce_change,
    decode_announcement,
    encode,
)
from gatesync.gateway.informer import PENDING_EVENTS
from gatesync.gateway.starting import StartUp
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked, id_of, publish, remove
from tests.faults import Faults
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, now, until

pytestmark = pytest.mark.fast

AT_ONCE = 0.1  # seconds: less than any interval
TWO_HEARTBEATS = 2 * HEARTBEAT


async def in_step(cluster: Cluster, *labels: str) -> Node:
    """A node that has read its labels."""
    node = await cluster.start_node("n1", labels or ("L",))
    await until(lambda: node.informer.processed, within=AT_ONCE)
    return node


@in_virtual_time
async def test_an_event_brings_the_artifact_without_any_question() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        questions = node.link.questions
        await cluster.publish("L", publish("menu", "1"))
        await until(lambda: node.serves("menu", "1"), within=AT_ONCE)
        await cluster.publish("L", publish("menu", "2"))
        await until(lambda: node.serves("menu", "2"), within=AT_ONCE)
        await cluster.publish("L", remove("menu"))
        await until(lambda: not node.serves("menu"), within=AT_ONCE)
        assert node.link.questions == questions


@in_virtual_time
async def test_what_is_too_large_for_an_event_is_fetched_by_digest_at_once() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        large = b"x" * (INLINE_MAX_BYTES + 1)
        await cluster.publish("L", [publish("menu", large), publish("bread")])
        await until(lambda: node.serves("menu", large) and node.serves("bread"), within=AT_ONCE)
        assert node.link.contents_asked == 1


# Promise 1.


@pytest.mark.promise(1)
@in_virtual_time
async def test_though_every_message_is_dropped_it_converges_within_two_heartbeats() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        cluster.faults.drop = 1.0
        for number in range(20):
            await cluster.publish("L", publish("menu", str(number)), publish(f"api-{number}"))
            if number:
                await cluster.publish("L", remove(f"api-{number - 1}"))
            wanted = {id_of("menu"): b"%d" % number, id_of(f"api-{number}"): b"<api/>"}
            await until(lambda w=wanted: dict(node.engine.snapshot()) == w, within=TWO_HEARTBEATS)
        assert node.informer.pulse.events == 0


@pytest.mark.promise(1)
@pytest.mark.parametrize("broker", ["down", "none"])
@in_virtual_time
async def test_without_a_broker_it_converges_within_two_heartbeats(broker: str) -> None:
    async with Cluster(broker=broker == "down") as cluster:
        cluster.broker.go_down()
        node = await in_step(cluster)
        for number in range(5):
            await cluster.publish("L", publish("menu", str(number)))
            await until(lambda n=number: node.serves("menu", str(n)), within=TWO_HEARTBEATS)


@pytest.mark.promise(1)
@in_virtual_time
async def test_a_broker_that_comes_back_brings_everyone_in_step_at_once() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        cluster.broker.go_down()
        await cluster.publish("L", publish("menu"))
        cluster.broker.come_back()
        await until(lambda: node.serves("menu"), within=AT_ONCE)


@pytest.mark.promise(1)
@in_virtual_time
async def test_a_lost_event_is_made_good_by_the_next_one() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("menu"))
        cluster.faults.drop = 0.0
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("menu") and node.serves("bread"), within=AT_ONCE)
        assert node.informer.pulse.lists == 1  # the difference was enough


@pytest.mark.promise(1)
@in_virtual_time
async def test_a_store_that_cannot_be_reached_is_asked_until_it_answers() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        cluster.faults.drop = 1.0
        node.link.up = False
        await cluster.publish("L", publish("menu"))
        started = now()
        await until(lambda: node.informer.pulse.store_failures > 20, within=600)
        assert now() - started > 60, "it asks in a hurry"
        assert "cannot be reached" in node.informer.pulse.store_error
        node.link.up = True
        await until(lambda: node.serves("menu"), within=TWO_HEARTBEATS)
        assert node.informer.pulse.store_error == ""


@pytest.mark.promise(1)
@in_virtual_time
async def test_contents_that_cannot_be_fetched_now_come_with_the_first_answer() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        node.link.up = False
        large = b"x" * (INLINE_MAX_BYTES + 1)
        await cluster.publish("L", publish("menu", large))
        await until(lambda: node.informer.pulse.store_failures > 3, within=60)
        node.link.up = True
        await until(lambda: node.serves("menu", large), within=TWO_HEARTBEATS)


@pytest.mark.promise(4)
@in_virtual_time
async def test_a_retry_whose_bytes_cannot_be_fetched_waits_for_the_store_and_not_in_a_circle() -> (
    None
):
    async with Cluster() as cluster:
        node = await in_step(cluster)
        node.engine.refuses[id_of("menu")] = "bad endpoint"
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.informer.deployment.failed, within=AT_ONCE)
        node.link.up = False
        node.engine.refuses.clear()
        await until(lambda: node.informer.deployment.waiting, within=HEARTBEAT)
        started = now()
        await until(lambda: now() > started + 30, within=31)  # else time stands still
        node.link.up = True
        await until(lambda: node.serves("menu"), within=60)


@in_virtual_time
async def test_more_events_than_are_kept_during_a_pull_lose_nothing() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("first"))
        cluster.faults.drop = 0.0
        node.link.latency = 1.0
        answered = node.link.answered
        await cluster.publish("L", publish("second"))
        await until(lambda: node.link.answered > answered, within=1)
        for number in range(PENDING_EVENTS + 1):  # of which the answer cannot know
            await cluster.publish("L", publish(f"api-{number}"))
        node.link.latency = 0.0
        held = 2 + PENDING_EVENTS + 1
        await until(lambda: len(node.engine.api_ids()) == held, within=1.5)  # no heartbeat yet


# Promise 3.


@pytest.mark.promise(3)
@in_virtual_time
async def test_a_change_whose_publisher_died_before_its_event_is_told_when_one_starts() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        [saved] = await cluster.saver.save([asked("L", publish("menu"))])  # and no event
        assert isinstance(saved, SaveOutcome)
        await cluster.stop_publisher()
        await cluster.start_publisher()
        await until(lambda: node.serves("menu"), within=AT_ONCE)


@pytest.mark.promise(3)
@in_virtual_time
async def test_a_change_whose_publisher_died_is_told_by_another_one_that_lives() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("bread"), within=AT_ONCE)
        await cluster.saver.save([asked("L", publish("menu"))])
        await until(lambda: node.serves("menu"), within=HEARTBEAT + AT_ONCE)


# Promise 7.


async def recorded(cluster: Cluster) -> list[bytes]:
    """What was announced to label L, from now on."""
    messages: list[bytes] = []
    announce = cluster.broker.announce

    async def record(label: str, message: bytes) -> None:
        messages.append(message)
        await announce(label, message)

    cluster.broker.announce = record  # type: ignore[method-assign]
    return messages


@pytest.mark.promise(7)
@in_virtual_time
async def test_replays_of_everything_in_any_order_change_nothing() -> None:
    async with Cluster() as cluster:
        messages = await recorded(cluster)
        node = await in_step(cluster)
        for number in range(5):
            await cluster.publish("L", publish("menu", str(number)), publish(f"api-{number}"))
        await cluster.publish("L", remove("api-1"))
        await until(lambda: not node.serves("api-1"), within=AT_ONCE)
        served, deploys = node.engine.snapshot(), dict(node.engine.deploys)
        questions = node.link.questions
        for message in [*messages, *reversed(messages), *messages]:
            await cluster.hub.inner.announce("L", message)
        events = len(messages)
        await until(lambda: node.informer.pulse.events >= events, within=AT_ONCE)
        assert node.engine.snapshot() == served
        assert node.engine.deploys == deploys
        assert node.engine.undeploys == {id_of("api-1"): 1}
        assert node.link.questions == questions


@pytest.mark.promise(7)
@pytest.mark.parametrize(
    "faults",
    [
        Faults(duplicate=1.0),
        Faults(reorder=0.5),
        Faults(delay=0.5, longest_delay=1.0),
        Faults(drop=0.3, duplicate=0.3, reorder=0.3, delay=0.3, longest_delay=3.0),
    ],
    ids=["doubled", "reordered", "delayed", "everything"],
)
@in_virtual_time
async def test_each_version_is_deployed_at_most_once(faults: Faults) -> None:
    async with Cluster(seed=7) as cluster:
        node = await in_step(cluster)
        cluster.hub.faults = faults
        for number in range(40):
            await cluster.publish("L", publish(f"api-{number}"))
            await until(lambda: True, within=1)
        wanted = {id_of(f"api-{number}") for number in range(40)}
        await until(lambda: set(node.engine.api_ids()) == wanted, within=4 * HEARTBEAT)
        assert set(node.engine.deploys.values()) == {1}


# Promise 8.


def changed(message: bytes, **fields: object) -> bytes:
    announced = decode_announcement(message)
    assert isinstance(announced, ChangeAnnounced)
    return encode(msgspec.structs.replace(announced, **fields))


async def change_of(saver: MemoryStore, made: Publish) -> tuple[ChangeSet, bytes]:
    """Save without announcing; the change set and the event that would be sent."""
    [outcome] = await saver.save([asked("L", made)])
    assert isinstance(outcome, SaveOutcome)
    [change_set] = outcome.change_sets
    return change_set, encode(announce_change(change_set, {made.entry.digest: made.content}))


@pytest.mark.promise(8)
@in_virtual_time
async def test_corrupted_contents_of_an_event_are_fetched_instead() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        made = publish("menu", "good")
        _, event = await change_of(cluster.memory, made)
        evil = compress(msgspec.msgpack.encode({made.entry.digest: b"evil"}))
        await cluster.hub.announce("L", changed(event, contents=evil))
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        assert node.serves("menu", "good")
        assert node.engine.deploys == {id_of("menu"): 1}
        assert node.informer.pulse.refused_events == 1


@pytest.mark.promise(8)
@pytest.mark.parametrize("frame", [b"no frame", compress(b"no map"), compress(b"")])
@in_virtual_time
async def test_a_broken_frame_is_fetched_instead(frame: bytes) -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        _, event = await change_of(cluster.memory, publish("menu", "good"))
        await cluster.hub.announce("L", changed(event, contents=frame))
        await until(lambda: node.serves("menu", "good"), within=AT_ONCE)
        assert node.informer.pulse.refused_events == 1


@pytest.mark.promise(8)
@in_virtual_time
async def test_an_event_whose_label_digest_does_not_come_out_is_not_believed() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        change_set, _ = await change_of(cluster.memory, publish("menu", "good"))
        evil = publish("menu", "evil")
        forged = msgspec.structs.replace(
            change_set, changes=(Change(Instruction.PUBLISH, evil.entry),)
        )
        event = encode(announce_change(forged, {evil.entry.digest: evil.content}))
        await cluster.hub.announce("L", event)
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        assert node.serves("menu", "good")
        assert node.engine.deploys == {id_of("menu"): 1}


@pytest.mark.promise(6)
@pytest.mark.promise(8)
@in_virtual_time
async def test_a_forged_event_of_a_change_that_never_was_removes_nothing() -> None:
    """It is consistent in itself, so it is taken for a hint; the next heartbeat sets it right."""
    async with Cluster() as cluster:
        node = await in_step(cluster)
        await cluster.publish("L", publish("menu"), publish("bread"))
        await until(lambda: node.serves("bread"), within=AT_ONCE)
        other = MemoryStore("another epoch")
        change_set, event = await change_of(other, publish("evil"))
        await cluster.hub.announce("L", event)
        await cluster.hub.announce(
            "L", encode(ChangeAnnounced(msgspec.structs.replace(change_set, revision=99)))
        )
        await until(lambda: node.informer.pulse.events > 4, within=2 * HEARTBEAT)
        assert set(node.engine.api_ids()) == {id_of("menu"), id_of("bread")}
        assert not node.serves("evil")


@pytest.mark.promise(8)
@in_virtual_time
async def test_rubbish_on_the_wire_is_counted_and_stops_nothing() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        for message in (b"", b"\xff" * 100, b'{"json": true}', encode.__name__.encode()):
            await cluster.hub.announce("L", message)
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        assert node.informer.pulse.refused_events == 4


# Several labels.


@in_virtual_time
async def test_a_move_between_labels_of_one_node_never_leaves_it_without() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster, "L", "M")
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        await cluster.publish("M", publish("menu"))
        await cluster.publish("L", remove("menu"))
        await until(lambda: "menu" not in str(node.informer.logs["L"].entries), within=AT_ONCE)
        assert node.serves("menu")
        assert node.engine.deploys == {id_of("menu"): 1}
        assert node.engine.undeploys == {}


@pytest.mark.promise(4)
@in_virtual_time
async def test_a_ready_node_stays_ready_while_it_waits_for_the_bytes_of_a_change() -> None:
    async with Cluster() as cluster:
        node = await in_step(cluster)
        assert node.agent.status().ready
        await cluster.publish("L", publish("menu", "1"))
        await until(lambda: node.serves("menu", "1"), within=AT_ONCE)
        node.link.up = False
        await cluster.publish("L", publish("menu", b"x" * (INLINE_MAX_BYTES + 1)))
        await until(lambda: node.agent.status().waiting == 1, within=AT_ONCE)
        assert node.agent.status().ready, "it serves what it did"
        assert node.serves("menu", "1")


@in_virtual_time
async def test_a_node_is_not_ready_before_its_first_list_was_fetched() -> None:
    async with Cluster() as cluster:
        await cluster.publish("L", publish("menu"))
        node = await cluster.start_node("n1", ["L", "M"], start=StartUp("sync", wait=30.0))
        node.link.up = False
        await asyncio.sleep(TWO_HEARTBEATS)
        assert not node.agent.status().ready
        node.link.up = True
        await until(lambda: node.agent.status().ready, within=120)
        assert node.serves("menu")


@pytest.mark.promise(1)
@in_virtual_time
async def test_a_label_that_the_node_may_not_read_does_not_hide_the_others() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L", "M"])
        await until(lambda: node.informer.processed, within=AT_ONCE)
        node.link.forbidden = {"M"}
        cluster.broker.go_down()
        for number in range(3):
            await cluster.publish("L", publish("menu", str(number)))
            await until(lambda n=number: node.serves("menu", str(n)), within=TWO_HEARTBEATS)
        node.link.forbidden = set()
        await cluster.publish("M", publish("bread"))
        await until(lambda: node.serves("bread"), within=TWO_HEARTBEATS)
