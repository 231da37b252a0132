"""All workers side by side, each by itself.

A pass brings each worker in step once (`run_pass`); `follow` keeps all of them in step, and none
waits for another there. Workers that are down or silent are tried again with a growing pause.
"""

import asyncio
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.remote import RemoteError, RemoteHost
from gatesync.mirroring.rsync import Rsync, RsyncError
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.ssh import ControlFolder, SshConfig, SshSettings
from gatesync.mirroring.staging import StagingError
from gatesync.mirroring.target import Remembered, Targets
from gatesync.mirroring.worker_sync import Asked, WorkerError, WorkerSync
from gatesync.mirroring.workers import Worker

__all__ = ["PassSettings", "Passes", "open_passes"]

EXPECTED_SECONDS: Final = 2.0  # a tree that is not quiet by then may not be soon
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How workers are brought in step.

    Args:
        source: the folder that the manifests tell of, such as `<API-M_HOME>/repository`.
        folder: private, of this runner alone: what is under way rests here, and is removed.
        ssh: how workers are logged in to.
        parallel: so many rsyncs at a time. Workers that are down or silent take no place.
        every: seconds between two looks at a worker's manifest, in `follow`.
        compare_every: seconds between two comparisons of all contents of a worker.
        mirror: a worker has nothing that the source has not: files of others are removed, too.
        bandwidth: the limit of each rsync, as its `--bwlimit` takes it; None: no limit.
        silence_seconds: a connection or an rsync over which nothing comes for so long is ended.
        rsync_seconds: an rsync that takes longer is ended.
        backoff_first, backoff_cap: seconds until a worker is tried again after a failure, and
            after many.
    """

    source: Path
    folder: Path
    ssh: SshSettings = SshSettings()
    parallel: int = 8
    every: float = 60.0
    compare_every: float = 600.0
    mirror: bool = False
    bandwidth: str | None = None
    silence_seconds: float = 15.0
    rsync_seconds: float = 3600.0
    backoff_first: float = 1.0
    backoff_cap: float = 60.0


class _Tried:
    """A worker, and how it has been going with it."""

    def __init__(self, worker: Worker, sync: WorkerSync) -> None:
        self.worker = worker
        self.sync = sync
        self.failures = 0
        self.next_try: float | None = None
        self.wake = asyncio.Event()
        self.expected = asyncio.Event()


class Passes:
    """The workers of a list. Use `open_passes`."""

    def __init__(
        self,
        settings: PassSettings,
        tried: Sequence[_Tried],
        targets: Targets,
        now: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tried = tried
        self._targets = targets
        self._now = now
        self._jitter = jitter
        self._offered: tuple[SourceManifest, Asked] | None = None

    async def run_pass(
        self,
        source: SourceManifest,
        *,
        confirm_removals: bool = False,
        compare: bool = False,
        dry_run: bool = False,
        report: Callable[[Outcome], None] = lambda _: None,
    ) -> list[Outcome]:
        """Try each worker once, and wait for the last: for `--once` and cron. In list order.

        Args:
            source: what the workers are to have.
            confirm_removals: let go what waits for it.
            compare: compare all contents, whenever that was done last.
            dry_run: only read, and say what would be done.
            report: called as each worker ends.
        """
        asked = self._asked(confirm_removals=confirm_removals, compare=compare, dry_run=dry_run)

        async def one(tried: _Tried) -> Outcome:
            outcome = await self._try(tried, source, asked)
            report(outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(tried)) for tried in self._tried]
        return [task.result() for task in tasks]

    def expect(self, paths: Collection[str]) -> None:
        """These may be offered in a moment: `follow` has rsyncs wait where they belong."""
        for tried in self._tried:
            start = f"{tried.worker.part}/" if tried.worker.part else ""
            if tried.next_try is None and any(path.startswith(start) for path in paths):
                tried.expected.set()

    def offer(self, source: SourceManifest, *, confirm_removals: bool = False) -> None:
        """From now on `follow` brings this to the workers; who is at work goes on with it after."""
        self._offered = source, self._asked(confirm_removals=confirm_removals)
        for tried in self._tried:
            tried.wake.set()

    async def follow(self, report: Callable[[Outcome], None]) -> None:
        """Keep each worker in step with what was offered last, until cancelled.

        A worker is looked at when something new is offered, each `every` seconds, and after a
        failure when its `next_try` has come. None waits for another, however long that hangs.
        `report` is called after each look.
        """
        async with asyncio.TaskGroup() as group:
            for tried in self._tried:
                group.create_task(self._follow(tried, report))
                group.create_task(self._be_ready(tried))

    async def _follow(self, tried: _Tried, report: Callable[[Outcome], None]) -> None:
        confirmed: SourceManifest | None = None
        while True:
            await self._wait(tried)
            if self._offered is None:
                continue
            source, asked = self._offered
            if confirmed is source:  # once is enough
                asked = msgspec.structs.replace(asked, confirmed=False)
            outcome = await self._try(tried, source, asked)
            if outcome.result is not Result.FAILED:
                confirmed = source
            report(outcome)

    async def _be_ready(self, tried: _Tried) -> None:
        while True:
            await tried.expected.wait()
            tried.expected.clear()
            with suppress(RsyncError):  # who needs one will be told
                await tried.sync.sessions.expect(EXPECTED_SECONDS)

    async def _wait(self, tried: _Tried) -> None:
        """Until this worker is to be looked at."""
        if tried.next_try is not None:  # news do not hurry a worker that is in trouble
            pause = tried.next_try - self._now()
            await asyncio.sleep(min(pause, self._settings.backoff_cap))  # clocks may be set back
        else:
            try:
                async with asyncio.timeout(self._settings.every):
                    await tried.wake.wait()
            except TimeoutError:
                pass
        tried.wake.clear()

    async def _try(self, tried: _Tried, source: SourceManifest, asked: Asked) -> Outcome:
        began = self._now()
        outcome = partial(Outcome, worker=tried.worker.line)
        try:
            async with self._targets.using(source, tried.worker.part) as target:
                brought = await tried.sync.bring(target, asked)
        except (RemoteError, WorkerError, RsyncError, StagingError) as error:
            ended = self._now()
            tried.failures += 1
            tried.next_try = ended + self._pause(tried.failures)
            return outcome(
                result=Result.FAILED,
                at=ended,
                seconds=ended - began,
                exit_code=error.code if isinstance(error, RsyncError) else None,
                why=_UNPRINTABLE.sub("?", str(error)),  # some of it is the worker's own words
                failures=tried.failures,
                next_try=tried.next_try,
            )
        tried.failures, tried.next_try = 0, None
        ended = self._now()
        is_proved = brought.result in {Result.IN_STEP, Result.BROUGHT}
        return outcome(
            result=brought.result,
            epoch=source.epoch if is_proved else None,
            revision=source.revision if is_proved else None,
            at=ended,
            seconds=ended - began,
            offered=brought.offered,
            removed=brought.removed,
            held=brought.held,
            repaired=brought.repaired,
            left_out=brought.left_out,
            compared=brought.compared,
            bytes_sent=brought.bytes_sent,
        )

    def _pause(self, failures: int) -> float:
        settings = self._settings
        longest = min(settings.backoff_cap, settings.backoff_first * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + 0.5 * self._jitter())

    def _asked(
        self, *, confirm_removals: bool = False, compare: bool = False, dry_run: bool = False
    ) -> Asked:
        return Asked(
            mirror=self._settings.mirror,
            confirmed=confirm_removals,
            compare_every=0.0 if compare else self._settings.compare_every,
            dry_run=dry_run,
        )


@asynccontextmanager
async def open_passes(
    settings: PassSettings,
    workers: Sequence[Worker],
    *,
    now: Callable[[], float] = time.time,
    jitter: Callable[[], float] = random.random,
    may_write: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Passes]:
    """The connections and files for these workers; both end with the block.

    Args:
        settings: see there.
        workers: which, each once.
        now: seconds since 1970.
        jitter: numbers of [0, 1), for the pauses after failures.
        may_write: asked before each thing that is written; False where another runner may be at
            it by now, and the worker fails.

    Raises:
        SshError: the identity file, or another file for ssh, cannot be used.
        OSError: `folder` cannot be written.
        ValueError: `bandwidth` is none.
    """
    staged = settings.folder / "staged"
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)  # left by a crash
    with ControlFolder(settings.folder) as folder:
        config = SshConfig(settings.ssh, folder, [worker.host for worker in workers])
        staged.mkdir(exist_ok=True)
        rsync = Rsync(
            config,
            staged,
            bandwidth=settings.bandwidth,
            silence_seconds=settings.silence_seconds,
            seconds=settings.rsync_seconds,
        )
        hosts = {
            worker.host: RemoteHost(worker.host, config, answer_seconds=settings.silence_seconds)
            for worker in workers
        }
        slots, remembered = asyncio.Semaphore(settings.parallel), Remembered()
        tried = [
            _Tried(
                worker,
                WorkerSync(worker, hosts[worker.host], rsync, slots, remembered, now, may_write),
            )
            for worker in workers
        ]
        try:
            yield Passes(settings, tried, Targets(staged, settings.source), now, jitter)
        finally:
            await asyncio.gather(*(host.close() for host in hosts.values()))
            await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
