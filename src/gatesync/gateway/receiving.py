"""Events that publishers push to this node by HTTP.

    POST /v1/events → inbox → the informer, which hears it as if the broker had brought it

There is no second path: what came both ways is news once (promise 7). Whoever pushes has a
credential of its own, which opens nothing else here.
"""

import asyncio
from collections import deque
from hmac import compare_digest
from typing import Any, Final

import msgspec

from gatesync.artifacts.errors import FormatError
from gatesync.events.pushed import EVENT_MAX_BYTES, EVENTS_PATH, MadeOf
from gatesync.web.guard import Guard

__all__ = ["PUBLISHER", "BusyError", "Inbox", "Pushed", "Receiver", "with_events"]

INBOX_MESSAGES: Final = 256  # each publisher has one on its way, so these are many publishers
INBOX_BYTES: Final = 32 * 1024 * 1024
ANSWER_SECONDS: Final = 2.0  # for the engine; whoever pushed is told that its turn comes
PUBLISHER: Final = "publisher"  # who may push, and nothing else


class BusyError(Exception):
    """So much waits already that this is not taken: heads will tell of it."""


class Pushed(msgspec.Struct):
    """One event in the inbox. Whoever takes it out says what became of it."""

    message: bytes
    answer: asyncio.Future[MadeOf]

    def made(self, made: MadeOf) -> None:
        """Tell what the node made of it."""
        if not self.answer.done():
            self.answer.set_result(made)

    def refused(self, error: FormatError) -> None:
        """Tell that it cannot be read."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Inbox:
    """What was pushed and not heard yet, in the order of its arrival; bounded."""

    def __init__(self) -> None:
        self._waiting: deque[Pushed] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    async def offer(self, message: bytes) -> MadeOf:
        """Put an event in, and wait a little for what the node makes of it.

        Raises:
            FormatError: it cannot be read.
            BusyError: the inbox is full.
        """
        full = len(self._waiting) >= INBOX_MESSAGES
        if full or self._bytes + len(message) > INBOX_BYTES:
            raise BusyError("this node has too many events to take in; its heads tell it the rest")
        pushed = Pushed(message, asyncio.get_running_loop().create_future())
        self._waiting.append(pushed)
        self._bytes += len(message)
        self._arrived.set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await pushed.answer
        except TimeoutError:
            return MadeOf.WAITING

    async def next(self) -> Pushed:
        """Wait for the next event."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        pushed = self._waiting.popleft()
        self._bytes -= len(pushed.message)
        return pushed


class Receiver(msgspec.Struct, frozen=True):
    """What the route needs: where events go, and what the node says of itself."""

    inbox: Inbox
    node: str
    type: str


def with_events(app: Any, operators: Any, push_token: str) -> Any:
    """Guards of their own for pushed events, and for all else.

    Args:
        app: the gateway's application.
        operators: the same behind the operator's guard.
        push_token: what a publisher shows, as bearer token or as password.
    """

    def authenticate(token: str) -> str | None:
        return PUBLISHER if compare_digest(token.encode(), push_token.encode()) else None

    publishers = Guard(app, authenticate, EVENT_MAX_BYTES, passwords=True)

    async def front(scope: Any, receive: Any, send: Any) -> None:
        guarded = publishers if scope.get("path") == EVENTS_PATH else operators
        await guarded(scope, receive, send)

    return front
