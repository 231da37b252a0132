"""A thread for what a mounted file system may never answer.

Who waits for a mount whose server is gone cannot be stopped, not even by the process's end: such
threads are left behind, and whoever asks meanwhile is refused at once.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from gatesync.stores.store import StoreError

__all__ = ["ShareLane", "side_by_side"]

THREADS: Final = 8  # a network's round trips are waited for side by side
ALONE: Final = 4  # questions that are asked sooner than threads have started

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Item = TypeVar("_Item")


class ShareLane:
    """Runs one thing at a time, each in a daemon thread.

    Args:
        where: what is asked, for messages.
        seconds: how long to wait for an answer.
    """

    def __init__(self, where: str, seconds: float) -> None:
        self._where = where
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call it and wait; cancelling leaves it running, and the next one waits for its end.

        Raises `StoreError`, with `unsure`, when there is no answer in time.
        """
        if self._is_stuck():
            raise self._silence()
        async with self._turn:
            await self._finished(self._running)
            loop = asyncio.get_running_loop()
            future: asyncio.Future[_T] = loop.create_future()
            # Nobody may be left to hear of an error.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._running = future
            self._began = loop.time()
            call = functools.partial(work, *args, **kwargs)
            name = "gatesync-share"
            threading.Thread(
                target=_called, args=(call, future, loop), name=name, daemon=True
            ).start()
            await self._finished(future)
            return future.result()

    async def _finished(self, future: "asyncio.Future[Any] | None") -> None:
        if future is None or future.done():
            return
        await asyncio.wait([future], timeout=self._seconds)
        if not future.done():
            raise self._silence()

    def _is_stuck(self) -> bool:
        if self._running is None or self._running.done():
            return False
        return asyncio.get_running_loop().time() - self._began > self._seconds

    def _silence(self) -> StoreError:
        reason = f"{self._where} has not answered for {self._seconds:g} s; is its server there?"
        return StoreError(reason, unsure=True)


def _called(
    work: Callable[[], _T], future: "asyncio.Future[_T]", loop: asyncio.AbstractEventLoop
) -> None:
    def told(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    result, error = None, None
    try:
        result = work()
    except Exception as caught:  # noqa: BLE001 - it is raised where it is waited for
        error = caught
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(told, result, error)


def side_by_side(work: Callable[[_Item], _T], items: Sequence[_Item]) -> list[_T]:
    """What this answers for each, in their order; raises the first error that there was.

    Unlike an executor's, these threads hold up no end of the process.
    """
    if len(items) <= ALONE:
        return [work(each) for each in items]
    found: dict[int, _T] = {}
    errors: list[BaseException] = []
    numbers, turn = iter(range(len(items))), threading.Lock()

    def some() -> None:
        while not errors:
            with turn:
                number = next(numbers, None)
            if number is None:
                return
            try:
                found[number] = work(items[number])
            except BaseException as error:  # noqa: BLE001 - it is raised below
                errors.append(error)

    threads = [
        threading.Thread(target=some, name="gatesync-share", daemon=True) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(items))]
