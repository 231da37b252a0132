"""Many nodes that start at once: before a cache, and without one."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from gatesync.artifacts.digests import digest_of
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.agent import Agent
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.http import publisher_app
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.service import Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.stores.http import HttpRetriever
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import ManifestPage, read_manifest
from gatesync.stores.wire import frame_path
from gatesync.web.app import AppState
from gatesync.web.client import AnsweredError, HttpClient, open_client
from gatesync.web.guard import Guard
from gatesync.web.server import serve
from tests.contracts.saves import asked, publish
from tests.servers.nginx import nginx

NODES: Final = 100
ARTIFACTS: Final = 400
PAGE: Final = Path(__file__).parents[2] / "docs" / "scaling.md"


class CountingStore(MemoryStore):
    """Counts how often each content was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[str] = Counter()
        self.pages = 0

    async def manifest(self, label: str, **asked: Any) -> ManifestPage:
        self.pages += 1
        return await super().manifest(label, **asked)

    async def sizes(self, digests: Collection[str]) -> dict[str, int]:
        found = await super().contents(digests)
        return {digest: len(content) for digest, content in found.items()}

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        self.read.update(digests)
        await asyncio.sleep(0.01)  # as a database takes; others ask meanwhile
        return await super().contents(digests)


class Control:
    """A publisher with its HTTP, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.store = CountingStore()
        self.asked: Counter[str] = Counter()
        self.tokens = TokenFile(folder / "tokens.json")
        self.registry = TokenRegistry(folder / "tokens.json")
        self.port = 0

    @asynccontextmanager
    async def run(self, pulls: FullPulls | None = None) -> AsyncIterator[None]:
        await self.store.save(
            [asked("L", *(publish(f"api-{n}", f"bytes of {n}") for n in range(ARTIFACTS)))]
        )
        publisher = Publisher(self.store, None, "p1")
        cluster = ClusterAnswer("p1", self.store.epoch, 5_000, None)
        app = publisher_app(publisher, cluster, AppState(_ready, CollectorRegistry()), pulls)
        guard = Guard(app, self.registry.authenticate, 1024 * 1024)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.asked[scope["path"]] += 1
            await guard(scope, receive, send)

        async with serve(counted, "127.0.0.1", 0) as self.port:
            yield

    @asynccontextmanager
    async def client(self, node: str) -> AsyncIterator[HttpClient]:
        token = self.tokens.create(Role.NODE, node, ["L"])
        async with open_client(f"http://127.0.0.1:{self.port}", token, timeout=30.0) as client:
            yield client


async def _ready() -> tuple[bool, None]:
    return True, None


@asynccontextmanager
async def _no_hub() -> AsyncIterator[None]:
    yield None


def printed() -> str:
    """The configuration that the page has."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


async def test_100_nodes_start_behind_nginx_and_the_publisher_sees_each_digest_once(
    tmp_path: Path,
) -> None:
    control = Control(tmp_path)
    async with control.run(), AsyncExitStack() as stack:
        url = await stack.enter_async_context(nginx(tmp_path, printed(), control.port))
        clients = [
            await stack.enter_async_context(control.client(f"n{number}")) for number in range(NODES)
        ]
        waits: list[float] = []

        async def start(node: int) -> None:
            retriever = HttpRetriever(clients[node], url)
            retriever.on_wait = waits.append
            engine = MemoryEngine()
            agent = Agent(f"n{node}", ["L"], clients[node], engine, _no_hub, retriever=retriever)
            running = asyncio.create_task(agent.run())
            try:
                while len(engine.api_ids()) < ARTIFACTS:  # noqa: ASYNC110 - the agent's own tasks
                    await asyncio.sleep(0.05)
            finally:
                running.cancel()
                await asyncio.wait([running])

        async with asyncio.timeout(60), asyncio.TaskGroup() as nodes:
            for number in range(NODES):
                nodes.create_task(start(number))
        frames = {path: n for path, n in control.asked.items() if path.startswith("/v1/frames/")}
        assert set(frames.values()) == {1}
        assert set(control.store.read.values()) == {1}
        assert len(control.store.read) == ARTIFACTS
        assert control.store.pages <= 4, "a page is made once in 5 s"
        assert control.asked["/v1/access"] == NODES * len(frames), "each node was asked about"


