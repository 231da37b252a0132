"""Labels and tenants that change while a gateway runs, and artifacts that move between labels."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from gatesync.artifacts.planning import Publish
from gatesync.gateway.desired import loads_all
from gatesync.gateway.tenants import tenant_filter
from tests.contracts.saves import id_of, publish, remove
from tests.gateway.cluster import Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast


def of_tenant(name: str, tenant: str) -> Publish:
    made = publish(name)
    return msgspec.structs.replace(made, entry=msgspec.structs.replace(made.entry, tenant=tenant))


def of_kind(name: str, kind: str, content: str = "<x/>") -> Publish:
    made = publish(name, content)
    return msgspec.structs.replace(made, entry=msgspec.structs.replace(made.entry, kind=kind))


async def started(cluster: Cluster, *labels: str) -> Node:
    node = await cluster.start_node("n1", labels)
    await until(lambda: node.informer.processed, within=0.1)
    return node


def follows(node: Node) -> Sequence[str]:
    return list(node.informer.logs)


@in_virtual_time
async def test_other_labels_deploy_and_undeploy_exactly_what_differs() -> None:
    async with Cluster() as cluster:
        await cluster.publish(["A", "B"], publish("both"))
        await cluster.publish("A", publish("old"))
        await cluster.publish("B", publish("new"))
        node = await started(cluster, "A")
        await node.agent.follow(["B"], loads_all)
        await until(lambda: node.serves("new") and not node.serves("old"), within=1)
        assert node.engine.deploys == {id_of("both"): 1, id_of("old"): 1, id_of("new"): 1}
        assert node.engine.undeploys == {id_of("old"): 1}
        assert follows(node) == ["B"]
        await cluster.publish("B", publish("new", "2"))
        await until(lambda: node.serves("new", "2"), within=0.1)
        await cluster.publish("A", publish("old", "2"))
        await asyncio.sleep(3 * cluster.heartbeat)
        assert not node.serves("old")


@in_virtual_time
async def test_what_a_dropped_label_had_is_served_until_the_new_one_was_read() -> None:
    async with Cluster() as cluster:
        await cluster.publish(["A", "B"], publish("both"))
        node = await started(cluster, "A")
        node.link.up = False
        await node.agent.follow(["B"], loads_all)
        await asyncio.sleep(20 * cluster.heartbeat)
        assert node.serves("both")
        assert list(node.informer.leaving) == ["A"]
        node.link.up = True
        await until(lambda: not node.informer.leaving, within=60)
        assert node.engine.deploys == {id_of("both"): 1}
        assert node.engine.undeploys == {}


@in_virtual_time
async def test_another_order_of_the_labels_decides_anew_who_wins() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu", "of A"))
        await cluster.publish("B", publish("menu", "of B"))
        node = await started(cluster, "A", "B")
        assert node.serves("menu", "of A")
        await node.agent.follow(["B", "A"], loads_all)
        await until(lambda: node.serves("menu", "of B"), within=1)
        assert node.engine.undeploys == {}


@in_virtual_time
async def test_publishers_forget_what_a_node_said_of_a_label_that_it_dropped() -> None:
    async with Cluster() as cluster:
        await cluster.publish(["A", "B"], publish("both"))
        node = await started(cluster, "A", "B")
        fleet = cluster.running.fleet
        await until(lambda: fleet.labels() == {"A", "B"}, within=2 * cluster.heartbeat)
        await node.agent.follow(["B"], loads_all)
        await until(lambda: fleet.labels() == {"B"}, within=0.1)
        (status,) = fleet.nodes()
        assert [each.label for each in status.labels] == ["B"]


@in_virtual_time
async def test_a_label_that_comes_back_at_once_is_as_it_was() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu"))
        node = await started(cluster, "A")
        node.link.up = False
        await node.agent.follow(["B"], loads_all)
        await node.agent.follow(["A"], loads_all)
        node.link.up = True
        await cluster.publish("A", publish("menu", "2"))
        await until(lambda: node.serves("menu", "2"), within=0.1)
        assert node.engine.undeploys == {}


@in_virtual_time
async def test_an_artifact_that_moves_between_two_labels_has_no_moment_without_it() -> None:
    for latency in (0.0, 0.3, 1.0):
        async with Cluster(seed=int(latency * 10)) as cluster:
            await cluster.publish("A", publish("menu"))
            node = await started(cluster, "A", "B")
            node.link.latency = latency
            cluster.faults.drop = 1.0  # of what follows this node hears by heartbeats only
            await cluster.publish("B", publish("menu"))
            cluster.faults.drop = 0.0
            await cluster.publish("A", remove("menu"))
            await until(
                lambda node=node: (
                    not node.informer.logs["A"].entries and bool(node.informer.logs["B"].entries)
                ),
                within=4 * cluster.heartbeat,
            )
            await asyncio.sleep(3 * cluster.heartbeat)
            assert node.serves("menu")
            assert node.engine.undeploys == {}


@in_virtual_time
async def test_a_removal_counts_though_nobody_can_say_what_the_other_labels_have() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu"))
        node = await started(cluster, "A", "B")
        node.link.up = False
        await cluster.publish("A", remove("menu"))
        await until(lambda: not node.serves("menu"), within=3)


@in_virtual_time
async def test_a_removal_at_a_node_of_two_labels_takes_no_longer_than_a_question() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu"))
        node = await started(cluster, "A", "B")
        await cluster.publish("A", remove("menu"))
        await until(lambda: not node.serves("menu"), within=0.1)


@in_virtual_time
async def test_only_the_tenants_that_are_loaded_are_served_and_the_others_are_in_step() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", of_tenant("a", "a.example"), of_tenant("b", "b.example"))
        node = await started(cluster, "A")
        assert node.serves("a")
        assert node.serves("b")
        await node.agent.follow(["A"], tenant_filter(["*", "!b.example"]))
        await until(lambda: not node.serves("b"), within=0.1)
        assert node.serves("a")
        skipped = node.agent.status().skipped
        assert skipped == {id_of("b"): "tenant b.example is not loaded here (tenant_loading)"}
        assert node.informer.processed_up_to("A") == 2
        await node.agent.follow(["A"], loads_all)
        await until(lambda: node.serves("b"), within=0.1)


@pytest.mark.parametrize(
    ("patterns", "loaded", "left_out"),
    [
        (["*"], ["carbon.super", "a.example"], []),
        (["a.example"], ["carbon.super", "a.example"], ["b.example"]),
        (["*.example", "!b.example"], ["a.example"], ["b.example", "a.test"]),
        (["!b.example"], ["a.example", "carbon.super"], ["b.example"]),
        (["*", "!carbon.super"], ["a.example"], ["carbon.super"]),
        (["! b.example", "*"], ["a.example"], ["b.example"]),
    ],
)
def test_tenants_by_pattern(patterns: list[str], loaded: list[str], left_out: list[str]) -> None:
    loads = tenant_filter(patterns)
    assert [each for each in [*loaded, *left_out] if loads(each)] == loaded


@in_virtual_time
async def test_nothing_is_deployed_before_what_it_may_need() -> None:
    async with Cluster() as cluster:
        node = await started(cluster, "A")
        node.link.up = False
        large = "x" * 300_000  # too large for an event: it must be fetched
        await cluster.publish("A", of_kind("shared", "sequence", large))
        await cluster.publish("A", of_kind("menu", "api"))
        await asyncio.sleep(3 * cluster.heartbeat)
        assert not node.serves("menu")
        node.link.up = True
        await until(lambda: node.serves("menu"), within=60)
        assert node.serves("shared")
        assert node.engine.tries[id_of("shared")][-1] <= node.engine.tries[id_of("menu")][0]


@in_virtual_time
async def test_what_others_need_goes_after_their_new_version_came() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", of_kind("shared", "sequence"), of_kind("menu", "api"))
        node = await started(cluster, "A")
        node.link.up = False
        await cluster.publish("A", of_kind("menu", "api", "x" * 300_000))  # without the sequence
        await cluster.publish("A", remove("shared"))
        await asyncio.sleep(3 * cluster.heartbeat)
        assert node.serves("shared"), "the old version, which is served still, may need it"
        node.link.up = True
        await until(lambda: not node.serves("shared"), within=60)
        assert node.serves("menu", "x" * 300_000)


@in_virtual_time
async def test_an_operator_undeploys_until_the_next_change() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu"), publish("bread"))
        node = await started(cluster, "A")
        assert await node.informer.undeploy([id_of("menu"), id_of("nobody")]) == 1
        assert not node.serves("menu")
        await asyncio.sleep(5 * cluster.heartbeat)
        assert not node.serves("menu")
        assert "operator" in node.agent.status().skipped[id_of("menu")]
        await cluster.publish("A", publish("menu", "2"))
        await until(lambda: node.serves("menu", "2"), within=0.1)


@in_virtual_time
async def test_an_operator_deploys_anew_also_without_the_store() -> None:
    async with Cluster() as cluster:
        await cluster.publish("A", publish("menu"), publish("bread"))
        node = await started(cluster, "A")
        node.link.up = False
        assert await node.informer.redeploy([id_of("menu")]) == 1
        assert node.engine.deploys == {id_of("menu"): 2, id_of("bread"): 1}
        assert await node.informer.redeploy(None) == 2
        assert node.engine.deploys == {id_of("menu"): 3, id_of("bread"): 2}
        assert node.engine.undeploys == {}
