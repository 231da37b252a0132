import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from gatesync.mirroring import watching as module
from gatesync.mirroring.watching import TOUCHED_MAX, watching

pytestmark = pytest.mark.fast

LONG = 60.0
Changes: TypeAlias = set[tuple[str, str]]


async def test_a_change_wakes_whoever_waits(tmp_path: Path) -> None:
    news: asyncio.Queue[str] = asyncio.Queue()

    async def told(root: Path, _stop: asyncio.Event) -> AsyncIterator[Changes]:
        while True:
            yield {("modified", f"{root}/{await news.get()}")}

    async with asyncio.timeout(LONG), watching(tmp_path, told) as wakes:
        await news.put("api/a.xml")
        assert await wakes.wait(2 * LONG) == {"api/a.xml"}
        assert await wakes.wait(0.001) is None  # one change wakes once, and then the clock does
        await news.put("b.xml")
        assert await wakes.wait(2 * LONG) == {"b.xml"}
        assert wakes.take() == frozenset()


async def test_a_change_that_comes_between_two_waits_is_not_lost(tmp_path: Path) -> None:
    async def told(root: Path, _stop: asyncio.Event) -> AsyncIterator[Changes]:
        yield {("modified", f"{root}/a.xml")}

    async with asyncio.timeout(LONG), watching(tmp_path, told) as wakes:
        for _ in range(3):
            await asyncio.sleep(0)
        assert await wakes.wait(2 * LONG) == {"a.xml"}


@pytest.mark.parametrize(
    "paths",
    [[f"{{root}}/{number}.xml" for number in range(TOUCHED_MAX + 1)], ["{root}", "{root}/a.xml"]],
    ids=["so much that some may be lost", "the root itself"],
)
async def test_where_it_is_not_clear_what_changed_all_there_is_is_to_be_looked_at(
    tmp_path: Path, paths: Sequence[str]
) -> None:
    async def told(root: Path, _stop: asyncio.Event) -> AsyncIterator[Changes]:
        for path in paths:
            yield {("modified", path.format(root=root))}

    async with asyncio.timeout(LONG), watching(tmp_path, told) as wakes:
        for _ in range(3):
            await asyncio.sleep(0)
        assert await wakes.wait(2 * LONG) is None


async def test_the_library_tells_which_file_it_was(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    touched: set[str] = set()
    async with asyncio.timeout(LONG), watching(tmp_path) as wakes:
        while "api/a.xml" not in touched:  # until it watches, nothing is told
            (tmp_path / "api" / "a.xml").write_text("<api/>")
            touched |= await wakes.wait(0.2) or set()


@pytest.mark.parametrize(
    "error", [OSError(28, "inotify watch limit reached"), RuntimeError("there is no such folder")]
)
async def test_where_a_tree_cannot_be_watched_the_clock_remains(
    tmp_path: Path, error: Exception
) -> None:
    async def broken(_root: Path, _stop: asyncio.Event) -> AsyncIterator[Changes]:
        raise error
        yield set()

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

    async def told(_root: Path, stop: asyncio.Event) -> AsyncIterator[Changes]:
        try:
            await asyncio.Event().wait()
            yield set()
        finally:
            ended.append(stop.is_set())

    async with asyncio.timeout(LONG):
        async with watching(tmp_path, told) as wakes:
            await wakes.wait(0.001)
        assert ended == [True]
