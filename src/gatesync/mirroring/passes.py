"""All workers side by side, each by itself."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from gatesync.mirroring.outcome import Outcome
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.workers import Worker

__all__ = ["PassSettings", "Passes", "open_passes"]


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


class Passes(Protocol):
    """What `open_passes` gives."""

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

        `report` is called as each ends. `compare` compares contents now, whenever that was done
        last; `confirm_removals` lets go what waits for it; `dry_run` only reads.
        """
        ...

    def offer(self, source: SourceManifest, *, confirm_removals: bool = False) -> None:
        """From now on `follow` brings this to the workers; who is at work goes on with it after."""
        ...

    async def follow(self, report: Callable[[Outcome], None]) -> None:
        """Keep each worker in step with what was offered last, until cancelled.

        A worker is looked at when something new is offered, each `every` seconds, and after a
        failure when its `next_try` has come. None waits for another, however long that hangs.
        """
        ...


def open_passes(
    settings: PassSettings,
    workers: Sequence[Worker],
    *,
    now: Callable[[], float] = time.time,
    jitter: Callable[[], float] = random.random,
) -> AbstractAsyncContextManager[Passes]:
    """The connections and files for these workers; both end with the block.

    Raises:
        SshError: the identity file, or another file for ssh, cannot be used.
        OSError: `folder` cannot be written.
    """
    raise NotImplementedError
