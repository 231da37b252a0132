"""Where a listener's messages wait: bounded, and honest about what it dropped."""

import asyncio
from collections import deque
from typing import Final, Generic, TypeVar

from gatesync.events.hub import BUFFER_MESSAGES, Lost, Reported

__all__ = ["BUFFER_MAX_BYTES", "Buffer", "ReportBuffer", "WaitingRoom"]

# A message is at most 8 MiB at our broker, so this many bytes hold a few of the largest, and no
# listener takes a small gateway's memory while it is busy.
BUFFER_MAX_BYTES: Final = 64 * 1024 * 1024


_Message = TypeVar("_Message", bytes, Reported)


class WaitingRoom(Generic[_Message]):
    """A listener that an adapter fills with `put` and `lose`, within one event loop.

    When a message would make it hold more than `limit` messages or `BUFFER_MAX_BYTES` bytes,
    that message and all before it are dropped, and one `Lost` stands for them.
    """

    def __init__(self, limit: int = BUFFER_MESSAGES) -> None:
        if limit < 1:
            raise ValueError(f"a buffer holds at least one message, not {limit}")
        self._limit = limit
        self._bytes = 0
        self._waiting: deque[_Message | Lost] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def next(self) -> _Message | Lost:
        """Wait for the next message."""
        while not self._waiting:
            # Asking for the running loop takes a system call each time, which shows here.
            self._loop = self._loop or asyncio.get_running_loop()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._waiting.popleft()
        if not isinstance(message, Lost):
            self._bytes -= len(message)
        return message

    def put(self, message: _Message) -> None:
        """Add a message, or drop everything when there is no room for it."""
        if len(self._waiting) >= self._limit or self._bytes + len(message) > BUFFER_MAX_BYTES:
            self._overflow(message)
            return
        self._bytes += len(message)
        self._waiting.append(message)
        self._wake()

    def lose(self, why: str) -> None:
        """Say that messages may be missing here; said twice in a row it counts as once."""
        if self._waiting and isinstance(self._waiting[-1], Lost):
            self._waiting.pop()
        self._waiting.append(Lost(why))
        self._wake()

    def _overflow(self, message: _Message) -> None:
        dropped, size = len(self._waiting) + 1, self._bytes + len(message)
        self._waiting.clear()
        self._bytes = 0
        self.lose(f"the listener was too slow: {dropped} messages of {size} bytes were dropped")

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Buffer(WaitingRoom[bytes]):
    """For announcements."""


class ReportBuffer(WaitingRoom[Reported]):
    """For reports."""
