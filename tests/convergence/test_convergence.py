"""Whatever happens between a publisher and its gateways, in the end they hold the same.

Hypothesis publishes, edits, moves and removes, loses, doubles, reorders and delays messages,
takes away the broker, the store's network, processes and memory, and puts backups and empty
stores in the store's place, whose removals an operator confirms. At each quiet moment every
gateway must serve, byte for byte, what the labels hold; at no moment anything else than what was
published to a label of its own. `GATESYNC_TEST_BUDGET=20` looks twenty times as long.
"""

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gatesync.artifacts.planning import Remove
from gatesync.artifacts.signatures import Signer
from gatesync.engines.engine import Deployable
from gatesync.publisher.answers import Verdict
from gatesync.publisher.fleet import ReceiptStatus
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked, id_of
from tests.convergence.model import NAMES, Model, artifact
from tests.gateway.cluster import Cluster, Node, WatchedEngine
from tests.gateway.histories import backup_of
from tests.gateway.quiet import quiet
from tests.gateway.virtual_time import VirtualTimeLoop

pytestmark = [pytest.mark.fast, pytest.mark.promise(1), pytest.mark.timeout(3600)]

BUDGET = float(os.environ.get("GATESYNC_TEST_BUDGET", "1"))
LABELS = ("A", "B", "C")
NODES = {"a": ("A",), "ab": ("A", "B"), "ba": ("B", "A"), "cab": ("C", "A", "B")}
HEARTBEAT = 5.0
SIGNER = Signer(bytes(32))  # in half of the examples publishers sign, and gateways ask for it
CONVERGES = 60.0  # seconds: two heartbeats, and the longest backoff of store and engine

_T = TypeVar("_T")

labels = st.sampled_from(LABELS)
names = st.sampled_from(NAMES)
nodes = st.sampled_from(sorted(NODES))
contents = st.integers(1, 4)
chance = st.sampled_from([0.0, 0.0, 0.3, 1.0])


