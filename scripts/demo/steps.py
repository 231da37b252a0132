"""The steps, in the order in which they are shown. Each ends by looking at the gateways."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from demo.calls import seconds_until_answered
from demo.catalog import EXAMPLES, generate, generate_one, path_to_call, use_examples
from demo.faults import DIE_BEFORE_EVENT, DROP_EVENTS
from demo.layout import HEARTBEAT_SECONDS, LABELS
from demo.observe import held_by, seconds_until_held
from demo.processes import until
from demo.stage import DEADLINE_SECONDS, Stage, say
from demo.verdicts import judge, percentile
from gatesync.artifacts.changes import Head
from gatesync.stores.wire import DigestAnswer, HeadsAnswer

__all__ = ["STEPS", "Step", "first_answers", "measure", "publish_everything"]

Step: TypeAlias = Callable[..., Awaitable[None]]

_PIZZA: Final = "pizzashack"


async def publish_everything(stage: Stage, *, generated: int = 100) -> None:
    """Publish the examples and generated APIs to both labels, with one command."""
    use_examples(_examples(stage), stage.upstream)
    generate(stage.inputs / "generated", generated, stage.upstream)
    await stage.publish([_examples(stage), stage.inputs / "generated"], "--wait", "all")


async def edit_one(stage: Stage) -> None:
    """Edit one API."""
    stage.edit(_examples(stage) / _PIZZA)
    await stage.publish([_examples(stage) / _PIZZA], "--wait", "all")


async def remove_from_one_label(stage: Stage) -> None:
    """Remove one API from Label1 only; the other label keeps it."""
    await stage.remove(_examples(stage) / "menu", LABELS[1], "--wait", "all")


async def measure(stage: Stage, *, edits: int = 100) -> None:
    """Edit one API after the other; measure each until every gateway serves the new bytes.

    The clock starts before the publish request is sent, on a kept connection, and stops when the
    bytes that the last gateway gives over HTTP have the right hash: an upper bound, since asking
    takes time too.
    """
    client, folder = stage.cluster.publisher_client, stage.inputs / "generated"
    folders = sorted(folder.iterdir())
    for number in range(edits):
        edited = stage.edit(folders[number % len(folders)])
        stage.model.publish(LABELS, {edited.api_id: edited.digest})
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"labels": LABELS, "publish": [edited.item]}
        began = time.monotonic()
        await client.post("/v1/changes", body, dict[str, Any], headers=key)
        seconds = await seconds_until_held(
            stage.cluster.gateways, edited.api_id, edited.digest, began, DEADLINE_SECONDS
        )
        if seconds is None:
            break  # the look below finds and counts it
        stage.tally.publish_to_all_ms.append(seconds * 1000)
    taken = stage.tally.publish_to_all_ms
    say(
        f"{len(taken)} edits to both labels, from the request until all gateways serve the bytes: "
        f"p50 {percentile(taken, 50)} ms, p99 {percentile(taken, 99)} ms"
    )
    await stage.look()


async def first_answers(stage: Stage, *, apis: int = 20) -> None:
    """Publish one new API after the other; measure each until every gateway answers it.

    The clock starts before the publish request is sent, and stops when the last Envoy has
    answered a call of the API with what the upstream behind it says.
    """
    client = stage.cluster.publisher_client
    addresses = [each.envoy for each in stage.cluster.gateways]
    for number in range(apis):
        made = generate_one(stage.inputs / "new", "New", f"{number}", number, stage.upstream)
        body = {"labels": LABELS, "publish": [stage.expect(made).item]}
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                seconds_until_answered(addresses, path_to_call(made), began, DEADLINE_SECONDS)
            )
            await client.post("/v1/changes", body, dict[str, Any])
        if (seconds := waiting.result()) is None:
            break  # the look below finds and counts it
        stage.tally.publish_to_answer_ms.append(seconds * 1000)
    taken = stage.tally.publish_to_answer_ms
    say(
        f"{len(taken)} new APIs in both labels, from the request until all gateways answer calls: "
        f"p50 {percentile(taken, 50)} ms, p99 {percentile(taken, 99)} ms"
    )
    await stage.look()


async def gateway_dies(stage: Stage) -> None:
    """Kill gateway-2 with SIGKILL, publish, start it again."""
    gateway = stage.cluster.gateways[1]
    await gateway.process.kill_alone()
    say(f"{gateway.name} is killed; the others go on, and so does its Envoy:")
    await stage.call([gateway])
    others = [each for each in stage.cluster.gateways if each is not gateway]
    stage.edit(_examples(stage) / _PIZZA)
    await stage.publish([_examples(stage) / _PIZZA], "--wait", "1", to=others)
    say(f"{gateway.name} is started, and takes its Envoy over")
    began = time.monotonic()
    await gateway.process.start()
    await stage.look(began)


async def publisher_dies(stage: Stage) -> None:
    """Kill the publisher after its commit and before its event; start it again."""
    before = {label: await _head(stage, label) for label in LABELS}
    known = {each.name: stage.model.expected(each.label) for each in stage.cluster.gateways}
    (stage.cluster.layout.faults / DIE_BEFORE_EVENT).touch()
    stage.edit(_examples(stage) / _PIZZA)
    command = stage.expect_published([_examples(stage) / _PIZZA])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.gatesync(*command))
        await stage.cluster.publisher.ended(DEADLINE_SECONDS)
        say("the publisher committed it and died before it told anyone; the command waits")
        for gateway in stage.cluster.gateways:
            expected = known[gateway.name]
            verdict = judge(gateway.name, expected, await held_by(gateway, expected))
            if not verdict.in_step:
                stage.fail(f"without a publisher {gateway.name} has {verdict} of what it had")
        say("no gateway knows of it, and all serve what they had")
        began = time.monotonic()
        await stage.cluster.start_publisher()
        say(f"the publisher is started, and ready after {time.monotonic() - began:.2f} s")
        await stage.look(began)
    for label in LABELS:
        if (made := await _revisions_since(stage, label, before[label])) != 1:
            stage.fail(f"{label} has {made} new revisions; one change was published")
    say("the command asked again with its idempotency key: the change is there exactly once")


async def broker_dies(stage: Stage) -> None:
    """Kill the broker, publish, start it again, publish again."""
    folder = _examples(stage) / _PIZZA
    await stage.cluster.traffic_manager.kill()
    say("the traffic manager is killed, and its broker with it; gateways ask for heads now")
    stage.edit(folder)
    await stage.publish([folder])
    began = time.monotonic()
    await stage.cluster.start_traffic_manager()
    await until(stage.cluster.everyone_connected, DEADLINE_SECONDS, "everyone to find the broker")
    found = time.monotonic() - began
    say(f"the traffic manager is started; all are connected {found:.2f} s after its start")
    stage.edit(folder)
    await stage.publish([folder])


async def events_are_dropped(stage: Stage) -> None:
    """Drop every event and every heartbeat for a while; publish and remove meanwhile."""
    examples, drop = _examples(stage), stage.cluster.layout.faults / DROP_EVENTS
    seconds = 2 * HEARTBEAT_SECONDS
    say(f"gateways are to find out by themselves, within two heartbeats ({seconds:g} s)")
    drop.touch()
    stage.edit(examples / _PIZZA)
    await stage.publish([examples / _PIZZA])
    await stage.remove(examples / "gold-policy", LABELS[1])
    drop.unlink()
    say("events flow again")
    stage.edit(examples / _PIZZA)
    await stage.publish([examples / _PIZZA], "--wait", "all")


async def verify(stage: Stage) -> None:
    """Ask gatesync itself whether it thinks the same."""
    verdicts = (await stage.gatesync("verify")).get("verdicts", ())
    for verdict in verdicts:
        say(f"{verdict['node']}  {verdict['label']:<22}  {verdict['status']}")
    await stage.look()


def _examples(stage: Stage) -> Path:
    return stage.inputs / EXAMPLES.name


async def _head(stage: Stage, label: str) -> Head:
    client = stage.cluster.publisher_client
    (head,) = (await client.get("/v1/heads", HeadsAnswer, [("label", label)])).heads
    return head


async def _revisions_since(stage: Stage, label: str, known: Head) -> int:
    """How many revisions the label's log has after a head; their numbers may have gaps."""
    head, found = await _head(stage, label), 0
    for revision in range(known.revision + 1, head.revision + 1):
        place = [("label", label), ("epoch", head.epoch), ("revision", revision)]
        answer = await stage.cluster.publisher_client.get("/v1/digest", DigestAnswer, place)
        found += answer.digest is not None
    return found


STEPS: Final[tuple[Step, ...]] = (
    publish_everything,
    edit_one,
    remove_from_one_label,
    measure,
    first_answers,
    gateway_dies,
    publisher_dies,
    broker_dies,
    events_are_dropped,
    verify,
)
