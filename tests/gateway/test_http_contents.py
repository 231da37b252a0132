"""A gateway that reads over HTTP, from a publisher whose answers are damaged on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import structs

from gatesync.artifacts.changes import Cursor
from gatesync.gateway.agent import Agent
from gatesync.gateway.starting import StartUp
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.http import publisher_app
from gatesync.publisher.metrics import publisher_metrics
from gatesync.publisher.service import Publisher
from gatesync.publisher.tokens import Principal, Role
from gatesync.stores.http import HttpRetriever
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import Delta, Forbidden, ManifestPage
from gatesync.web.app import AppState
from gatesync.web.client import AnsweredError, open_client
from gatesync.web.guard import Guard
from gatesync.web.server import serve
from tests.contracts.saves import asked, id_of, publish
from tests.gateway.cluster import WatchedEngine

pytestmark = [
    pytest.mark.fast,
    pytest.mark.promise(8),
]

HEARTBEAT = 0.1


class DamagedStore(MemoryStore):
    """Gives out other bytes than it was asked for while `damage` says which."""

    def __init__(self) -> None:
        super().__init__()
        self.damage: Callable[[bytes], bytes] | None = None
        self.damage_entries = False
        self.damaged = 0

    async def manifest(self, label: str, **asked: Any) -> ManifestPage:
        page = await super().manifest(label, **asked)
        return self._damaged(page) if self.damage_entries else page

    async def changes(self, label: str, since: Cursor) -> Delta:
        delta = await super().changes(label, since)
        if not self.damage_entries:
            return delta
        self.damaged += 1
        changes = tuple(
            structs.replace(each, entry=structs.replace(each.entry, digest="no digest"))
            for each in delta.changes
        )
        return structs.replace(delta, changes=changes)

    def _damaged(self, page: ManifestPage) -> ManifestPage:
        self.damaged += 1
        entries = (structs.replace(each, digest="no digest") for each in page.entries)
        return structs.replace(page, entries=tuple(entries))

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        found = await super().contents(digests)
        if self.damage is None:
            return found
        self.damaged += 1
        return {digest: self.damage(content) for digest, content in found.items()}


@asynccontextmanager
async def gateway(store: MemoryStore) -> AsyncIterator[Agent]:
    """A publisher that serves HTTP, without a broker, and a gateway."""
    publisher = Publisher(store, None, "p1", heartbeat=HEARTBEAT)

    async def ready() -> tuple[bool, None]:
        return True, None

    app = publisher_app(
        publisher,
        ClusterAnswer("p1", store.epoch, int(HEARTBEAT * 1000), None),
        AppState(ready, publisher_metrics(publisher)),
    )
    node = Principal("n1", Role.NODE, ("L",))
    async with (
        serve(Guard(app, lambda _token: node, 1024 * 1024), "127.0.0.1", 0) as port,
        open_client(f"http://127.0.0.1:{port}", "token") as client,
        asyncio.TaskGroup() as tasks,
    ):
        engine = WatchedEngine()
        agent = Agent(
            "n1",
            ["L"],
            client,
            engine,
            _no_hub,
            heartbeat=HEARTBEAT,
            start=StartUp("async", wait=0.05, cap=0.1),
        )
        running = [tasks.create_task(publisher.run()), tasks.create_task(agent.run())]
        yield agent
        for task in running:
            task.cancel()


@asynccontextmanager
async def _no_hub() -> AsyncIterator[None]:
    yield None


async def awaited(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - several tasks bring it about
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-1] + b"!", lambda _c: b"", lambda c: c + b" ", lambda _c: b"evil"],
    ids=["a byte", "empty", "longer", "other"],
)
async def test_damaged_contents_never_reach_the_engine_and_are_fetched_again(
    damage: Callable[[bytes], bytes],
) -> None:
    store = DamagedStore()
    store.damage = damage
    async with gateway(store) as agent:
        engine = agent.engine
        assert isinstance(engine, WatchedEngine)
        await store.save([asked("L", publish("menu", "good"))])
        await awaited(lambda: store.damaged > 3)
        assert engine.tries == {}, "unverified bytes were offered to the engine"
        failure = agent.informer.deployment.failed[id_of("menu")]
        assert publish("menu", "good").entry.digest in failure.reason
        assert agent.informer.deployment.processed("L", 1) == 1
        store.damage = None
        await awaited(lambda: engine.content(id_of("menu")) == b"good")
        assert agent.informer.logs["L"].cursor == Cursor(store.epoch, 1)


async def test_a_label_that_the_token_does_not_name_is_forbidden_not_unreachable() -> None:
    async with gateway(DamagedStore()) as agent:
        retriever = HttpRetriever(agent._client)
        assert (await retriever.heads(["L"]))["L"].revision == 0
        with pytest.raises(Forbidden, match="may not read label 'M'"):
            await retriever.heads(["L", "M"])


async def test_damaged_contents_are_not_given_out_as_immutable() -> None:
    store = DamagedStore()
    async with gateway(store) as agent:
        await store.save([asked("L", publish("menu", "good"))])
        digest = publish("menu", "good").entry.digest
        store.damage = lambda _content: b"evil"
        with pytest.raises(AnsweredError) as caught:
            await agent._client.request("GET", f"/v1/contents/{digest}")
        assert caught.value.status == 404
        store.damage = None
        answer = await agent._client.request("GET", f"/v1/contents/{digest}")
        assert answer.body == b"good"


async def test_one_damaged_artifact_holds_up_no_other() -> None:
    store = DamagedStore()
    store.damage = lambda content: b"evil" if content == b"victim" else content
    async with gateway(store) as agent:
        many: Sequence[str] = [f"api-{number}" for number in range(300)]
        await store.save([asked("L", publish("menu", "victim"), *(publish(each) for each in many))])
        await awaited(lambda: len(agent.engine.api_ids()) == len(many))
        assert agent.engine.content(id_of("menu")) is None
        store.damage = None
        await awaited(lambda: agent.engine.content(id_of("menu")) == b"victim")


@pytest.mark.promise(6)
@pytest.mark.parametrize("first", [True, False], ids=["list", "difference"])
async def test_entries_whose_digests_are_none_stop_no_gateway(first: bool) -> None:
    store = DamagedStore()
    async with gateway(store) as agent:
        await store.save([asked("L", publish("bread"))])
        if not first:
            await awaited(lambda: agent.engine.content(id_of("bread")))
        store.damage_entries = True
        await store.save([asked("L", publish("menu"))])
        await awaited(lambda: store.damaged > 1)
        await awaited(lambda: agent.informer.pulse.store_failures > 1)
        store.damage_entries = False
        await awaited(lambda: agent.engine.content(id_of("menu")))
        assert agent.engine.content(id_of("bread"))
