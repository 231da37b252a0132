"""What each gateway really holds, recomputed from its engine's bytes, against the store."""

import asyncio

import pytest

from gatesync.events.messages import INLINE_MAX_BYTES, HeadsAnnounced, encode
from gatesync.publisher.service import Verdict
from tests.contracts.saves import id_of, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast

SOON = 2 * HEARTBEAT


async def verify(cluster: Cluster) -> dict[tuple[str, str], Verdict]:
    verification = cluster.running.start_verification()
    return await answers(cluster, verification)


async def answers(cluster: Cluster, verification: str) -> dict[tuple[str, str], Verdict]:
    async with asyncio.timeout(SOON):
        while True:
            found = await cluster.running.verification(verification)
            if found.complete:
                return {(each.node, each.label): each for each in found.verdicts}
            await asyncio.sleep(0.01)


async def serving(cluster: Cluster, *names: str) -> list[Node]:
    nodes = [await cluster.start_node(name, ["L"]) for name in ("n1", "n2")]
    await cluster.publish("L", *(publish(name) for name in names))
    for node in nodes:
        await until(lambda node=node: len(node.engine.api_ids()) == len(names), within=SOON)
    await asyncio.sleep(HEARTBEAT)
    return nodes


@in_virtual_time
async def test_all_is_in_step() -> None:
    async with Cluster() as cluster:
        await serving(cluster, "menu", "bread")
        found = await verify(cluster)
        assert {key: each.status for key, each in found.items()} == {
            ("n1", "L"): "in step",
            ("n2", "L"): "in step",
        }


@pytest.mark.parametrize("content", [b"rubbish", b"", None], ids=["other", "empty", "absent"])
@in_virtual_time
async def test_damaged_memory_is_found_named_and_healed(content: bytes | None) -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu", "bread")
        node.engine.corrupt(id_of("menu"), content)
        await asyncio.sleep(10 * HEARTBEAT)
        assert node.content("menu") == content, "nobody can know before it is verified"
        found = await verify(cluster)
        verdict = found["n1", "L"]
        assert verdict.status == "drift"
        assert [each.api_id for each in verdict.drifted] == [id_of("menu")]
        assert verdict.drifted[0].expected == publish("menu").entry.digest
        assert (verdict.drifted[0].actual == "") is (content is None)
        assert found["n2", "L"].status == "in step"
        await until(lambda: node.serves("menu", "<api/>"), within=1)
        assert {each.status for each in (await verify(cluster)).values()} == {"in step"}
        assert node.engine.deploys[id_of("bread")] == 1


@in_virtual_time
async def test_a_stray_artifact_is_evicted() -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu")
        node.engine.corrupt(id_of("stray"), b"nobody published this")
        await verify(cluster)
        await until(lambda: not node.serves("stray"), within=1)
        assert node.serves("menu")


@in_virtual_time
async def test_an_engine_that_fails_during_an_eviction_ends_nothing() -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu")
        node.engine.corrupt(id_of("stray"), b"nobody published this")
        node.engine.broken = "no connection"
        await verify(cluster)
        cluster.check_alive()
        node.engine.broken = ""
        await verify(cluster)
        await until(lambda: not node.serves("stray"), within=1)


@pytest.mark.promise(4)
@in_virtual_time
async def test_verifying_a_refused_artifact_leaves_what_is_served_and_its_backoff_alone() -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu")
        node.engine.refuses[id_of("menu")] = "bad endpoint"
        await cluster.publish("L", publish("menu", "2"))
        await asyncio.sleep(60)
        tries = len(node.engine.tries[id_of("menu")])
        for _ in range(3):
            found = await verify(cluster)
            assert found["n1", "L"].status == "drift"
            assert node.serves("menu", "<api/>"), "what was served before goes on serving"
        assert len(node.engine.tries[id_of("menu")]) <= tries + 1
        await cluster.publish("L", remove("menu"))
        await until(lambda: not node.serves("menu"), within=1)


@in_virtual_time
async def test_the_same_artifact_in_two_labels_of_one_node_is_no_drift() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L", "M"])
        await cluster.publish("L", publish("menu", "of L"))
        await cluster.publish("M", publish("menu", "of M"))
        await until(lambda: node.serves("menu", "of L"), within=SOON)
        await asyncio.sleep(HEARTBEAT)
        for _ in range(2):
            found = await verify(cluster)
            assert [each.status for each in found.values()] == ["in step", "in step"]
        assert node.engine.deploys == {id_of("menu"): 1}


@in_virtual_time
async def test_a_node_that_is_still_fetching_is_behind_and_has_no_drift() -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu")
        node.link.up = False
        await cluster.publish("L", publish("bread", b"x" * (INLINE_MAX_BYTES + 1)))
        await asyncio.sleep(HEARTBEAT)
        found = await verify(cluster)
        assert (found["n1", "L"].status, found["n2", "L"].status) == ("behind", "in step")


@in_virtual_time
async def test_two_verifications_at_once_are_both_answered() -> None:
    async with Cluster() as cluster:
        await serving(cluster, "menu")
        first = cluster.running.start_verification()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = cluster.running.start_verification()
        for each in (second, first):
            found = await answers(cluster, each)
            assert {verdict.status for verdict in found.values()} == {"in step"}


@in_virtual_time
async def test_a_verification_that_stays_in_every_heartbeat_is_done_once() -> None:
    async with Cluster() as cluster:
        [node, _] = await serving(cluster, "menu")
        inspected = 0
        inspect = node.informer.deployment.inspect

        async def count() -> dict[str, str]:
            nonlocal inspected
            inspected += 1
            found: dict[str, str] = await inspect()
            return found

        node.informer.deployment.inspect = count
        await verify(cluster)
        other = await cluster.saver.heads(["L"])
        for _ in range(5):  # another publisher goes on naming an older one of its own
            await cluster.hub.announce(
                "L", encode(HeadsAnnounced((other["L"],), "p2", 1, "an older one"))
            )
            await asyncio.sleep(HEARTBEAT)
        assert inspected == 2


@in_virtual_time
async def test_without_a_broker_the_question_comes_with_the_heads() -> None:
    async with Cluster(broker=False) as cluster:
        await serving(cluster, "menu")
        assert {each.status for each in (await verify(cluster)).values()} == {"in step"}


@in_virtual_time
async def test_a_silent_node_gives_no_answer() -> None:
    async with Cluster() as cluster:
        await serving(cluster, "menu")
        cluster.faults.drop = 1.0
        verification = cluster.running.start_verification()
        found = await cluster.running.verification(verification)
        assert not found.complete
        assert {each.status for each in found.verdicts} == {"no answer"}
