import asyncio

import pytest

from gatesync.gateway.health import HealthView
from gatesync.gateway.operating import WAIT_SECONDS, Operator, Outcome
from gatesync.gateway.selecting import Selection, SelectionError
from gatesync.gateway.staleness import StalenessRule
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, now, until

pytestmark = pytest.mark.fast

SOON = 10.0
MENU = id_of("menu")


def operator_of(node: Node) -> Operator:
    clock = asyncio.get_running_loop().time
    view = HealthView(node.name, node.engine, node.informer, StalenessRule(), clock)
    return Operator(node.informer, node.engine, view)


async def serving_menu(cluster: Cluster) -> Node:
    node = await cluster.start_node("n1", ["L"])
    await cluster.publish("L", publish("menu"), publish("pizza"))
    await until(lambda: node.serves("menu") and node.serves("pizza"), within=SOON)
    return node


@in_virtual_time
async def test_one_or_all_are_deployed_anew() -> None:
    async with Cluster() as cluster:
        node = await serving_menu(cluster)
        operator = operator_of(node)
        before = dict(node.engine.deploys)
        assert await operator.redeploy([MENU]) == Outcome(1)
        assert node.engine.deploys == before | {MENU: before[MENU] + 1}
        assert await operator.redeploy(None) == Outcome(2)
        assert node.engine.deploys[MENU] == before[MENU] + 2
        assert node.engine.undeploys == {}


@pytest.mark.promise(4)
@in_virtual_time
async def test_what_the_engine_refuses_anew_is_told_and_served_on() -> None:
    async with Cluster() as cluster:
        node = await serving_menu(cluster)
        node.engine.refuses[MENU] = "it has no backend"
        outcome = await operator_of(node).redeploy(None)
        assert outcome == Outcome(1, (), {MENU: "it has no backend"})
        assert node.serves("menu")


@pytest.mark.promise(4)
@in_virtual_time
async def test_without_the_store_it_says_what_is_waited_for_and_goes_on_by_itself() -> None:
    async with Cluster() as cluster:
        node = await serving_menu(cluster)
        node.link.up = False
        before = node.engine.deploys[MENU]
        assert await operator_of(node).redeploy([MENU]) == Outcome(1), "it has them itself"
        assert node.engine.deploys[MENU] == before + 1

        node.engine.corrupt(MENU, b"damaged")
        began = now()
        outcome = await operator_of(node).redeploy([MENU])
        assert outcome == Outcome(0, (MENU,))
        assert now() - began == pytest.approx(WAIT_SECONDS, abs=0.1)
        assert node.serves("menu", b"damaged"), "not given up for what may come"
        node.link.up = True
        await until(lambda: not node.serves("menu", b"damaged"), within=60)
        assert node.engine.deploys[MENU] == before + 2


@in_virtual_time
async def test_what_the_engine_cannot_undeploy_now_is_told_and_goes_later() -> None:
    async with Cluster() as cluster:
        node = await serving_menu(cluster)
        node.engine.broken = "it is being restarted"
        outcome = await operator_of(node).undeploy([MENU])
        assert outcome.done == 0
        assert list(outcome.failed) == [MENU]
        node.engine.broken = ""
        await until(lambda: not node.serves("menu"), within=60)
        assert node.serves("pizza")


@in_virtual_time
async def test_what_no_label_has_is_not_undeployed() -> None:
    async with Cluster() as cluster:
        operator = operator_of(await serving_menu(cluster))
        with pytest.raises(SelectionError, match="no label of this node has it any more"):
            await operator.undeploy(["nobody"])
        assert operator.find(Selection(name="menu")) == MENU
