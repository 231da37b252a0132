"""Wakes whoever looks at a tree as soon as something in it changes, where the system tells.

inotify knows of this host's own writes only, and watches run out on large trees: it makes a look
come earlier and see less, and nothing relies on it. The looks that come by the clock, at all there
is, always remain.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

__all__ = ["Wakes", "watching"]

DEBOUNCE_MS: Final = 50  # what comes that close together is one change
STEP_MS: Final = 10  # after a pause as long as this nobody waits for more
TOUCHED_MAX: Final = 100  # of a host that is very busy the system does not tell all

Watch: TypeAlias = Callable[[Path, asyncio.Event], AsyncIterator[Iterable[tuple[Any, str]]]]
"""Yields what changed below the path, whenever something does, until the event is set."""

_log = structlog.get_logger("gatesync.mirroring")


class Wakes:
    """What a watched tree says: that something has changed since the last time, and what."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._touched: set[str] | None = set()

    def wake(self, touched: Iterable[str] | None) -> None:
        """These have changed, by their paths below the root; None: nobody knows what."""
        if self._touched is not None and touched is not None:
            self._touched.update(touched)
        if touched is None or (self._touched and len(self._touched) > TOUCHED_MAX):
            self._touched = None
        self._changed.set()

    async def wait(self, seconds: float) -> frozenset[str] | None:
        """Wait until something changes, for so many seconds at most: what `take` answers then."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return None
        return self.take()

    def take(self) -> frozenset[str] | None:
        """What has changed since the last time that this was asked.

        None where all there is must be looked at: it was too much, or time is all that passed.
        """
        touched, self._touched = self._touched, set()
        self._changed.clear()
        return frozenset(touched) if touched is not None else None


@asynccontextmanager
async def watching(root: Path, watch: Watch | None = None) -> AsyncIterator[Wakes]:
    """Watch a tree while the block runs; where it cannot be watched, only time wakes.

    Args:
        root: the tree's folder, which need not be there yet.
        watch: what tells of changes; without it the library `watchfiles`, where that is installed.
    """
    wakes, stop = Wakes(), asyncio.Event()
    watch = watch or _installed()
    if watch is None:
        yield wakes
        return
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_follow(watch, root, wakes, stop), name="watch tree")
        try:
            yield wakes
        finally:
            stop.set()
            task.cancel()


async def _follow(watch: Watch, root: Path, wakes: Wakes, stop: asyncio.Event) -> None:
    try:
        start = f"{root}/"
        async for changes in watch(root, stop):
            paths = [path for _, path in changes]
            is_below = all(path.startswith(start) for path in paths)
            wakes.wake([path.removeprefix(start) for path in paths] if is_below else None)
    except (OSError, RuntimeError) as error:  # no watches are left, or the tree is not there
        _log.info("the tree is only looked at by the clock", root=str(root), reason=str(error))


def _installed() -> Watch | None:
    try:
        library = importlib.import_module("watchfiles")
    except ImportError:
        return None

    def watch(root: Path, stop: asyncio.Event) -> AsyncIterator[Iterable[tuple[Any, str]]]:
        changes: AsyncIterator[Iterable[tuple[Any, str]]] = library.awatch(
            root, watch_filter=None, debounce=DEBOUNCE_MS, step=STEP_MS, stop_event=stop
        )
        return changes

    return watch
