"""A publisher and its gateways on one event loop, with everything between them breakable.

    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=2 * cluster.heartbeat)

Meant for `tests.gateway.virtual_time`, and works on any loop.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import msgspec

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest, digest_of
from gatesync.artifacts.planning import Publish, Remove
from gatesync.artifacts.signatures import Attestation, Signer, Trust
from gatesync.engines.engine import Deployable, EngineError
from gatesync.engines.memory import MemoryEngine
from gatesync.events.buffer import Buffer
from gatesync.events.hub import BUFFER_MESSAGES, EventHub, HubError, Listener
from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import decode_report
from gatesync.gateway.agent import Agent
from gatesync.gateway.cache import Cache
from gatesync.gateway.lag import LAG_SECONDS
from gatesync.gateway.starting import StartUp
from gatesync.publisher.fleet import Fleet, Receipt
from gatesync.publisher.service import Publisher
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    Delta,
    Forbidden,
    ManifestPage,
    SaveOutcome,
    Saver,
    StoreError,
)
from gatesync.stores.wire import ReportAnswer
from gatesync.web.client import HttpClient, Response, UnreachableError
from tests.contracts.saves import Items, asked, id_of
from tests.faults import Faults, FaultyHub

HEARTBEAT = 5.0
RETRY_FIRST, RETRY_CAP = 1.0, 8.0


class Broker(InProcessHub):
    """An in-process hub that can be away, and says so as the contract demands."""

    def __init__(self) -> None:
        super().__init__()
        self.up = True
        self._listeners: list[Buffer] = []

    @property
    def connected(self) -> bool:
        return self.up

    async def announce(self, label: str, message: bytes) -> None:
        self._require()
        await super().announce(label, message)

    async def report(self, node: str, message: bytes) -> None:
        self._require()
        await super().report(node, message)

    @asynccontextmanager
    async def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AsyncIterator[Listener]:
        async with super().announcements(labels, buffer=buffer) as listener:
            self._listeners.append(cast(Buffer, listener))
            try:
                yield listener
            finally:
                self._listeners.remove(cast(Buffer, listener))

    def go_down(self) -> None:
        self.up = False

    def come_back(self) -> None:
        if not self.up:
            self.up = True
            for listener in self._listeners:
                listener.lose("the broker was away")

    def _require(self) -> None:
        if not self.up:
            raise HubError("the broker is away")


class Link:
    """A gateway's way to the publisher's store: slow, cut, or short of pages when told so."""

    def __init__(self, cluster: "Cluster", seed: int) -> None:
        self.up = True
        self.cut_pages = False
        self.latency = 0.0  # seconds, at most, there and back each
        self.questions = 0
        self.answered = 0  # perhaps not back yet
        self.contents_asked = 0
        self.forbidden: set[str] = set()  # labels that the node's token may not read
        self.signs_heads = True  # as a publisher's HTTP does, if it has a key
        self.lies: dict[str, Callable[[Any], Any]] = {}  # by question: what an answer becomes
        self._cluster = cluster
        self._random = random.Random(seed)

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        await self._travel(*labels)
        found = await self._store().heads(labels, at_least)
        return await self._back(
            {label: self._issued(head) for label, head in found.items()}, "heads"
        )

    async def changes(self, label: str, since: Cursor) -> Delta:
        await self._travel(label)
        return await self._back(await self._store().changes(label, since), "changes")

    async def manifest(self, label: str, **asked: Any) -> ManifestPage:
        await self._travel(label)
        page = await self._back(await self._store().manifest(label, **asked), "manifest")
        if self.cut_pages:
            return ManifestPage(page.head, page.entries[: len(page.entries) // 2])
        return page

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        await self._travel()
        return await self._back(await self._store().digest_at(label, cursor))

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        self.contents_asked += 1
        await self._travel()
        return await self._back(await self._store().contents(digests))

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        await self._travel(label)
        found = await self._store().attestations(label, after, limit)
        answer: tuple[Attestation, ...] = await self._back(found, "attestations")
        return answer

    def _issued(self, head: Head) -> Head:
        publisher = self._cluster.publisher
        return publisher.issuer.issue(head) if self.signs_heads and publisher else head

    def _store(self) -> Saver:
        return self._cluster.replica or self._cluster.saver

    async def _travel(self, *labels: str) -> None:
        self.questions += 1
        if self.latency:
            await asyncio.sleep(self._random.uniform(0, self.latency))
        if not self.up or self._cluster.publisher is None:
            raise StoreError("the publisher cannot be reached")
        if self.forbidden.intersection(labels):
            raise Forbidden(f"this token may not read {self.forbidden}")

    async def _back(self, answer: Any, question: str = "") -> Any:
        self.answered += 1
        if question in self.lies:
            answer = self.lies[question](answer)
        if self.latency:  # what the store said then is old by the time it arrives
            await asyncio.sleep(self._random.uniform(0, self.latency))
        return answer


class WatchedEngine(MemoryEngine):
    """A memory engine that refuses on demand, counts, and trusts nobody.

    Attributes:
        refuses: reasons by api_id.
        refuses_digests: reasons by digest.
        broken: the engine as a whole raises `EngineError` with this reason.
        slow: seconds that each swap takes.
        deploys: how often each api_id was deployed, refusals left out.
        tries: when each api_id was offered, on the loop's clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: dict[str, str] = {}
        self.refuses_digests: dict[str, str] = {}
        self.broken = ""
        self.slow = 0.0
        self.deploys: dict[str, int] = {}
        self.undeploys: dict[str, int] = {}
        self.tries: dict[str, list[float]] = {}
        self._busy = False

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        assert not self._busy, "one caller at a time"
        self._busy = True
        try:
            return await self._apply(deploy, undeploy)
        finally:
            self._busy = False

    async def _apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        if self.slow:
            await asyncio.sleep(self.slow)
        time = asyncio.get_running_loop().time()
        for each in deploy:
            assert digest_of(each.content) == each.entry.digest, "unverified bytes (promise 8)"
            self.tries.setdefault(each.entry.api_id, []).append(time)
            self.check(each)
        if self.broken:
            raise EngineError(self.broken)
        refused = {each.entry.api_id: reason for each in deploy if (reason := self._why_not(each))}
        taken = [each for each in deploy if each.entry.api_id not in refused]
        await super().apply(taken, undeploy)
        for each in taken:
            self.deploys[each.entry.api_id] = self.deploys.get(each.entry.api_id, 0) + 1
        for api_id in undeploy:
            self.undeploys[api_id] = self.undeploys.get(api_id, 0) + 1
        return refused

    def _why_not(self, each: Deployable) -> str:
        by_digest = self.refuses_digests.get(each.entry.digest, "")
        return self.refuses.get(each.entry.api_id, by_digest)

    def check(self, each: Deployable) -> None:
        """For a test to look at what is about to be served."""

    def corrupt(self, api_id: str, content: bytes | None) -> None:
        """What a bug, or a bit that tipped, does to memory behind everyone's back."""
        with self.snapshot().mutate() as draft:
            draft.pop(api_id, None)
            if content is not None:
                draft[api_id] = content
            self._deployed = draft.finish()


