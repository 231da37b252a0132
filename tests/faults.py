"""A hub that misbehaves, around any other: for tests and the demo, never in production code.

As an adapter, `tests.faults:open_faulty_nats_hub` is told what to do by files, whose paths stand
in its process's environment, so that a test can change its mind while the process runs.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gatesync.events.hub import BUFFER_MESSAGES, EventHub, HubError, Listener, ReportListener
from gatesync.events.messages import ChangeAnnounced, decode_announcement
from gatesync.events.nats import open_nats_hub

DROP_FILE = "GATESYNC_TEST_DROP_FILE"  # while it exists, every message is dropped
KILL_FILE = "GATESYNC_TEST_KILL_FILE"  # while it exists, announcing a change is SIGKILL

Send = Callable[[], Awaitable[None]]


class Faults(msgspec.Struct):
    """What goes wrong: probabilities for each message sent, and files."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # it is sent after the next message
    delay: float = 0.0
    longest_delay: float = 0.1  # seconds
    drop_file: Path | None = None
    kill_file: Path | None = None


class FaultyHub:
    """Sends what it is given through `inner`, or not, or twice, or later."""

    def __init__(self, inner: EventHub, faults: Faults, seed: int = 0) -> None:
        self.inner = inner
        self.faults = faults
        self.dropped = 0
        self._random = random.Random(seed)
        self._held: list[Send] = []
        self._delayed: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return self.inner.connected

    @property
    def trouble(self) -> str:
        return self.inner.trouble

    async def announce(self, label: str, message: bytes) -> None:
        if _exists(self.faults.kill_file) and isinstance(
            decode_announcement(message), ChangeAnnounced
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        await self._send(partial(self.inner.announce, label, message))

    async def report(self, node: str, message: bytes) -> None:
        await self._send(partial(self.inner.report, node, message))

    def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AbstractAsyncContextManager[Listener]:
        return self.inner.announcements(labels, buffer=buffer)

    def reports(
        self, *, buffer: int = BUFFER_MESSAGES
    ) -> AbstractAsyncContextManager[ReportListener]:
        return self.inner.reports(buffer=buffer)

    async def settle(self) -> None:
        """Send what is held back, and wait for what is delayed."""
        await self._release()
        if self._delayed:
            await asyncio.wait(self._delayed)

    async def close(self) -> None:
        """Drop what is held back or delayed."""
        self._held.clear()
        for task in self._delayed:
            task.cancel()
        if self._delayed:
            await asyncio.wait(self._delayed)

    async def _send(self, send: Send) -> None:
        faults = self.faults
        if _exists(faults.drop_file) or self._happens(faults.drop):
            self.dropped += 1
            return
        if self._happens(faults.reorder):
            self._held.append(send)
            return
        for _ in range(2 if self._happens(faults.duplicate) else 1):
            if self._happens(faults.delay):
                task = asyncio.create_task(self._send_late(send))
                self._delayed.add(task)
                task.add_done_callback(self._delayed.discard)
            else:
                await send()
        await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, []
        for send in held:
            await send()

    async def _send_late(self, send: Send) -> None:
        await asyncio.sleep(self._random.uniform(0, self.faults.longest_delay))
        with suppress(HubError):  # nobody is there any more to be told
            await send()

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability


@asynccontextmanager
async def faulty(
    inner: AbstractAsyncContextManager[EventHub], faults: Faults, seed: int = 0
) -> AsyncIterator[FaultyHub]:
    """Open `inner`, and put the faults around it."""
    async with inner as hub:
        wrapper = FaultyHub(hub, faults, seed)
        try:
            yield wrapper
        finally:
            await wrapper.close()


def open_faulty_nats_hub(
    endpoints: Sequence[str], *, user: str | None, password: str | None, name: str, **more: Any
) -> AbstractAsyncContextManager[EventHub]:
    """An adapter: the NATS hub, with the faults that the environment names."""
    faults = Faults(drop_file=_path_from(DROP_FILE), kill_file=_path_from(KILL_FILE))
    opened = open_nats_hub(endpoints, user=user, password=password, name=name, **more)
    return faulty(opened, faults)


def _path_from(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()
