"""The tree that rsync's workers are given: looked at until it is quiet, then again and again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import structlog

from gatesync.cli.rsync_job import Job, kept_paths
from gatesync.cli.running import EXIT_UNREACHABLE
from gatesync.cli.session import CommandError
from gatesync.mirroring.scanning import SourceGoneError
from gatesync.mirroring.source_tree import Settled, SourceTree
from gatesync.mirroring.watching import Wakes
from gatesync.mirroring.workers import Worker

__all__ = ["looks", "open_source", "quiet_source"]

QUIET_SECONDS: Final = 60.0  # a tree that was never quiet for so long is told of
LOOK_SECONDS: Final = 1.0  # between two looks, where each change is to be seen soon
LOOK_LEAST_SECONDS: Final = 0.1
LOOK_SHARE: Final = 10  # such a look takes a tenth of a core at most, however many files there are
WHOLE_SECONDS: Final = 5.0  # between two looks at everything, where changes never end

_log: Final = structlog.get_logger("gatesync.rsync")


def open_source(job: Job, workers: tuple[Worker, ...], record: Path) -> SourceTree:
    """The tree, with what an earlier runner knew of it. Blocks; raises as `SourceTree` does."""
    return SourceTree(job.source, record, keep=lambda path: kept_paths(path, workers))


async def quiet_source(
    tree: SourceTree,
    *,
    confirm_removals: bool = False,
    steady: Callable[[], float] = time.monotonic,
) -> Settled:
    """The tree once nothing in it moves; what never ends moving is left out after a while.

    Raises:
        CommandError: the tree is not there, or never quiet.
    """
    until = steady() + QUIET_SECONDS
    while True:
        settled = await _look(tree)
        if settled.waiting and confirm_removals:
            confirm_removals = False
            tree.confirm_removals()
            continue
        if settled.manifest is not None and not settled.restless:
            return settled
        if steady() > until:
            if settled.manifest is not None:
                return settled
            reason = f"{tree.root} was never quiet in {QUIET_SECONDS:g} s; who is writing there?"
            raise CommandError(EXIT_UNREACHABLE, reason)
        await asyncio.sleep(tree.moment)


async def looks(
    tree: SourceTree, every: float | None, wakes: Wakes | None = None
) -> AsyncIterator[Settled]:
    """What the tree comes to, again and again; a tree that is gone is told of, and waited for.

    Args:
        tree: which.
        every: seconds between two looks; None: as often as that costs little.
        wakes: tells what changed, to be looked at sooner and alone.
    """
    trouble = ""
    touched: frozenset[str] | None = None
    whole = pause = 0.0
    while True:
        began = time.monotonic()
        if began - whole > WHOLE_SECONDS:
            touched = None
        try:
            settled = await asyncio.to_thread(tree.look, touched=touched)
        except (SourceGoneError, OSError) as error:
            if str(error) != trouble:
                _log.warning(
                    "the source cannot be read; workers keep what they have", reason=str(error)
                )
            trouble = str(error)
            await _wait(every or LOOK_SECONDS, wakes)
            touched = None
            continue
        if trouble:
            _log.info("the source is there again")
        trouble = ""
        if touched is None:
            whole = time.monotonic()
            share = max(LOOK_LEAST_SECONDS, LOOK_SHARE * (whole - began))
            pause = every or min(LOOK_SECONDS, share)
        yield settled
        if settled.restless:
            await asyncio.sleep(tree.moment)
            touched = wakes.take() if wakes is not None else None
        else:
            touched = await _wait(pause, wakes)


async def _wait(seconds: float, wakes: Wakes | None) -> frozenset[str] | None:
    if wakes is not None:
        return await wakes.wait(seconds)
    await asyncio.sleep(seconds)
    return None


async def _look(tree: SourceTree) -> Settled:
    try:
        return await asyncio.to_thread(tree.look)
    except SourceGoneError as error:
        raise CommandError(EXIT_UNREACHABLE, str(error)) from None
    except OSError as error:
        reason = f"{error.filename or tree.root}: {error.strerror}"
        raise CommandError(EXIT_UNREACHABLE, reason) from None
