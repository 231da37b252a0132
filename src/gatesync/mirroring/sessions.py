"""A worker's place among those that are at work, and an rsync that waits there for its names.

To begin an rsync takes longer than to bring a file with it: it and its ssh here, a session, a shell
and another rsync there. So it is begun while the source still comes to rest, and told what to
bring when it has. Until it is told something it does nothing, and nothing is lost with it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from gatesync.mirroring.child_process import end_group
from gatesync.mirroring.remote import RemoteHost
from gatesync.mirroring.rsync import Rsync
from gatesync.mirroring.workers import Worker

__all__ = ["Sessions"]


class _Waiting:
    """An rsync that waits for names, and what it holds."""

    def __init__(self, process: asyncio.subprocess.Process, held: AsyncExitStack) -> None:
        self.process = process
        self.held = held
        self.taken = asyncio.Event()


class Sessions:
    """Those of one worker, which has one at a time.

    Args:
        worker: which.
        host: the connection to its host.
        rsync: see there.
        slots: how many workers may be at work at a time.
    """

    def __init__(
        self, worker: Worker, host: RemoteHost, rsync: Rsync, slots: asyncio.Semaphore
    ) -> None:
        self._worker = worker
        self._host = host
        self._rsync = rsync
        self._slots = slots
        self._waiting: _Waiting | None = None
        self._begun: asyncio.subprocess.Process | None = None
        self._is_at_work = False

    async def expect(self, seconds: float) -> None:
        """Have an rsync wait for names, where there is room and a connection.

        It does until it is needed, or for so long.

        Raises:
            RsyncError: it cannot be run on this host.
        """
        is_full = self._host.sessions.locked() or self._slots.locked()
        if self._is_at_work or is_full or not self._host.is_connected:
            return
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._host.sessions)
            await held.enter_async_context(self._slots)
            process = await self._rsync.begin(self._worker)
            held.push_async_callback(end_group, process)
            self._waiting = waiting = _Waiting(process, held.pop_all())
        try:
            async with asyncio.timeout(seconds):
                await waiting.taken.wait()
        except TimeoutError:
            pass
        finally:
            if self._waiting is waiting:
                self._waiting = None
                await waiting.held.aclose()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Be at work at this worker while the block runs; waits until there is room for it."""
        self._is_at_work = True
        try:
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                async with self._host.sessions, self._slots:
                    yield
            else:
                waiting.taken.set()
                async with waiting.held:
                    self._begun = waiting.process
                    yield
        finally:
            self._is_at_work, self._begun = False, None

    async def bring(self, names: Sequence[str]) -> int:
        """See `Rsync.bring`."""
        begun, self._begun = self._begun, None
        return await self._rsync.bring(self._worker, names, begun)