async def test_the_cache_opens_nothing_without_a_token_or_with_one_that_was_revoked(
    tmp_path: Path,
) -> None:
    control = Control(tmp_path)
    async with control.run(), AsyncExitStack() as stack:
        url = await stack.enter_async_context(nginx(tmp_path, printed(), control.port))
        good = await stack.enter_async_context(control.client("good"))
        bad = await stack.enter_async_context(control.client("bad"))
        _, entries = await read_manifest(HttpRetriever(good), "L")
        digest = next(iter(entries.values())).digest
        paths = [frame_path([digest]), f"/v1/contents/{digest}"]
        for path in paths:
            for client in (good, bad, good):
                answer = await client.at(url).request("GET", path)
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
                assert "vary" not in answer.headers
            assert control.asked[path] == 1
            tag = {"If-None-Match": answer.headers["etag"]}
            assert (await good.at(url).request("GET", path, headers=tag)).status == 304
        control.tokens.revoke("bad")
        good_token = good.at(url)
        for path in paths:
            with pytest.raises(AnsweredError) as caught:
                await bad.at(url).request("GET", path)
            assert caught.value.status == 401
            async with open_client(url) as nobody:
                with pytest.raises(AnsweredError) as caught:
                    await nobody.request("GET", path)
            assert caught.value.status == 401
            assert (await good_token.request("GET", path)).status == 200
        for path in ("/v1/heads?label=L", "/v1/access", "/access"):
            with pytest.raises(AnsweredError) as caught:
                await good_token.request("GET", path)
            assert caught.value.status == 404


async def test_what_is_not_there_is_kept_by_no_cache(tmp_path: Path) -> None:
    control = Control(tmp_path)
    digest = publish("late", "late").entry.digest
    async with control.run(), AsyncExitStack() as stack:
        url = await stack.enter_async_context(nginx(tmp_path, printed(), control.port))
        client = (await stack.enter_async_context(control.client("n"))).at(url)
        with pytest.raises(AnsweredError) as caught:
            await client.request("GET", f"/v1/contents/{digest}")
        assert caught.value.status == 404
        assert await HttpRetriever(client).contents([digest]) == {}
        await control.store.save([asked("L", publish("late", "late"))])
        found = await HttpRetriever(client).contents([digest])
        assert {digest_of(content) for content in found.values()} == {digest}
        assert (await client.request("GET", f"/v1/contents/{digest}")).status == 200


@pytest.mark.promise(1)
async def test_more_nodes_than_places_are_all_in_step_and_none_called_it_a_failure(
    tmp_path: Path,
) -> None:
    control = Control(tmp_path)
    pulls = FullPulls(4, random=lambda: 0.5)
    async with control.run(pulls), AsyncExitStack() as stack:
        agents = []
        for number in range(12):
            client = await stack.enter_async_context(control.client(f"n{number}"))
            agents.append(Agent(f"n{number}", ["L"], client, MemoryEngine(), _no_hub))
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(agent.run()) for agent in agents]
            most = 0
            while not all(len(agent.engine.api_ids()) == ARTIFACTS for agent in agents):
                most = max(most, pulls.counts().under_way)
                await asyncio.sleep(0.01)
            for task in running:
                task.cancel()
    assert 0 < most <= 4
    waited = [agent.informer.pulse.turns_waited for agent in agents]
    assert any(waited)  # how many depends on how long the first ones took
    assert [agent.informer.pulse.store_failures for agent in agents] == [0] * 12
    assert set(control.store.read.values()) == {1}, "frames are made once"
