import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatesync.mirroring import watching as module
from gatesync.mirroring.watching import watching

pytestmark = pytest.mark.fast

LONG = 60.0


async def test_a_change_wakes_whoever_waits(tmp_path: Path) -> None:
    news: asyncio.Queue[str] = asyncio.Queue()

    async def told(_root: Path, _stop: asyncio.Event) -> AsyncIterator[str]:
        while True:
            yield await news.get()

    async with asyncio.timeout(LONG), watching(tmp_path, told) as wakes:
        await news.put("a.xml")
        await wakes.wait(2 * LONG)
        await wakes.wait(0.001)  # one change wakes once, and then the clock does
        await news.put("b.xml")
        await wakes.wait(2 * LONG)


async def test_a_change_that_comes_between_two_waits_is_not_lost(tmp_path: Path) -> None:
    async def told(_root: Path, _stop: asyncio.Event) -> AsyncIterator[str]:
        yield "a.xml"

    async with asyncio.timeout(LONG), watching(tmp_path, told) as wakes:
        for _ in range(3):
            await asyncio.sleep(0)
        await wakes.wait(2 * LONG)


@pytest.mark.parametrize(
    "error", [OSError(28, "inotify watch limit reached"), RuntimeError("there is no such folder")]
)
async def test_where_a_tree_cannot_be_watched_the_clock_remains(
    tmp_path: Path, error: Exception
) -> None:
    async def broken(_root: Path, _stop: asyncio.Event) -> AsyncIterator[str]:
        raise error
        yield ""

    async with asyncio.timeout(LONG), watching(tmp_path, broken) as wakes:
        await wakes.wait(0.001)


async def test_without_the_library_the_clock_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    async with asyncio.timeout(LONG), watching(tmp_path) as wakes:
        await wakes.wait(0.001)


async def test_who_ends_ends_the_watch_too(tmp_path: Path) -> None:
    ended: list[bool] = []

    async def told(_root: Path, stop: asyncio.Event) -> AsyncIterator[str]:
        try:
            await asyncio.Event().wait()
            yield ""
        finally:
            ended.append(stop.is_set())

    async with asyncio.timeout(LONG):
        async with watching(tmp_path, told) as wakes:
            await wakes.wait(0.001)
        assert ended == [True]
