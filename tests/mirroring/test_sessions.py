"""rsyncs that are begun before it is known what they are to bring."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gatesync.mirroring import passes as passes_module
from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.passes import Passes
from gatesync.mirroring.rsync import Rsync
from gatesync.mirroring.workers import Worker
from tests.mirroring.workers import API, TENANT, Source, Workers, passes

LONG = 60.0


class World:
    """One worker that is followed, in step; and the rsyncs that are begun for it from then on."""

    def __init__(self, opened: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = opened
        self.begun: list[asyncio.subprocess.Process] = []
        self.parts: list[str] = []
        self._one = asyncio.Event()
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        begin = Rsync.begin

        async def watched(rsync: Rsync, worker: Worker) -> asyncio.subprocess.Process:
            self.parts.append(worker.part)
            self.begun.append(await begin(rsync, worker))
            self._one.set()
            return self.begun[-1]

        monkeypatch.setattr(Rsync, "begin", watched)

    async def waiting(self, path: str = API) -> asyncio.subprocess.Process:
        """Have an rsync wait at the workers that are to have this."""
        self.passes.expect({path})
        await self._one.wait()
        return self.begun[0]

    async def outcome(self) -> Outcome:
        while (found := await self.outcomes.get()).result is Result.IN_STEP:
            pass
        return found


@pytest.fixture
async def world(
    tmp_path: Path, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with following(tmp_path, source, one, monkeypatch) as world:
        yield world


@asynccontextmanager
async def following(
    tmp_path: Path, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[World]:
    async with asyncio.timeout(LONG), passes(tmp_path, source, one, **settings) as opened:
        await opened.run_pass(source.manifest())
        world = World(opened, monkeypatch)
        task = asyncio.create_task(opened.follow(world.outcomes.put_nowait))
        try:
            yield world
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert all(process.returncode is not None for process in world.begun)


async def test_a_change_is_brought_by_the_rsync_that_waits_for_it(
    world: World, source: Source, one: Workers
) -> None:
    await world.waiting()
    source.write(API, "<api new='1'/>")
    world.passes.offer(source.manifest())
    assert (await world.outcome()).result is Result.BROUGHT
    assert [process.returncode for process in world.begun] == [0]
    one.assert_all_like(source)
    one.assert_true()


async def test_where_that_one_has_died_another_is_begun(
    world: World, source: Source, one: Workers
) -> None:
    waiting = await world.waiting()
    os.killpg(waiting.pid, signal.SIGKILL)
    await waiting.wait()
    source.write(API, "<api new='1'/>")
    world.passes.offer(source.manifest())
    assert (await world.outcome()).result is Result.BROUGHT
    assert [process.returncode for process in world.begun] == [-9, 0]
    one.assert_all_like(source)


async def test_one_that_nothing_comes_for_ends_and_has_done_nothing(
    world: World, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes_module, "EXPECTED_SECONDS", 0.01)
    before = one.head()
    assert await (await world.waiting()).wait() == -9
    assert one.head() == before
    one.assert_all_like(source)


async def test_none_waits_at_a_worker_that_has_nothing_to_do_with_it(
    tmp_path: Path, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.add(tmp_path / "workers" / "tenants", "tenants")
    async with following(tmp_path, source, one, monkeypatch) as world:
        await world.waiting(TENANT)
        source.write(TENANT, "<api new='1'/>")
        world.passes.offer(source.manifest())
        assert (await world.outcome()).result is Result.BROUGHT
        assert world.parts == ["tenants"]
    one.assert_all_like(source)


async def test_none_waits_where_all_places_are_taken(
    tmp_path: Path, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = one.add(tmp_path / "workers" / "second" / "deployment/server", "deployment/server")
    async with following(tmp_path, source, one, monkeypatch, parallel=1) as world:
        await world.waiting()
        source.write(API, "<api new='1'/>")
        world.passes.offer(source.manifest())
        assert {(await world.outcome()).result for _ in one.parts} == {Result.BROUGHT}
        assert [process.returncode for process in world.begun] == [0, 0]
    assert (folder / API.removeprefix("deployment/server/")).read_text() == "<api new='1'/>"
