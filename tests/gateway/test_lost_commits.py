"""A database that lost its last commits in a crash, after gateways had seen them.

MariaDB shows a commit before it is durable. Whoever published was never answered, and repeats.
"""

import pytest

from gatesync.publisher.fleet import ReceiptStatus
from tests.contracts.saves import publish, remove
from tests.gateway.cluster import Cluster, Node
from tests.gateway.histories import backup_of
from tests.gateway.test_other_histories import SOON, followed, reported, restart_on, serving
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = [pytest.mark.fast, pytest.mark.promise(6), pytest.mark.promise(7)]


async def soon(nodes: list[Node], *, serve: set[str], hold: int) -> None:
    for node in nodes:
        await until(lambda node=node: (serving(node), node.held("L")) == (serve, hold), within=SOON)


@pytest.mark.parametrize("others", [0, 1, 2, 3, 9])
@in_virtual_time
async def test_what_a_crash_took_back_is_in_step_again_once_it_is_repeated(others: int) -> None:
    """Others publish under the numbers that were seen before: below, at and beyond them."""
    async with Cluster() as cluster:
        nodes = await followed(cluster)
        durable = backup_of(cluster.saver)
        await cluster.publish("L", publish("olives"))
        await cluster.publish("L", remove("bread"))
        await soon(nodes, serve={"menu", "ham", "olives"}, hold=0)

        await restart_on(cluster, durable)
        for number in range(others):
            await cluster.publish("L", publish("wine", f"{number}".encode()))
        meanwhile = {"wine"} if others else set()
        await soon(nodes, serve={"menu", "bread", "ham", "olives"} | meanwhile, hold=1)

        await cluster.publish("L", publish("olives"))
        await cluster.publish("L", remove("bread"))
        await soon(nodes, serve={"menu", "ham", "olives"} | meanwhile, hold=0)
        await reported(cluster, ReceiptStatus.APPLIED)