class _Post:
    """Carries reports to the publisher where no broker does, as HTTP would."""

    def __init__(self, cluster: "Cluster", link: Link) -> None:
        self._cluster = cluster
        self._link = link

    async def request(self, _method: str, _path: str, *, body: bytes, **_: Any) -> Response:
        publisher = self._cluster.publisher
        if publisher is None or not self._link.up:
            raise UnreachableError("the publisher cannot be reached")
        publisher.fleet.receive(decode_report(body))
        answer = ReportAnswer(publisher.announcer.verification)
        return Response(200, {}, msgspec.json.encode(answer))


class Node:
    """One gateway, while it runs."""

    def __init__(self, name: str, labels: Sequence[str], agent: Agent, link: Link) -> None:
        self.name = name
        self.labels = labels
        self.agent = agent
        self.link = link
        self.engine = cast(WatchedEngine, agent.engine)
        self.task: asyncio.Task[None]

    @property
    def informer(self) -> Any:
        return self.agent.informer

    def content(self, name: str) -> bytes | None:
        return self.engine.content(id_of(name))

    def serves(self, name: str, content: bytes | str | None = None) -> bool:
        found = self.content(name)
        wanted = content.encode() if isinstance(content, str) else content
        return found is not None and wanted in (None, found)

    def held(self, label: str) -> int:
        """Removals that wait for an operator."""
        return len(self.informer.logs[label].retained)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()


