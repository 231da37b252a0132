"""Promise 6: nothing, a 404, a truncated answer or another history never removes anything."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gatesync.gateway.starting import StartUp
from gatesync.publisher.fleet import ReceiptStatus
from gatesync.stores.memory import MemoryStore
from gatesync.stores.sql import open_sql_store
from tests.contracts.saves import asked, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.histories import backup_of
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = [pytest.mark.fast, pytest.mark.promise(6)]

SOON = 2 * HEARTBEAT


def serving(node: Node) -> set[str]:
    names = ("menu", "bread", "ham", "olives", "salt", "wine")
    return {name for name in names if node.serves(name)}


async def restart_on(cluster: Cluster, store: MemoryStore) -> None:
    """The publisher goes down, its store is another one, and it comes back."""
    await cluster.stop_publisher()
    cluster.saver = store
    await cluster.start_publisher()


async def confirmed_and_not_stuck(cluster: Cluster, *nodes: Node, holding: set[str]) -> None:
    """The rest of each story: receipts tell, a confirmation removes, and life goes on."""
    for node in nodes:
        await until(lambda node=node: node.held("L") > 0, within=SOON)
        gone = serving(node)
        assert gone > holding, gone
    receipts = await reported(cluster, ReceiptStatus.HELD)
    assert "labels confirm" in receipts[nodes[0].name]
    await cluster.publish("L", publish("salt"))
    for node in nodes:
        await until(lambda node=node: node.serves("salt"), within=SOON)
        assert serving(node) == gone | {"salt"}, "a publish is no confirmation"
        assert node.held("L") > 0
    await cluster.running.confirm("L")
    for node in nodes:
        wanted = holding | {"salt"}
        await until(lambda node=node, wanted=wanted: serving(node) == wanted, within=SOON)
        assert node.held("L") == 0
    await cluster.publish("L", publish("wine"), remove("salt"))
    for node in nodes:
        wanted = holding | {"wine"}
        await until(lambda node=node, wanted=wanted: serving(node) == wanted, within=SOON)
    await reported(cluster, ReceiptStatus.APPLIED)


async def reported(cluster: Cluster, status: ReceiptStatus) -> dict[str, str]:
    async with asyncio.timeout(SOON):
        while True:
            receipts = await cluster.receipts("L")
            if receipts and {each.status for each in receipts.values()} == {status}:
                return {node: each.reason for node, each in receipts.items()}
            await asyncio.sleep(0.01)


async def followed(cluster: Cluster) -> list[Node]:
    """Two nodes that serve menu, bread and ham."""
    nodes = [await cluster.start_node(name, ["L"]) for name in ("n1", "n2")]
    await cluster.publish("L", publish("menu"), publish("bread"), publish("ham"))
    for node in nodes:
        await until(lambda node=node: len(serving(node)) == 3, within=SOON)
    return nodes


@pytest.mark.parametrize("broker", [True, False], ids=["broker", "no broker"])
@in_virtual_time
async def test_an_empty_new_store_removes_nothing_until_it_is_confirmed(broker: bool) -> None:
    async with Cluster(broker=broker) as cluster:
        nodes = await followed(cluster)
        await restart_on(cluster, MemoryStore())
        for node in nodes:
            await until(lambda node=node: node.held("L") == 3, within=SOON)
            assert serving(node) == {"menu", "bread", "ham"}
        await cluster.publish("L", publish("olives"))
        for node in nodes:
            await until(lambda node=node: node.serves("olives"), within=SOON)
        await confirmed_and_not_stuck(cluster, *nodes, holding={"olives"})


@pytest.mark.parametrize("broker", [True, False], ids=["broker", "no broker"])
@in_virtual_time
async def test_another_epoch_adds_and_changes_at_once(broker: bool) -> None:
    async with Cluster(broker=broker) as cluster:
        nodes = await followed(cluster)
        other = MemoryStore()
        await other.save([asked("L", publish("menu", "other"), publish("olives"))])
        await restart_on(cluster, other)
        for node in nodes:
            await until(lambda node=node: node.serves("menu", "other"), within=SOON)
            assert serving(node) == {"menu", "bread", "ham", "olives"}
        await confirmed_and_not_stuck(cluster, *nodes, holding={"menu", "olives"})


@pytest.mark.parametrize("broker", [True, False], ids=["broker", "no broker"])
@in_virtual_time
async def test_a_restored_backup_below_what_is_known_keeps_what_it_forgot(broker: bool) -> None:
    async with Cluster(broker=broker) as cluster:
        nodes = await followed(cluster)
        backup = backup_of(cluster.memory)
        await cluster.publish("L", publish("olives"), publish("menu", "2"), remove("bread"))
        for node in nodes:
            await until(lambda node=node: serving(node) == {"menu", "ham", "olives"}, within=SOON)
        await restart_on(cluster, backup)
        for node in nodes:
            await until(lambda node=node: node.serves("bread"), within=SOON)
            await until(lambda node=node: node.serves("menu", b"<api/>"), within=SOON)
            assert node.serves("olives")
        await confirmed_and_not_stuck(cluster, *nodes, holding={"menu", "bread", "ham"})


@pytest.mark.parametrize("ahead", [0, 1, 5])
@in_virtual_time
async def test_a_fork_at_or_beyond_a_known_revision_is_another_history(ahead: int) -> None:
    """The store lost its last commit in a crash, and gave its number to another one."""
    async with Cluster() as cluster:
        nodes = await followed(cluster)
        backup = backup_of(cluster.memory)
        await cluster.publish("L", publish("olives"))
        for node in nodes:
            await until(lambda node=node: node.serves("olives"), within=SOON)
        await backup.save([asked("L", remove("bread"))])
        for number in range(ahead):
            await backup.save([asked("L", publish("menu", f"fork {number}"))])
        await restart_on(cluster, backup)
        for node in nodes:
            await until(lambda node=node: node.held("L") == 2, within=SOON)
            assert serving(node) == {"menu", "bread", "ham", "olives"}
        await confirmed_and_not_stuck(cluster, *nodes, holding={"menu", "ham"})


@in_virtual_time
async def test_an_event_of_a_fork_is_found_at_once() -> None:
    async with Cluster() as cluster:
        [node, _] = await followed(cluster)
        backup = backup_of(cluster.memory)
        await cluster.publish("L", publish("olives"))
        await until(lambda: node.serves("olives"), within=SOON)
        await restart_on(cluster, backup)
        await cluster.publish("L", publish("salt"))
        await until(lambda: node.serves("salt"), within=0.1)
        assert node.serves("olives")


@in_virtual_time
async def test_a_confirmation_that_the_backup_brought_along_counts_for_nothing() -> None:
    async with Cluster() as cluster:
        nodes = await followed(cluster)
        await cluster.running.confirm("L")
        backup = backup_of(cluster.memory)
        await cluster.publish("L", publish("olives"))
        for node in nodes:
            await until(lambda node=node: node.serves("olives"), within=SOON)
        await restart_on(cluster, backup)
        for node in nodes:
            await until(lambda node=node: node.held("L") == 1, within=SOON)
        await asyncio.sleep(10 * HEARTBEAT)
        assert all(node.serves("olives") for node in nodes)
        await confirmed_and_not_stuck(cluster, *nodes, holding={"menu", "bread", "ham"})


@in_virtual_time
async def test_only_the_confirmed_label_loses_anything() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L", "M"])
        await cluster.publish("L", publish("menu"))
        await cluster.publish("M", publish("bread"))
        await until(lambda: serving(node) == {"menu", "bread"}, within=SOON)
        await restart_on(cluster, MemoryStore())
        await until(lambda: node.held("L") == node.held("M") == 1, within=SOON)
        await cluster.running.confirm("L")
        await until(lambda: serving(node) == {"bread"}, within=SOON)
        await asyncio.sleep(10 * HEARTBEAT)
        assert serving(node) == {"bread"}


@in_virtual_time
async def test_the_same_history_under_a_new_publisher_holds_nothing() -> None:
    async with Cluster() as cluster:
        nodes = await followed(cluster)
        await restart_on(cluster, backup_of(cluster.memory))
        await cluster.publish("L", remove("bread"))
        for node in nodes:
            await until(lambda node=node: serving(node) == {"menu", "ham"}, within=SOON)
            assert node.held("L") == 0


@in_virtual_time
async def test_a_compacted_log_is_listed_again_and_removes_what_is_gone() -> None:
    async with Cluster() as cluster:
        [node, _] = await followed(cluster)
        node.link.up = False
        cluster.broker.go_down()
        await cluster.publish("L", remove("bread"), publish("olives"))
        await cluster.saver.compact("L", 0)
        node.link.up = True
        await until(lambda: serving(node) == {"menu", "ham", "olives"}, within=60)
        assert node.held("L") == 0
        assert node.informer.pulse.lists == 2


# Answers that are none.


@pytest.mark.parametrize("answers", ["nothing", "half"])
@in_virtual_time
async def test_no_answer_and_half_an_answer_change_nothing(answers: str) -> None:
    async with Cluster() as cluster:
        [node, _] = await followed(cluster)
        node.link.up = answers != "nothing"
        node.link.cut_pages = answers == "half"
        cluster.broker.go_down()
        await cluster.publish("L", remove("bread"), publish("olives"))
        await cluster.saver.compact("L", 0)
        await asyncio.sleep(20 * HEARTBEAT)
        assert serving(node) == {"menu", "bread", "ham"}
        assert node.informer.pulse.store_failures > 3
        node.link.up, node.link.cut_pages = True, False
        await until(lambda: serving(node) == {"menu", "ham", "olives"}, within=90)


@in_virtual_time
async def test_half_of_another_history_changes_nothing() -> None:
    async with Cluster() as cluster:
        [node, _] = await followed(cluster)
        other = MemoryStore()
        await other.save([asked("L", publish("menu", "other"), publish("olives"))])
        node.link.cut_pages = True
        await restart_on(cluster, other)
        await asyncio.sleep(20 * HEARTBEAT)
        assert serving(node) == {"menu", "bread", "ham"}
        assert node.serves("menu", "<api/>")
        assert node.held("L") == 0


@in_virtual_time
async def test_a_gateway_that_starts_on_half_an_answer_serves_nothing_and_says_so() -> None:
    async with Cluster() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        await cluster.stop_publisher()
        node = await cluster.start_node("n1", ["L"], start=StartUp("sync", wait=30.0))
        node.link.cut_pages = True
        await cluster.start_publisher()
        await asyncio.sleep(10 * HEARTBEAT)
        assert not node.agent.status().ready
        assert "does not add up" in node.agent.status().store_error
        node.link.cut_pages = False
        await until(lambda: serving(node) == {"menu", "bread"}, within=90)


# A real file, put aside and put back.


async def awaited(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - several tasks bring it about
            await asyncio.sleep(0.01)


async def test_a_sqlite_file_restored_from_a_backup(tmp_path: Path) -> None:
    file, backup = tmp_path / "artifacts.db", tmp_path / "backup.db"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_sql_store(f"sqlite:///{file}"))
        async with Cluster(store, heartbeat=0.1) as cluster:
            node = await cluster.start_node("n1", ["L"])
            await cluster.publish("L", publish("menu"), publish("bread"))
            await awaited(lambda: serving(node) == {"menu", "bread"})
            await cluster.stop_publisher()
            await stack.aclose()  # a closed store is one file: its log was written back
            shutil.copy(file, backup)

            cluster.saver = await stack.enter_async_context(open_sql_store(f"sqlite:///{file}"))
            await cluster.start_publisher()
            await cluster.publish("L", publish("olives"), publish("ham"), remove("bread"))
            await awaited(lambda: serving(node) == {"menu", "olives", "ham"})
            await cluster.stop_publisher()
            await stack.aclose()
            shutil.copy(backup, file)

            cluster.saver = await stack.enter_async_context(open_sql_store(f"sqlite:///{file}"))
            await cluster.start_publisher()
            await awaited(lambda: serving(node) == {"menu", "bread", "olives", "ham"})
            assert node.held("L") == 2
            await cluster.publish("L", publish("salt"))
            await awaited(lambda: node.serves("salt"))
            assert serving(node) == {"menu", "bread", "olives", "ham", "salt"}
            await cluster.running.confirm("L")
            await awaited(lambda: serving(node) == {"menu", "bread", "salt"})
            await cluster.publish("L", publish("wine"), remove("menu"))
            await awaited(lambda: serving(node) == {"bread", "salt", "wine"})
            for name in list(cluster.nodes):
                await cluster.stop_node(name)
            await cluster.stop_publisher()