class JudgedEngine(WatchedEngine):
    """Serves nothing that was not published to one of its node's labels."""

    def __init__(self, model: Model, node: str) -> None:
        super().__init__()
        self._model = model
        self._labels = NODES[node]

    def check(self, each: Deployable) -> None:
        what = (each.entry.api_id, each.entry.digest)
        ever = self._model.ever
        assert any(what in ever.get(label, ()) for label in self._labels), each.entry


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.model = Model()
        self.quiet = ExitStack()
        self.quiet.enter_context(quiet())
        self.corrupted = False
        self.failed = False
        self.epochs = 0
        self.backup: tuple[MemoryStore, dict[str, dict[str, int]]] | None = None

    @initialize(seed=st.integers(0, 2**16), signing=st.booleans())
    def start(self, seed: int, signing: bool) -> None:
        self.run(self._start(seed, SIGNER if signing else None))

    async def _start(self, seed: int, signer: Signer | None) -> None:
        store = MemoryStore("epoch")
        self.cluster = Cluster(store, heartbeat=HEARTBEAT, seed=seed, signer=signer)
        self.cluster.faults.longest_delay = 3 * HEARTBEAT
        await self.cluster.start_publisher()
        for name in NODES:
            await self._start_node(name)

    async def _start_node(self, name: str) -> Node:
        return await self.cluster.start_node(name, NODES[name], JudgedEngine(self.model, name))

    def teardown(self) -> None:
        try:
            if hasattr(self, "cluster") and not self.failed:
                self.quiesce()
                self.run(self.cluster.__aexit__())
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks))
            self.loop.close()
            self.quiet.close()

    def run(self, what: Coroutine[Any, Any, _T]) -> _T:
        self.failed = True
        answer = self.loop.run_until_complete(what)
        self.cluster.check_alive()
        self.failed = False
        return answer

    # What people do.

    @rule(
        chosen=st.lists(names, min_size=1, max_size=3, unique=True),
        places=st.lists(labels, min_size=1, max_size=3, unique=True),
        content=contents,
        atomic=st.booleans(),
    )
    @precondition(lambda self: self.cluster.publisher)
    def publish(self, chosen: list[str], places: list[str], content: int, atomic: bool) -> None:
        self._publish(chosen, places, content, atomic)

    # Of many rules one is chosen; without these an example would hardly publish anything.

    @rule(name=names, place=labels, content=contents)
    @precondition(lambda self: self.cluster.publisher)
    def publish_one(self, name: str, place: str, content: int) -> None:
        self._publish([name], [place], content, atomic=True)

    @rule(many=st.lists(st.tuples(names, labels, contents), min_size=2, max_size=6))
    @precondition(lambda self: self.cluster.publisher)
    def publish_one_after_another(self, many: list[tuple[str, str, int]]) -> None:
        for name, place, content in many:
            self._publish([name], [place], content, atomic=True)

    def _publish(self, chosen: list[str], places: list[str], content: int, atomic: bool) -> None:
        items = [artifact(name, content) for name in chosen]
        request = asked(places, *([items] if atomic else items))
        allowed = self.model.may_publish(chosen, places)
        if allowed:  # gateways may be quicker than the answer
            self.model.publish(chosen, places, content)
        answer = self.run(self.cluster.running.committer.submit(request))
        assert isinstance(answer, SaveOutcome) is allowed, answer

    @rule(data=st.data())
    @precondition(lambda self: self.cluster.publisher and any(self.model.places()))
    def remove(self, data: st.DataObject) -> None:
        label, name = data.draw(st.sampled_from(list(self.model.places())))
        self.run(self.cluster.publish(label, Remove(id_of(name))))
        self.model.remove(name, label)

    @rule(data=st.data(), to=labels)
    @precondition(lambda self: self.cluster.publisher and any(self.model.places()))
    def move(self, data: st.DataObject, to: str) -> None:
        label, name = data.draw(st.sampled_from(list(self.model.places())))
        if label == to or not self.model.may_publish([name], [to]):
            return
        content = self.model.labels[label][name]
        self.run(self.cluster.publish(label, Remove(id_of(name))))
        self.model.remove(name, label)
        self.model.publish([name], [to], content)
        self.run(self.cluster.publish(to, artifact(name, content)))

    @rule(label=labels, keep=st.integers(0, 3))
    def compact(self, label: str, keep: int) -> None:
        self.run(self.cluster.saver.compact(label, keep))

    # What the world does.

    @rule(drop=chance, duplicate=chance, reorder=chance, delay=chance)
    def disturb_messages(self, drop: float, duplicate: float, reorder: float, delay: float) -> None:
        faults = self.cluster.faults
        faults.drop, faults.duplicate, faults.reorder, faults.delay = (
            drop,
            duplicate,
            reorder,
            delay,
        )

    @rule()
    def take_the_broker(self) -> None:
        self.cluster.broker.go_down()

    @rule()
    @precondition(lambda self: not self.cluster.broker.up)
    def give_the_broker_back(self) -> None:
        self.cluster.broker.come_back()

    @rule(node=nodes, up=st.booleans(), latency=st.sampled_from([0.0, 0.05, 4.0]))
    def change_the_network(self, node: str, up: bool, latency: float) -> None:
        link = self.cluster.nodes[node].link
        link.up, link.latency = up, latency

    @rule(seconds=st.sampled_from([0.01, 1.0, HEARTBEAT, 4 * HEARTBEAT]))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(node=nodes)
    def restart_a_gateway(self, node: str) -> None:
        self.run(self.cluster.stop_node(node))
        self.run(self._start_node(node))

    @rule()
    @precondition(lambda self: self.cluster.publisher)
    def kill_the_publisher(self) -> None:
        self.run(self.cluster.stop_publisher())

    @rule()
    @precondition(lambda self: not self.cluster.publisher)
    def start_the_publisher(self) -> None:
        self.run(self.cluster.start_publisher())

    @rule(node=nodes, name=names)
    def let_an_engine_refuse(self, node: str, name: str) -> None:
        self.cluster.nodes[node].engine.refuses[id_of(name)] = "not today"

    @rule(node=nodes, broken=st.booleans(), slow=st.sampled_from([0.0, 0.0, 2.0]))
    def let_an_engine_fail(self, node: str, broken: bool, slow: float) -> None:
        engine = self.cluster.nodes[node].engine
        engine.broken, engine.slow = "out of order" if broken else "", slow

    @rule(node=nodes, name=names, content=st.sampled_from([None, b"rubbish"]))
    def corrupt_memory(self, node: str, name: str, content: bytes | None) -> None:
        self.cluster.nodes[node].engine.corrupt(id_of(name), content)
        self.corrupted = True

    @rule()
    @precondition(lambda self: self.cluster.publisher)
    def ask_for_verification(self) -> None:
        self.cluster.running.start_verification()

    @rule()
    def take_a_backup(self) -> None:
        self.backup = backup_of(self.cluster.memory), copy.deepcopy(self.model.labels)

    @rule()
    @precondition(lambda self: self.backup)
    def restore_the_backup(self) -> None:
        assert self.backup is not None
        store, held = self.backup
        self._replace(backup_of(store), copy.deepcopy(held))

    @rule()
    def begin_an_empty_store(self) -> None:
        """Which removes nothing, however long it takes (promise 6)."""
        self.quiesce()
        served = {name: node.engine.snapshot() for name, node in self.cluster.nodes.items()}
        self.epochs += 1
        self._replace(MemoryStore(f"epoch-{self.epochs}"), {})
        self.run(asyncio.sleep(3 * HEARTBEAT))
        for name, node in self.cluster.nodes.items():
            assert node.engine.snapshot() == served[name], name

    def _replace(self, store: MemoryStore, held: dict[str, dict[str, int]]) -> None:
        if self.cluster.publisher is not None:
            self.run(self.cluster.stop_publisher())
        self.cluster.saver = store
        self.model.labels = held
        self.run(self.cluster.start_publisher())

    # And then it is quiet.

    @rule()
    def quiesce(self) -> None:
        self.run(self._quiesce())

    async def _quiesce(self) -> None:
        cluster, faults = self.cluster, self.cluster.faults
        faults.drop = faults.duplicate = faults.reorder = faults.delay = 0.0
        cluster.broker.come_back()
        if cluster.publisher is None:
            await cluster.start_publisher()
        for node in cluster.nodes.values():
            node.link.up, node.link.latency = True, 0.0
            node.engine.refuses.clear()
            node.engine.broken, node.engine.slow = "", 0.0
        await cluster.hub.settle()
        await asyncio.sleep(2 * HEARTBEAT)  # what a lost history's last words did is found out
        await self._within(CONVERGES, self._of_one_history)
        if self.corrupted:  # nobody but a verification can know
            await self._verify()
            self.corrupted = False
        await self._within(CONVERGES, self._converged)
        await self._within(CONVERGES, self._in_step)
        await self._within(2 * HEARTBEAT, self._receipts)

    async def _of_one_history(self) -> str:
        """Everybody follows the store as it is now, and what that would remove is confirmed."""
        heads = await self.cluster.saver.heads(LABELS)
        for node in self.cluster.nodes.values():
            for label, log in node.informer.logs.items():
                if log.cursor != heads[label].cursor or log.digest != heads[label].digest:
                    return f"{node.name} follows {log.cursor}, the store is at {heads[label]}"
        held = {lb for n in self.cluster.nodes.values() for lb in n.labels if n.held(lb)}
        for label in sorted(held):
            await self.cluster.running.confirm(label)
        return f"removals of {held} were held" if held else ""

    async def _converged(self) -> str:
        for name, node in self.cluster.nodes.items():
            served, wanted = dict(node.engine.snapshot()), self.model.served(NODES[name])
            if served != wanted:
                return f"{name} serves {served}, should serve {wanted}"
        return ""

    async def _receipts(self) -> str:
        for label in self.model.labels:
            receipts = await self.cluster.receipts(label, 0)
            for name, following in NODES.items():
                receipt = receipts.get(name)
                if label in following and (
                    receipt is None or receipt.status is not ReceiptStatus.APPLIED
                ):
                    return f"{name} on {label}: {receipt}"
        return ""

    async def _in_step(self) -> str:
        """Verified again and again: behind for a while, but no drift, for nothing is corrupt."""
        verdicts = await self._verify()
        found = {each.status for each in verdicts}
        assert found <= {"in step", "behind"}, verdicts
        return "" if found == {"in step"} else str(verdicts)

    async def _verify(self) -> list[Verdict]:
        """Ask, and ask anew after three lost heartbeats: a node whose earlier process had a
        word that came late may have been taken for that one, and its answer for a late one."""
        for _ in range(3):
            started = self.cluster.running.start_verification()
            give_up = self.loop.time() + 4 * HEARTBEAT
            while self.loop.time() < give_up:
                answer = await self.cluster.running.verification(started)
                if answer.complete and {each.node for each in answer.verdicts} >= NODES.keys():
                    return list(answer.verdicts)
                await asyncio.sleep(0.1)
        raise AssertionError(answer)

    async def _within(self, seconds: float, wrong: Callable[[], Awaitable[str]]) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + seconds
        while reason := await wrong():
            self.cluster.check_alive()
            assert loop.time() < give_up, reason
            await asyncio.sleep(0.1)


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(
    max_examples=max(1, int(250 * BUDGET)),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
