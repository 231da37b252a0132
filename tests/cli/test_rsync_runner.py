"""A runner that goes on: what it does when the list, the source or the lease changes under it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatesync.cli import rsync_runner
from gatesync.cli.rsync_job import Job, RsyncOptions, job_of
from gatesync.cli.rsync_reporting import Reporter
from gatesync.cli.rsync_turn import Turn
from gatesync.config import load
from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.workers import Worker
from gatesync.publisher.workers import WorkersReport, WorkerState
from gatesync.stores.leases import MemoryLeases
from tests.mirroring.workers import Source
from tests.promises.rsync_hosts import write

pytestmark = pytest.mark.fast

LINES = ("u@w1:/srv/repository/deployment/server", "u@w2:/srv/repository/deployment/server")


class World:
    """Passes that bring everything at once, a lease, and who is told; no ssh, no publisher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.leases = MemoryLeases()
        self.opened: list[tuple[str, ...]] = []
        self.offered: list[tuple[SourceManifest, bool]] = []
        self.reports: list[WorkersReport] = []
        self.open = 0
        self.expected: list[Collection[str]] = []
        self.source = Source(folder / "repository")
        self.list = folder / "list"
        self.list.write_text(LINES[0])
        write(self.source, "one", "1")
        write(self.source, "two", "2")
        write(self.source, "three", "3")

    def job(self, **more: Any) -> Job:
        options = RsyncOptions(
            workers=self.list,
            source=self.source.root,
            identity_file=None,
            **({"watch": True, "takeover_after": "4s"} | more),
        )
        return job_of(options, load(None))

    @asynccontextmanager
    async def passes(
        self, _settings: Any, workers: Sequence[Worker], **_: Any
    ) -> AsyncIterator["Passes"]:
        self.opened.append(tuple(each.line for each in workers))
        self.open += 1
        try:
            yield Passes(self, workers)
        finally:
            self.open -= 1

    @asynccontextmanager
    async def turn(self, job: Job, *_: Any) -> AsyncIterator[Turn]:
        yield Turn(self.leases, job.lease_name, "me on here 1", job.lease_seconds)

    @asynccontextmanager
    async def reporter(self, _target: Any) -> AsyncIterator[Reporter]:
        yield Recording(self)


class Passes:
    def __init__(self, world: World, workers: Sequence[Worker]) -> None:
        self._world = world
        self._workers = workers
        self._news: asyncio.Queue[SourceManifest] = asyncio.Queue()

    def expect(self, paths: Collection[str]) -> None:
        self._world.expected.append(paths)

    def offer(self, source: SourceManifest, *, confirm_removals: bool = False) -> None:
        self._world.offered.append((source, confirm_removals))
        self._news.put_nowait(source)

    async def follow(self, report: Callable[[Outcome], None]) -> None:
        while True:
            source = await self._news.get()
            for each in self._workers:
                report(
                    Outcome(
                        worker=each.line,
                        result=Result.BROUGHT,
                        epoch=source.epoch,
                        revision=source.revision,
                        at=time.time(),
                        seconds=0.1,
                    )
                )


class Recording(Reporter):
    def __init__(self, world: World) -> None:
        super().__init__(())
        self._world = world

    async def send(self, report: WorkersReport) -> None:
        self._world.reports.append(report)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of threads and files
            await asyncio.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    made = World(tmp_path)
    monkeypatch.setattr(rsync_runner, "open_passes", made.passes)
    monkeypatch.setattr(rsync_runner, "open_turn", made.turn)
    monkeypatch.setattr(rsync_runner, "open_reporter", made.reporter)
    monkeypatch.setattr(rsync_runner, "LIST_SECONDS", 0.05)
    return made


@asynccontextmanager
async def running(job: Job) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(rsync_runner.run_on(job, load(None), None))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def in_step(world: World) -> dict[str, int]:
    """Who is in step, and with what, by the last report."""
    if not world.reports:
        return {}
    workers = world.reports[-1].workers
    return {e.worker: e.revision for e in workers if e.state is WorkerState.IN_STEP}