class Cluster:
    """See the module."""

    def __init__(
        self,
        saver: Saver | None = None,
        *,
        heartbeat: float = HEARTBEAT,
        seed: int = 0,
        broker: bool = True,
        replica: Saver | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.saver: Saver = saver if saver is not None else MemoryStore()
        self.replica = replica  # what gateways read
        self.signer = signer  # what publishers sign with, and gateways trust by default
        self.heartbeat = heartbeat
        self.broker = Broker()
        self.hub = FaultyHub(self.broker, Faults(), seed)
        self.faults = self.hub.faults
        self.has_broker = broker
        self.publisher: Publisher | None = None
        self.nodes: dict[str, Node] = {}
        self._random = random.Random(seed)
        self._publisher_task: asyncio.Task[None]
        self._publishers = 0
        self._seed = seed

    async def __aenter__(self) -> "Cluster":
        await self.start_publisher()
        return self

    async def __aexit__(self, *_: object) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.hub.close)
            for node in list(self.nodes.values()):
                stack.push_async_callback(self.stop_node, node.name)
            if self.publisher is not None:
                stack.push_async_callback(self.stop_publisher)

    @property
    def running(self) -> Publisher:
        assert self.publisher is not None
        return self.publisher

    @property
    def memory(self) -> MemoryStore:
        assert isinstance(self.saver, MemoryStore)
        return self.saver

    async def start_publisher(self) -> Publisher:
        loop = asyncio.get_running_loop()
        self._publishers += 1
        hub: EventHub | None = self.hub if self.has_broker else None
        publisher = Publisher(
            self.saver,
            hub,
            f"publisher-{self._publishers}",
            heartbeat=self.heartbeat,
            wall_clock=lambda: 1_700_000_000 + loop.time(),
            signer=lambda: self.signer,
        )
        publisher.fleet = Fleet(
            heartbeat=self.heartbeat,
            clock=loop.time,
            wall_clock=lambda: 1_700_000_000 + loop.time(),
        )
        self.publisher = publisher
        self._publisher_task = asyncio.create_task(publisher.run(), name="publisher")
        await asyncio.sleep(0)
        return publisher

    async def stop_publisher(self) -> None:
        """It vanishes, as after SIGKILL: nothing more is announced."""
        self.publisher = None
        self._publisher_task.cancel()
        await asyncio.wait([self._publisher_task])
        if not self._publisher_task.cancelled():
            self._publisher_task.result()

    async def start_node(
        self,
        name: str,
        labels: Sequence[str],
        engine: WatchedEngine | None = None,
        start: StartUp | None = None,
        forbidden: Collection[str] = (),
        trust: Trust | None = None,
        cache: Cache | None = None,
    ) -> Node:
        loop = asyncio.get_running_loop()
        self._seed += 1
        link = Link(self, self._seed)
        link.forbidden.update(forbidden)
        agent = Agent(
            name,
            labels,
            cast(HttpClient, _Post(self, link)),
            engine if engine is not None else WatchedEngine(),
            self._open_hub,
            heartbeat=self.heartbeat,
            retriever=link,
            lag_seconds=LAG_SECONDS if self.replica else 0.0,
            start=start or StartUp("async", wait=RETRY_FIRST, cap=RETRY_CAP),
            clock=loop.time,
            wall_clock=lambda: 1_700_000_000 + loop.time(),
            random=_numbers(self._seed),
            cache=cache,
            trust=trust or (Trust([self.signer.key]) if self.signer else None),
        )
        node = self.nodes[name] = Node(name, labels, agent, link)
        node.task = asyncio.create_task(agent.run(), name=f"gateway {name}")
        await asyncio.sleep(0)
        return node

    async def stop_node(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    async def publish(
        self, labels: str | Sequence[str], *items: Publish | Remove | Items
    ) -> SaveOutcome:
        """Commit as the publisher does; answers when it is durable."""
        outcome = await self.running.committer.submit(asked(labels, *items))
        assert isinstance(outcome, SaveOutcome), outcome
        return outcome

    async def receipts(self, label: str, first: int | None = None) -> dict[str, Receipt]:
        """What each node did about the label's newest revision, or all from `first` on."""
        cursor = (await self.saver.heads([label]))[label].cursor
        since = cursor.revision if first is None else first
        return {each.node: each for each in self.running.fleet.receipts(label, cursor, since)}

    def check_alive(self) -> None:
        """Raise what ended a task that should run; no report may be one that nobody reads."""
        assert self.publisher is None or self.publisher.refused_reports == 0
        for task in (self._publisher_task, *(node.task for node in self.nodes.values())):
            if task.done() and not task.cancelled():
                task.result()

    @asynccontextmanager
    async def _open_hub(self) -> AsyncIterator[EventHub | None]:
        yield self.hub if self.has_broker else None


def _numbers(seed: int) -> Iterator[float]:
    chance = random.Random(seed)
    while True:
        yield chance.random()
