"""An event loop whose clock jumps to the next timer when nothing is left to do.

Hours of heartbeats pass in milliseconds, in the same order each time. For code without threads
and sockets: nothing may happen that a timer or a ready callback does not bring about.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, TypeVar

SPINS_MAX: Final = 50_000
"""Rounds of the loop in which time may stand still; a loop that never waits is a defect."""

_T = TypeVar("_T")


class Stuck(AssertionError):
    """Everyone waits and no timer is set, or someone never waits."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: moves the loop's clock by as much as it would have waited."""

    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("every task waits for something that no timer brings")
        self.loop.jump(timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 1,000 seconds, so that a clock which was never set shows."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._spins = 0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        if seconds > 0:
            self._now += seconds
            self._spins = 0
        else:
            self._spins += 1
            if self._spins > SPINS_MAX:
                self._spins = 0
                raise Stuck(f"{SPINS_MAX} rounds of the loop while time stood still: a busy loop")


def in_virtual_time(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Run an async test on a loop of its own with virtual time."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The clock to inject."""
    return loop.time


async def until(condition: Callable[[], object], within: float) -> None:
    """Let time pass until something holds; fail when it does not within these seconds."""
    try:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - on this loop a look costs nothing
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s") from None


async def eventually(condition: Callable[[], Awaitable[_T]], within: float) -> _T:
    """The same for a question that takes a while to answer; answers with what it answered."""
    async with asyncio.timeout(within):
        while not (answer := await condition()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        return answer
