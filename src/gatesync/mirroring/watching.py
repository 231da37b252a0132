"""Wakes whoever looks at a tree as soon as something in it changes, where the system tells.

inotify knows of this host's own writes only, and watches run out on large trees: it makes a look
come earlier, and nothing relies on it. The looks that come by the clock always remain.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

__all__ = ["Wakes", "watching"]

DEBOUNCE_MS: Final = 50  # what comes that close together is one change

Watch: TypeAlias = Callable[[Path, asyncio.Event], AsyncIterator[Any]]
"""Yields whenever something below the path changes, until the event is set."""

_log = structlog.get_logger("gatesync.mirroring")


class Wakes:
    """What a watched tree says: that something has changed since the last time."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Something has changed."""
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, for so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


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
        async for _ in watch(root, stop):
            wakes.wake()
    except (OSError, RuntimeError) as error:  # no watches are left, or the tree is not there
        _log.info("the tree is only looked at by the clock", root=str(root), reason=str(error))


def _installed() -> Watch | None:
    try:
        library = importlib.import_module("watchfiles")
    except ImportError:
        return None

    def watch(root: Path, stop: asyncio.Event) -> AsyncIterator[Any]:
        changes: AsyncIterator[Any] = library.awatch(
            root, watch_filter=None, debounce=DEBOUNCE_MS, step=DEBOUNCE_MS, stop_event=stop
        )
        return changes

    return watch