async def test_each_change_of_the_source_is_offered_once(world: World) -> None:
    async with running(world.job()):
        await until(lambda: in_step(world) == {LINES[0]: 1})
        write(world.source, "one", "new")
        await until(lambda: in_step(world) == {LINES[0]: 2})
    assert [each.revision for each, _ in world.offered] == [1, 2]
    first, *_, last = world.expected  # while the source came to rest
    assert (len(first), len(last)) == (3, 1)


async def test_who_ends_says_goodbye_and_keeps_what_it_knows(world: World) -> None:
    job = world.job()
    async with running(job):
        await until(lambda: in_step(world) == {LINES[0]: 1})
        assert not world.reports[-1].leaving
        assert world.reports[-1].interval_ms > 0
    assert world.reports[-1].leaving
    assert world.open == 0
    assert job.state.exists()
    async with running(job):
        await until(lambda: len(world.offered) == 2)
    assert world.offered[0][0] == world.offered[1][0]


async def test_another_list_is_taken_and_one_that_is_broken_changes_nothing(world: World) -> None:
    async with running(world.job()):
        await until(lambda: in_step(world) == {LINES[0]: 1})
        world.list.write_text("\n".join(LINES))
        await until(lambda: in_step(world) == dict.fromkeys(LINES, 1))
        world.list.write_text("")
        world.list.unlink()
        await asyncio.sleep(0.2)  # so long that it is looked at several times
        world.list.write_text(LINES[1])
        await until(lambda: in_step(world) == {LINES[1]: 1})
    assert world.opened == [LINES[:1], LINES, LINES[1:]]


async def test_a_source_that_is_gone_takes_nothing_away_and_may_come_back(world: World) -> None:
    aside = world.source.root.with_name("aside")
    async with running(world.job()) as task:
        await until(lambda: in_step(world) == {LINES[0]: 1})
        world.source.root.rename(aside)
        await asyncio.sleep(0.3)
        assert not task.done()
        aside.rename(world.source.root)
        write(world.source, "one", "new")
        await until(lambda: in_step(world) == {LINES[0]: 2})
    assert [each.revision for each, _ in world.offered] == [1, 2]


async def test_many_removals_wait_for_a_word_which_counts_once(world: World) -> None:
    async with running(world.job()):
        await until(lambda: in_step(world) == {LINES[0]: 1})
    for name in ("one", "two"):
        world.source.remove(f"deployment/server/synapse-configs/default/sequences/{name}.xml")
    async with running(world.job()):
        await until(lambda: len(world.offered) == 2)
        await asyncio.sleep(0.5)
        assert len(world.offered) == 2
    async with running(world.job(confirm_removals=True)):
        await until(lambda: world.offered[-1][0].revision == 2)
        assert world.offered[-1][1]
        write(world.source, "three", "new")
        await until(lambda: world.offered[-1][0].revision == 3)
        assert not world.offered[-1][1]


async def test_whose_lease_is_lost_stops_and_goes_on_when_it_is_free(world: World) -> None:
    job = world.job()
    async with running(job) as task:
        await until(lambda: in_step(world) == {LINES[0]: 1})
        mine = await world.leases.acquire_lease(job.lease_name, "me on here 1", 4.0)
        await world.leases.release_lease(mine)
        theirs = await world.leases.acquire_lease(job.lease_name, "other on there 2", 3600.0)
        await until(lambda: world.open == 0)
        count = len(world.reports)
        write(world.source, "one", "new")
        await asyncio.sleep(0.5)
        assert len(world.reports) == count  # another one speaks for the workers now
        assert not task.done()
        await world.leases.release_lease(theirs)
        await until(lambda: in_step(world) == {LINES[0]: 2})
