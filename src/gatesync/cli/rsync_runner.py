"""`gatesync rsync`: the source, the workers, the lease and the receipts, brought together.

once   my turn? → the tree, once it is quiet → each worker, side by side → receipts
on     stand by until it is my turn → look at the tree, keep each worker in step → receipts
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from gatesync.artifacts.errors import FormatError
from gatesync.cli.notifying import tell
from gatesync.cli.rsync_job import Job
from gatesync.cli.rsync_leases import LeaseLostError, open_turn, while_held
from gatesync.cli.rsync_log import RunLog, open_run_log
from gatesync.cli.rsync_receipts import Receipts, files_in_parts
from gatesync.cli.rsync_reporting import Reporter, open_reporter
from gatesync.cli.rsync_source import looks, open_source, quiet_source
from gatesync.cli.rsync_turn import RunnerBusyError, Turn, only_runner
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError, Target
from gatesync.config import Loaded
from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.passes import Passes, open_passes
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.source_tree import Settled, SourceTree
from gatesync.mirroring.watching import watching
from gatesync.mirroring.workers import ListedWorkers, Worker
from gatesync.publisher.workers import WorkersReport

__all__ = ["Done", "run_on", "run_once"]

DONE_FORMAT: Final = "gatesync.rsync/1"
LIST_SECONDS: Final = 2.0  # between two looks at the workers' list
NEWS_SECONDS: Final = 0.2  # what comes this close together is one report
LEAVE_SECONDS: Final = 2.0  # for saying goodbye

_log: Final = structlog.get_logger("gatesync.rsync")


class Done(msgspec.Struct, frozen=True):
    """How it went, for programs. `busy`: who else is at it, so that nothing was done here."""

    runner: str
    source: str
    revision: int = 0
    workers: tuple[Outcome, ...] = ()
    problems: tuple[str, ...] = ()
    waiting: str = ""
    busy: str = ""
    format: Literal["gatesync.rsync/1"] = DONE_FORMAT

    @property
    def is_good(self) -> bool:
        """Whether every worker has all of it."""
        good = {Result.IN_STEP, Result.BROUGHT, Result.PLANNED}
        return not self.problems and all(w.result in good and not w.held for w in self.workers)


async def run_once(
    job: Job,
    loaded: Loaded,
    target: Target | None,
    *,
    advance: Callable[[int], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Done:
    """Bring each worker in step, once. With a dry run: only say what would be done.

    Args:
        job: what to do.
        loaded: the configuration.
        target: whom to tell how the workers are.
        advance: called with 1 as each worker is done.
        note: called with what there is to say on the side.

    Raises:
        CommandError: what stands in the way of all of it.
        ConfigError, StoreError, SshError, OSError: see what raises them.
    """
    listed = job.read_workers()
    if job.options.dry_run:
        with _copied(job) as copied:
            return await _pass(copied, listed, advance)
    try:
        with only_runner(job.folder), open_run_log(job.options.log_file) as log:
            async with open_turn(job, loaded, note) as turn:
                if not await turn.take():
                    return Done(job.node_id, str(job.source), busy=turn.others)
                receipts = Receipts(job.node_id, job.source, job.state)
                receipts.list_workers(listed.workers)
                working = _pass(job, listed, advance, log, receipts, turn.surely)
                done = await while_held(turn, working)
                report = receipts.report(leaving=True)
                await asyncio.to_thread(receipts.keep, report)
                async with open_reporter(target) as reporter:
                    await reporter.send(report)
                return done
    except RunnerBusyError as error:
        return Done(job.node_id, str(job.source), busy=str(error))
    except LeaseLostError:
        return Done(job.node_id, str(job.source), busy="another host took over meanwhile")


async def _pass(
    job: Job,
    listed: ListedWorkers,
    advance: Callable[[int], None],
    log: RunLog | None = None,
    receipts: Receipts | None = None,
    may_write: Callable[[], bool] = lambda: True,
) -> Done:
    options = job.options
    tree = await _open(job, listed.workers)
    settled = await quiet_source(tree, confirm_removals=options.confirm_removals)
    manifest = settled.manifest
    assert manifest is not None
    problems = (*listed.problems, *map(str, settled.problems))
    files = files_in_parts((each.path for each in manifest.files), listed.workers)

    def take(outcome: Outcome) -> None:
        advance(1)
        if log is not None:
            log.line(f"{outcome.worker}: {outcome.sentence()}")
        if receipts is not None:
            receipts.take(outcome, files[outcome.worker])

    if log is not None:
        _log_source(log, settled)
    if receipts is not None:
        receipts.offer(manifest.revision)
    async with open_passes(job.passes, listed.workers, may_write=may_write) as passes:
        outcomes = await passes.run_pass(
            manifest,
            confirm_removals=options.confirm_removals,
            dry_run=options.dry_run,
            report=take,
        )
    if not options.dry_run:
        await asyncio.to_thread(tree.save)
    return Done(
        job.node_id,
        str(job.source),
        manifest.revision,
        tuple(outcomes),
        problems,
        settled.waiting,
    )


async def run_on(job: Job, loaded: Loaded, target: Target | None) -> None:
    """Keep the workers in step until cancelled; stand by while another host does it.

    Raises:
        RunnerBusyError: another runner is at it on this host.
        CommandError, ConfigError, StoreError, SshError, OSError: see what raises them.
    """
    job.read_workers()  # before anything else: a list that is wrong ends it now
    heartbeat = loaded.settings.heartbeat_interval_ms / 1000
    with only_runner(job.folder), open_run_log(job.options.log_file) as log:
        async with (
            open_turn(job, loaded, _tell_note) as turn,
            open_reporter(target) as reporter,
        ):
            tell(READY=1, STATUS="stands by")
            while True:
                await turn.wait()
                tell(STATUS="keeps the workers in step")
                runner = _Runner(job, turn, reporter, log, heartbeat)
                try:
                    await while_held(turn, runner.run())
                except asyncio.CancelledError:
                    await runner.leave()
                    raise
                except LeaseLostError:
                    _log.warning("another host may have taken over: nothing more is written")
                    log.line("the lease is lost")
                    tell(STATUS="stands by")


class _Runner:
    """Keeps the workers in step for as long as the lease is ours."""

    def __init__(
        self, job: Job, turn: Turn, reporter: Reporter, log: RunLog, heartbeat: float
    ) -> None:
        self._job = job
        self._turn = turn
        self._reporter = reporter
        self._log = log
        self._heartbeat = heartbeat
        self._receipts = Receipts(job.node_id, job.source, job.state)
        self._files: dict[str, int] = {}
        self._failing: set[str] = set()
        self._told: tuple[str, ...] = ()
        self._confirm = job.options.confirm_removals

    async def run(self) -> None:
        """Until cancelled; begin anew when the workers' list changes."""
        while True:
            listed = self._job.read_workers()
            for problem in listed.problems:
                _log.warning("a line of the workers' list is left out", reason=problem)
            self._receipts.list_workers(listed.workers)
            _log.info("keeping workers in step", workers=len(listed.workers))
            tree = await _open(self._job, listed.workers)
            try:
                async with (
                    open_passes(
                        self._job.passes, listed.workers, may_write=self._turn.surely
                    ) as passes,
                    asyncio.TaskGroup() as tasks,
                ):
                    tasks.create_task(self._follow_source(tree, passes, listed.workers))
                    tasks.create_task(passes.follow(self._take))
                    tasks.create_task(self._report())
                    tasks.create_task(self._watch_list(listed))
            except* _ListChangedError:
                _log.info("the workers' list changed")

    async def leave(self) -> None:
        """Say goodbye: nobody is lost, and another may go on."""
        report = self._receipts.report(leaving=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._tell(report)

    async def _follow_source(
        self, tree: SourceTree, passes: Passes, workers: Sequence[Worker]
    ) -> None:
        offered, was_restless = ("", 0), False
        async with contextlib.AsyncExitStack() as stack:
            every, wakes = self._job.every, None
            if self._job.options.watch:
                wakes = await stack.enter_async_context(watching(tree.root))
                every = None
            async for settled in looks(tree, every, wakes):
                if settled.waiting and self._confirm:
                    tree.confirm_removals()
                    continue
                self._tell_source(settled)
                if settled.restless and not was_restless:
                    passes.expect(settled.restless)
                was_restless = bool(settled.restless)
                manifest = settled.manifest
                # What is withheld may be other files by now: no worker needs to know.
                if manifest is not None and (manifest.epoch, manifest.revision) != offered:
                    offered = manifest.epoch, manifest.revision
                    self._offer(manifest, passes, workers)
                    _log_source(self._log, settled)

    def _offer(self, manifest: SourceManifest, passes: Passes, workers: Sequence[Worker]) -> None:
        self._files.update(files_in_parts((each.path for each in manifest.files), workers))
        self._receipts.offer(manifest.revision)
        passes.offer(manifest, confirm_removals=self._confirm)
        self._confirm = False  # what comes later is another question

    def _take(self, outcome: Outcome) -> None:
        self._receipts.take(outcome, self._files.get(outcome.worker, 0))
        worker, failed = outcome.worker, outcome.result is Result.FAILED
        news = outcome.result is not Result.IN_STEP or outcome.held or worker in self._failing
        if not news:
            return
        self._log.line(f"{worker}: {outcome.sentence()}")
        if failed and worker not in self._failing:
            _log.warning("a worker failed", worker=worker, reason=outcome.why)
        elif not failed:
            _log.info("worker", worker=worker, became=outcome.sentence())
        (self._failing.add if failed else self._failing.discard)(worker)

    def _tell_source(self, settled: Settled) -> None:
        told = (*map(str, settled.problems), settled.waiting)
        if told != self._told:
            for problem in settled.problems:
                _log.warning("a file of the source is left out", reason=str(problem))
            if settled.waiting:
                _log.warning("removals wait for --confirm-removals", reason=settled.waiting)
        self._told = told

    async def _report(self) -> None:
        """On news, and each heartbeat; not for a lease that another has by now."""
        while True:
            await asyncio.sleep(NEWS_SECONDS)
            self._receipts.news.clear()
            if await self._turn.holds():
                await self._tell(self._receipts.report(self._heartbeat))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await self._receipts.news.wait()

    async def _tell(self, report: WorkersReport) -> None:
        await asyncio.to_thread(self._receipts.keep, report)
        await self._reporter.send(report)

    async def _watch_list(self, listed: ListedWorkers) -> None:
        """Raise when the list says something else; one that cannot be read changes nothing."""
        while True:
            await asyncio.sleep(LIST_SECONDS)
            with contextlib.suppress(CommandError):
                if self._job.read_workers() != listed:
                    raise _ListChangedError


class _ListChangedError(Exception):
    """The workers' list is another one."""


async def _open(job: Job, workers: tuple[Worker, ...]) -> SourceTree:
    try:
        return await asyncio.to_thread(open_source, job, workers, job.record)
    except FormatError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None


def _tell_note(text: str) -> None:
    _log.info("one runner at a time", note=text)


def _log_source(log: RunLog, settled: Settled) -> None:
    manifest = settled.manifest
    if manifest is not None:
        log.line(f"source: revision {manifest.revision}, {len(manifest.files)} files")
    for problem in settled.problems:
        log.line(f"source: left out: {problem}")
    if settled.waiting:
        log.line(f"source: {settled.waiting}")


@contextlib.contextmanager
def _copied(job: Job) -> Iterator[Job]:
    """For a dry run: what is known, where it changes nothing and is in nobody's way."""
    with tempfile.TemporaryDirectory(prefix="gatesync-") as name:
        folder = Path(name)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(job.record, folder / job.record.name)
        passes = msgspec.structs.replace(job.passes, folder=folder / "work")
        yield msgspec.structs.replace(job, folder=folder, passes=passes)
