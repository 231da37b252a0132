"""Envoy as an engine: what is deployed is answered, by a real Envoy; translations are handmade."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from gatesync.engines.engine import Deployable, EngineError
from gatesync.engines.envoy import engine as engine_module
from gatesync.engines.envoy.admin import open_admin
from gatesync.engines.envoy.engine import EnvoyEngine
from gatesync.engines.envoy.resources import SCOPE
from gatesync.engines.envoy.versions import Change, resource_of
from tests.contracts.engine import deploy, deployable
from tests.contracts.saves import id_of
from tests.engines.envoy.handmade import HandmadeNode, read, scope
from tests.engines.envoy.load import load, upstream
from tests.engines.envoy.running import TIMEOUT, Running, running
from tests.servers.gatesync import free_ports

BUDGET = float(os.environ.get("GATESYNC_TEST_BUDGET", "1"))
REDEPLOYS = int(200 * max(1.0, BUDGET / 4))  # 1,000 with `make long`


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path / "e", free_ports(1)[0]) as each:
        yield each


def api(name: str, **said: object) -> Deployable:
    return deployable(name, json.dumps({"text": name, **said}))


def path(name: str) -> str:
    return f"/{id_of(name)}"


async def until_connected(envoy: Running) -> None:
    async with asyncio.timeout(TIMEOUT):
        while envoy.engine.session is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def until_ready(envoy: Running) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not envoy.engine.state().ready:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_what_is_published_is_answered_by_its_upstream_until_it_is_removed(
    envoy: Running,
) -> None:
    async with upstream("from one") as one, upstream("from two") as two:
        await deploy(envoy.engine, api("menu", to=one), api("bread", to=two))
        assert await envoy.get(path("menu")) == (200, "from one")
        assert await envoy.get(path("bread")) == (200, "from two")
        await deploy(envoy.engine, api("menu", to=two))
        assert await envoy.get(path("menu")) == (200, "from two")
        await deploy(envoy.engine, undeploy=(id_of("menu"),))
        assert (await envoy.get(path("menu")))[0] == 404
        assert await envoy.get(path("bread")) == (200, "from two")
        held = await envoy.admin.held()
        assert {len(names) for names in held.values()} == {1}  # nor is its cluster left


async def test_an_upstream_by_name_is_resolved_before_its_route_is_there(envoy: Running) -> None:
    async with upstream("hello") as port:
        for number in range(5):
            await deploy(envoy.engine, api(f"a{number}", dns=port))
            assert await envoy.get(path(f"a{number}")) == (200, "hello")


async def test_nothing_is_answered_before_the_first_lists_are_deployed(tmp_path: Path) -> None:
    async with running(tmp_path / "e", free_ports(1)[0], held_back=True) as envoy:
        await until_connected(envoy)
        await deploy(envoy.engine, api("menu"))
        with pytest.raises(ConnectionRefusedError):
            await envoy.get(path("menu"))
        assert not await envoy.admin.is_live()
        assert "before the first lists" in envoy.engine.state().why
        await deploy(envoy.engine, api("bread"))
        await envoy.engine.started(proven=False)  # it is a new Envoy: there is nothing to lose
        assert await envoy.get(path("menu")) == (200, "menu")
        assert await envoy.get(path("bread")) == (200, "bread")
        assert await envoy.admin.is_live()
        assert envoy.engine.state().ready
        assert envoy.engine.session is not None
        assert envoy.engine.session.pushes == 3  # clusters, listener, scopes: once each


@pytest.mark.promise(4)
@pytest.mark.parametrize("fault", ["route", "cluster"])
async def test_of_many_only_what_envoy_rejects_is_refused_with_its_words(
    envoy: Running, fault: str
) -> None:
    bad = {7, 23}
    await deploy(envoy.engine, api("a7", text="before"))
    many = [
        api(
            f"a{number}", text=f"new {number}", **({"bad": fault, "to": 1} if number in bad else {})
        )
        for number in range(30)
    ]
    refused = await envoy.engine.apply(many, ())
    assert refused.keys() == {id_of(f"a{number}") for number in bad}
    words = "missing ): (((" if fault == "route" else "malformed IP address"
    assert all(words in each for each in refused.values())
    # Asked for, not only acknowledged: Envoy acknowledges what it then does not serve.
    for number in range(30):
        expected = (200, "before") if number == 7 else (200, f"new {number}")
        if number != 23:
            assert await envoy.get(path(f"a{number}")) == expected
    assert (await envoy.get(path("a23")))[0] == 404
    assert envoy.engine.state().ready
    assert envoy.engine.rejections > 0


@pytest.mark.promise(4)
async def test_of_two_in_one_scope_only_the_culprit_is_refused(envoy: Running) -> None:
    await deploy(envoy.engine, api("menu", scope="shop"), api("bread", scope="shop"))
    refused = await envoy.engine.apply(
        [api("menu", scope="shop", text="new"), api("bread", scope="shop", bad="route")], ()
    )
    assert list(refused) == [id_of("bread")]
    assert await envoy.get(f"/shop{path('menu')}") == (200, "new")
    assert await envoy.get(f"/shop{path('bread')}") == (200, "bread")


async def test_a_route_to_a_cluster_that_is_not_there_is_not_sent(envoy: Running) -> None:
    await deploy(envoy.engine, api("menu"))
    refused = await envoy.engine.apply([api("menu", nowhere=True), api("bread")], ())
    assert refused == {id_of("menu"): "a route of it leads to nowhere, which is not there"}
    assert await envoy.get(path("menu")) == (200, "menu")
    assert await envoy.get(path("bread")) == (200, "bread")


async def test_what_the_translator_refuses_never_reaches_envoy(envoy: Running) -> None:
    refused = await envoy.engine.apply([deployable("menu", "untranslatable"), api("bread")], ())
    assert refused == {id_of("menu"): "nobody can translate this"}
    assert await envoy.get(path("bread")) == (200, "bread")
    assert envoy.engine.rejections == 0


@pytest.mark.promise(5)
@pytest.mark.timeout(600)
async def test_no_request_fails_while_its_api_is_redeployed_again_and_again(
    envoy: Running,
) -> None:
    async with upstream("one") as one, upstream("two") as two:
        await deploy(envoy.engine, api("menu", to=one))
        async with load(envoy.port, path("menu")) as requests:
            await requests.more()
            for number in range(REDEPLOYS):
                # Another upstream, another route to the same, another answer in its place.
                said = [{"to": two}, {"to": one}, {"text": str(number % 7)}][number % 3]
                await deploy(envoy.engine, api("menu", **said))
                if number % 20 == 0:
                    await requests.more()
            await requests.more()
        assert requests.failures == []


async def test_after_envoy_died_all_is_served_again(envoy: Running) -> None:
    await deploy(envoy.engine, *(api(f"a{number}") for number in range(20)))
    first = envoy.process.pid
    assert first is not None
    for _ in range(2):
        pid = envoy.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(TIMEOUT):
            while envoy.engine.session is not None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.001)
        assert not envoy.engine.state().ready
        await until_ready(envoy)
        for number in range(20):
            assert await envoy.get(path(f"a{number}")) == (200, f"a{number}")
    assert envoy.process.pid != first
    assert (envoy.process.starts, envoy.process.deaths) == (3, 2)
    await deploy(envoy.engine, api("a0", text="new"))
    assert await envoy.get(path("a0")) == (200, "new")


async def test_what_is_deployed_while_envoy_is_away_fails_and_is_asked_for_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CONNECT_SECONDS", 0.05)
    again: asyncio.Queue[Collection[str]] = asyncio.Queue()
    async with running(tmp_path / "e", free_ports(1)[0]) as envoy:
        envoy.engine.on_back = again.put
        await until_connected(envoy)
        await deploy(envoy.engine, api("menu", text="old"), api("ham"))
        pid = envoy.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(envoy.engine, "_answer_seconds", 0.2)
        with pytest.raises(EngineError, match="as soon as Envoy is back"):
            await envoy.engine.apply([api("menu", text="new")], [id_of("ham")])
        assert envoy.engine.content(id_of("menu")) == api("menu", text="old").content
        monkeypatch.setattr(envoy.engine, "_answer_seconds", 30.0)
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT):
            assert await again.get() == {id_of("menu"), id_of("ham")}
        assert await envoy.get(path("menu")) == (200, "old")
        assert await envoy.get(path("ham")) == (200, "ham")
        await deploy(envoy.engine, api("menu", text="newer"))
        assert await envoy.get(path("menu")) == (200, "newer")


async def test_what_a_start_accepted_and_envoy_never_took_is_not_said_to_be_served() -> None:
    again: asyncio.Queue[Collection[str]] = asyncio.Queue()
    async with open_admin("127.0.0.1:1") as admin:
        engine = EnvoyEngine(HandmadeNode(1), admin, answer_seconds=0.05, held_back=True, read=read)  # type: ignore[arg-type]
        engine.on_back = again.put
        running = asyncio.create_task(engine.run())
        await deploy(engine, api("menu"))
        await engine.started(proven=True)
        async with asyncio.timeout(TIMEOUT):
            assert await again.get() == {id_of("menu")}
        with pytest.raises(EngineError, match="Envoy did not acknowledge it in time"):
            await engine.apply([api("menu")], ())
        running.cancel()
        await asyncio.wait([running])


async def test_drift_is_found_and_mended(envoy: Running) -> None:
    await deploy(envoy.engine, *(api(f"a{number}", to=1) for number in range(5)))
    await envoy.engine.look()
    assert all(envoy.engine.content(id_of(f"a{number}")) for number in range(5))
    session = envoy.engine.session
    assert session is not None
    # Behind the engine's back: one replaced, one gone.
    name = id_of("a2")
    other = resource_of(scope(name, [(name, {"text": "forged"})]))
    await session._send(SCOPE, Change({name: other}, (id_of("a3"),)))
    assert await envoy.get(path("a2")) == (200, "forged")
    await envoy.engine.look()
    drifted = {n for n in range(5) if envoy.engine.content(id_of(f"a{n}")) is None}
    assert drifted == {2, 3}
    async with upstream("hello") as port:
        await deploy(envoy.engine, api("a2", to=port), api("a3", to=port))
        assert await envoy.get(path("a2")) == await envoy.get(path("a3")) == (200, "hello")
    await envoy.engine.look()
    assert all(envoy.engine.content(id_of(f"a{number}")) for number in range(5))


async def test_a_port_that_is_taken_is_nobodys_fault_and_is_tried_again(tmp_path: Path) -> None:
    async with upstream("another") as taken:
        async with running(tmp_path / "e", taken, held_back=True) as envoy:
            await deploy(envoy.engine, api("menu"), api("bread"))
            starting = asyncio.create_task(envoy.engine.started(proven=True))
            async with asyncio.timeout(TIMEOUT):
                while "cannot bind" not in envoy.engine.state().why:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert envoy.engine.content(id_of("menu"))
            starting.cancel()
            with pytest.raises(EngineError, match="cannot bind"):
                await envoy.engine.apply([api("ham")], ())


async def test_metrics_are_few_however_many_are_served(envoy: Running) -> None:
    await deploy(envoy.engine, api("menu"))
    await envoy.get(path("menu"))
    await envoy.engine.metrics.read()

    def names() -> set[str]:
        return {sample.name for each in envoy.engine.metrics.collect() for sample in each.samples}

    before = names()
    assert {"envoy_http_downstream_rq_total", "envoy_server_live"} <= before
    assert {"gatesync_gateway_envoy_in_step", "gatesync_gateway_envoy_starts_total"} <= before
    await deploy(envoy.engine, *(api(f"a{number}", to=1) for number in range(100)))
    await envoy.engine.metrics.read()
    assert names() == before
