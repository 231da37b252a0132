"""What a service manager is told about this process: systemd's words, on its socket.

It gave its address in `NOTIFY_SOCKET`; without one, nothing here does anything. Each message is
one datagram, and whether anybody reads it is not our matter. Why this is our own: decision 20.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog

__all__ = ["keep_alive", "listening", "ready_at", "reloading", "stopping", "tell", "told"]

EXTENSION: Final = 60.0  # seconds within which a node that is still starting says so again
BUSY: Final = 0.25  # seconds until a manager that had no room for it is told again
STATUS: Final = 1.0  # seconds between two lines for people then: counting takes time of a start
STARTED: Final = 5.0  # seconds between two looks afterwards: a heartbeat

_log = structlog.get_logger("gatesync")


def listening(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a service manager wants to be told."""
    return bool(environment.get("NOTIFY_SOCKET"))


def tell(**variables: str | int) -> bool:
    """Send one message: `tell(READY=1, STATUS="...")`. Never raises, never waits.

    Answers with whether it is on its way: a manager that is busy may have no room for it.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]  # a name that is in no file system
    lines = (f"{name}={' '.join(str(value).split())}" for name, value in variables.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        _log.warning("the service manager was not told", reason=str(error), what=[*variables])
        return False
    return True


def ready_at(url: str) -> None:
    """A server listens there, and is ready with that."""
    tell(READY=1, STATUS=f"listens at {url}")


def stopping() -> None:
    """The process was told to stop, and does."""
    tell(STOPPING=1, STATUS="stopping")


@contextmanager
def reloading() -> Iterator[None]:
    """The configuration is read again in this block. `systemctl reload` waits for its end."""
    tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
    try:
        yield
    finally:
        tell(READY=1)


async def keep_alive() -> None:
    """Answer systemd's watchdog for as long as the event loop goes round; else return at once."""
    interval = _watchdog_seconds(os.environ, os.getpid())
    if interval is None or not listening():
        return
    while True:
        tell(WATCHDOG=1)
        await asyncio.sleep(interval / 2)


@asynccontextmanager
async def told(
    until_ready: Callable[[], Awaitable[None]], status: Callable[[], str]
) -> AsyncIterator[None]:
    """Say when this node gets ready, and how it is, for as long as the block runs.

    Args:
        until_ready: waits until it is. In sync mode that may take as long as is configured, so
            time is asked for again and again: systemd ends a start that hangs, and not one that
            is patient.
        status: one line for people.
    """
    if not listening():
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_follow(until_ready, status), name="service manager")
        try:
            yield
        finally:
            task.cancel()


async def _follow(until_ready: Callable[[], Awaitable[None]], status: Callable[[], str]) -> None:
    said = ""
    extended = -EXTENSION
    ready = asyncio.ensure_future(until_ready())
    try:
        while not ready.done():
            if (now := time.monotonic()) - extended > EXTENSION / 4:
                tell(EXTEND_TIMEOUT_USEC=int(EXTENSION * 1_000_000))
                extended = now
            if (line := status()) != said:
                tell(STATUS=line)
                said = line
            await asyncio.wait([ready], timeout=STATUS)
    finally:
        ready.cancel()
    said = status()
    while not tell(READY=1, STATUS=said):  # noqa: ASYNC110 - a start without this word is ended
        await asyncio.sleep(BUSY)
    while True:
        await asyncio.sleep(STARTED)
        if (line := status()) != said:
            tell(STATUS=line)
            said = line


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """How often systemd wants to hear of this process, if it does."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID") or str(pid)  # another's, where it was inherited
    if not microseconds.isdecimal() or int(microseconds) == 0 or meant != str(pid):
        return None
    return int(microseconds) / 1_000_000
