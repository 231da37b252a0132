"""When the source of rsync's workers is looked at, and how much of it."""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import aclosing
from typing import Any, cast

import pytest

from gatesync.cli import rsync_source
from gatesync.cli.rsync_source import looks
from gatesync.mirroring.source_tree import Settled
from gatesync.mirroring.watching import Wakes

pytestmark = pytest.mark.fast

LONG = 60.0
RESTLESS = Settled(None, restless=frozenset({"a.xml"}))
QUIET = Settled(None)


class Tree:
    """One that is as a test says."""

    moment = 0.0

    def __init__(self, wakes: Wakes, found: Iterable[Settled]) -> None:
        self.asked: list[Collection[str] | None] = []
        self._wakes = wakes
        self._found = iter(found)

    def look(self, *, touched: Collection[str] | None = None) -> Settled:
        self.asked.append(touched)
        return next(self._found)


async def looked(found: list[Settled], changes: list[str | None], **more: Any) -> Any:
    """How a tree was looked at; after each look something changes in it, or nothing does."""
    wakes = Wakes()
    tree: Any = Tree(wakes, found)
    async with asyncio.timeout(LONG), aclosing(cast("Any", looks(tree, None, wakes))) as all_looks:
        left = iter(changes)
        async for _ in all_looks:
            if (change := next(left, "")) == "":
                break
            if change is not None:
                wakes.wake([change])
    return tree.asked


async def test_what_is_told_of_is_looked_at_alone_until_it_rests() -> None:
    asked = await looked([QUIET, RESTLESS, RESTLESS, QUIET], ["a.xml", None, "b.xml"])
    assert asked == [None, {"a.xml"}, frozenset(), {"b.xml"}]


async def test_the_clock_brings_a_look_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync_source, "LOOK_LEAST_SECONDS", 0.001)
    assert await looked([QUIET, QUIET], [None]) == [None, None]


async def test_changes_that_never_end_do_not_put_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync_source, "WHOLE_SECONDS", -1.0)
    assert await looked([QUIET, QUIET], ["a.xml"]) == [None, None]
