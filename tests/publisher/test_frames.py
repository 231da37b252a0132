"""Frames of packed contents, kept for gateways that ask for the same."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gatesync.publisher import contents
from gatesync.publisher.contents import Frames

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _room_for_1000_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "FRAMES_BYTES", 1_000)


class Maker:
    """Makes frames of so many bytes, and counts them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def of(
        self, name: str, size: int = 400, *, complete: bool = True
    ) -> Callable[[], Awaitable[tuple[bytes, bool]]]:
        async def make() -> tuple[bytes, bool]:
            await self.may_go_on.wait()
            self.made.append(name)
            return name.encode() * size, complete

        return make


async def test_those_asked_for_longest_ago_make_room() -> None:
    frames, maker = Frames(), Maker()
    for name in ("a", "b", "a", "c", "a", "c"):
        assert await frames.get((name,), maker.of(name)) == (name.encode() * 400, True)
    assert maker.made == ["a", "b", "c"]
    await frames.get(("b",), maker.of("b"))
    assert maker.made == ["a", "b", "c", "b"]


async def test_gateways_that_ask_for_the_same_at_once_have_it_made_once() -> None:
    frames, maker = Frames(), Maker()
    maker.may_go_on.clear()
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(frames.get(("a",), maker.of("a"))) for _ in range(10)]
        await asyncio.sleep(0)
        maker.may_go_on.set()
    assert {task.result() for task in asked} == {(b"a" * 400, True)}
    assert maker.made == ["a"]


async def test_one_who_goes_away_while_it_is_made_leaves_it_to_the_next() -> None:
    frames, maker = Frames(), Maker()
    maker.may_go_on.clear()
    first = asyncio.create_task(frames.get(("a",), maker.of("a")))
    second = asyncio.create_task(frames.get(("a",), maker.of("a")))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    maker.may_go_on.set()
    assert await second == (b"a" * 400, True)


async def test_one_that_lacks_something_is_not_kept() -> None:
    frames, maker = Frames(), Maker()
    assert await frames.get(("a",), maker.of("a", complete=False)) == (b"a" * 400, False)
    assert await frames.get(("a",), maker.of("a")) == (b"a" * 400, True)
    assert maker.made == ["a", "a"]


async def test_one_larger_than_the_room_is_not_kept_and_does_no_harm() -> None:
    frames, maker = Frames(), Maker()
    for _ in range(2):
        await frames.get(("a",), maker.of("a", 1_001))
        await frames.get(("b",), maker.of("b", 1_000))
    assert maker.made == ["a", "b", "a", "b"]
    await frames.get(("b",), maker.of("b", 1_000))
    assert maker.made == ["a", "b", "a", "b"]
