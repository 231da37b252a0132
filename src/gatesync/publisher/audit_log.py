"""A publisher's side of the audit log: written by a thread, several entries at once.

An entry is with the system before the request that it tells of is answered, so that no end of
this process loses it; within a second it is on the disk.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.publisher.audit import NOWHERE, AuditHead, Event
from gatesync.publisher.audit_file import AuditError, AuditFile

__all__ = ["AuditLog", "Strangers", "open_audit_log"]

SYNC_SECONDS: Final = 0.5
WAIT_SECONDS: Final = 2.0  # for a disk that hangs, before a change is answered all the same
WAITING_MAX: Final = 10_000  # entries kept in memory while the log cannot be written
BATCH: Final = 256
STRANGERS_AT_ONCE: Final = 20
SUMMARY_SECONDS: Final = 10.0
ADDRESSES_MAX: Final = 100
STRANGERS_REASON: Final = "wrong tokens, or too many requests: only counted, to fill no disk"

_Waiting: TypeAlias = tuple[Event, asyncio.Future[None]]

_log = structlog.get_logger("gatesync.audit")


class Strangers:
    """Keeps wrong tokens from filling the disk: some are told one by one, the rest are counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(STRANGERS_AT_ONCE)
        self._at = clock()
        self._count = 0
        self._addresses: set[str] = set()

    def admits(self, address: str) -> bool:
        """Whether this one is written. One more is each 10 s, once 20 were."""
        now = self._clock()
        gained = (now - self._at) / SUMMARY_SECONDS
        self._left, self._at = min(STRANGERS_AT_ONCE, self._left + gained), now
        if self._left >= 1:
            self._left -= 1
            return True
        self._count += 1
        if len(self._addresses) < ADDRESSES_MAX:
            self._addresses.add(address)
        return False

    def summary(self) -> str:
        """What was counted since the last one; empty for nothing."""
        if not self._count:
            return ""
        some = "at least " if len(self._addresses) == ADDRESSES_MAX else ""
        said = f"{self._count} more requests, from {some}{len(self._addresses)} addresses"
        self._count, self._addresses = 0, set()
        return said


class AuditLog:
    """What handlers write to.

    Args:
        file: where.
        required: changes are refused while it cannot be written.
        clock: seconds since 1970.

    Attributes:
        head: the last entry that was written.
        failures: times that writing failed.
        lost: entries that were given up, as too many waited.
        trouble: why the last write failed; empty when it did not.
    """

    def __init__(
        self, file: AuditFile, *, required: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.head: AuditHead = NOWHERE
        self.failures = 0
        self.lost = 0
        self.trouble = ""
        self.required = required
        self.strangers = Strangers()
        self.folder = file.path.parent
        self._file = file
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._stirred = asyncio.Event()

    def now(self) -> int:
        """Milliseconds since 1970, for an event."""
        return int(self._clock() * 1000)

    def put(self, event: Event) -> asyncio.Future[None]:
        """Have an entry written; the result is there once the system has it, or could not take it.

        Where it could not, the future has an `AuditError`, and the entry is tried again. It is
        written, too, where nobody waits for that any more.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_heard)
        if len(self._waiting) >= WAITING_MAX:
            _, given_up = self._waiting.popleft()
            self.lost += 1
            if not given_up.done():
                given_up.set_exception(AuditError(self.trouble or "too many entries wait"))
        self._waiting.append((event, future))
        self._work.set()
        return future

    async def record(self, event: Event) -> None:
        """Write an entry before going on; a failure is told in the log, and holds up nobody."""
        with contextlib.suppress(AuditError, TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await self.put(event)

    async def demand(self, event: Event) -> None:
        """Write an entry before going on. Raises `AuditError` where that cannot be done."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self.put(event)
        except TimeoutError:
            raise AuditError(f"{self._file.path}: is not written to within a moment") from None

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(), name="audit")
                tasks.create_task(self._follow_up(), name="audit to disk")
                tasks.create_task(self._sum_up(), name="audit summaries")
        finally:
            self._finish()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            if not self._waiting:
                self._work.clear()
                continue
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            events = [event for event, _ in batch]
            writing = loop.run_in_executor(None, self._file.append, events)
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                await asyncio.wait({writing})  # a thread cannot be stopped
                self._take_in(batch, writing)
                raise
            self._take_in(batch, writing)

    def _take_in(self, batch: list[_Waiting], writing: asyncio.Future[AuditHead]) -> None:
        error = writing.exception()
        if isinstance(error, AuditError):
            self._waiting.extendleft(reversed(batch))
            self._work.clear()  # until there is something new, or a moment has passed
            self._tell(error)
        elif error is not None:
            raise error
        else:
            self.head = writing.result()
            if self.trouble:
                _log.info("the audit log is written again", path=str(self._file.path))
            self.trouble = ""
        for _, waiting in batch:
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(AuditError(str(error)))
        self._stirred.set()

    async def _follow_up(self) -> None:
        """Make durable what was written, and try again what was not."""
        while True:
            await self._stirred.wait()
            await asyncio.sleep(SYNC_SECONDS)
            self._stirred.clear()
            if self._waiting:
                self._work.set()
            try:
                await asyncio.to_thread(self._file.sync)
            except AuditError as error:
                self._tell(error)

    async def _sum_up(self) -> None:
        while True:
            await asyncio.sleep(SUMMARY_SECONDS)
            self._summarise()

    def _summarise(self) -> None:
        if said := self.strangers.summary():
            event = Event(time=self.now(), verb="ask", detail=said, outcome="refused")
            self.put(msgspec.structs.replace(event, reasons=(STRANGERS_REASON,)))

    def _finish(self) -> None:
        self._summarise()
        events = [event for event, _ in self._waiting]
        try:
            if events:
                self.head = self._file.append(events)
            self._file.sync()
        except AuditError as error:
            self._tell(error)

    def _tell(self, error: AuditError) -> None:
        self.failures += 1
        if self.trouble != str(error):
            kept = len(self._waiting)
            _log.error("the audit log cannot be written", reason=str(error), entries_waiting=kept)
        self.trouble = str(error)


@asynccontextmanager
async def open_audit_log(log: AuditLog) -> AsyncIterator[AuditLog]:
    """Have it written while the block runs. What came before is on the disk when it ends."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(log.run(), name="audit")
        try:
            yield log
        finally:
            task.cancel()


def _heard(future: asyncio.Future[None]) -> None:
    """Nobody has to wait for an entry: a failure was told by the log itself."""
    if not future.cancelled():
        future.exception()
