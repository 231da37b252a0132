"""One runner at a time: a lock on this host, and a lease across hosts.

The lock is the system's own, so that a crash leaves nothing behind. The lease is the store's
(`stores.leases`): it moves by itself when its holder dies, and a holder that was paused sees that
before it writes again.
"""

import asyncio
import fcntl
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from gatesync.stores.leases import KeepsLeases, Lease
from gatesync.stores.store import StoreError

__all__ = ["RunnerBusyError", "Turn", "holder_name", "only_runner", "since_boot"]

RENEWALS: Final = 4  # in a lease's time: three may fail
STANDBY_SECONDS: Final = 2.0  # at most between two looks at somebody else's lease

_log: Final = structlog.get_logger("gatesync.rsync")


class RunnerBusyError(Exception):
    """Another runner does it on this host; says which."""


@contextmanager
def only_runner(folder: Path) -> Iterator[None]:
    """Be the only runner with this folder, which is made, while the block runs.

    Raises:
        RunnerBusyError: another one is.
        OSError: the folder or the lock cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.readline(200).strip() or "a process that does not say which"
            raise RunnerBusyError(f"another runner is at it on this host: {owner}") from None
        with suppress(OSError):  # it only tells people who has it; a full disk is not our matter
            os.truncate(descriptor, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            os.pwrite(descriptor, f"process {os.getpid()}, since {since}\n".encode(), 0)
        yield  # the system lets go of it even after SIGKILL


def holder_name(node_id: str) -> str:
    """A lease's holder: this process, and no other at any time. At most 255 characters."""
    return f"{node_id[:100]} on {socket.gethostname()[:64]}, process {os.getpid()} {uuid.uuid4()}"


def since_boot() -> float:
    """Seconds on a clock that goes on while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Turn:
    """Whether it is this runner's turn, as a lease says.

    Args:
        leases: where the lease is.
        name: which one.
        holder: see `holder_name`.
        seconds: after which a holder that is not heard of loses it.
        clock: see `since_boot`.

    Attributes:
        others: who has it, when it is not ours.
    """

    def __init__(
        self,
        leases: KeepsLeases,
        name: str,
        holder: str,
        seconds: float,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self.others = ""
        self._leases = leases
        self._name = name
        self._holder = holder
        self._seconds = seconds
        self._clock = clock
        self._lease: Lease | None = None
        self._good_until = 0.0

    async def take(self) -> bool:
        """Whether the lease is ours now. Raises `StoreError` when nobody can tell."""
        asked = self._clock()
        lease = await self._leases.acquire_lease(self._name, self._holder, self._seconds)
        mine = lease.holder == self._holder
        self._lease = lease if mine else None
        self.others = "" if mine else _for_people(lease.holder)
        self._good_until = asked + self._seconds
        return mine

    async def wait(self) -> None:
        """Stand by until the lease is ours. Tells once who has it, and of a store that is away."""
        told = ""
        while True:
            try:
                if await self.take():
                    return
                said = f"{self.others} is at it; this runner goes on when that one ends"
            except StoreError as error:
                said = f"the lease cannot be asked for: {error}"
            if said != told:
                _log.info("standing by", reason=said)
                told = said
            await asyncio.sleep(min(STANDBY_SECONDS, self._seconds / RENEWALS))

    async def holds(self) -> bool:
        """Whether it is still ours, asked anew: before each thing that only one may do.

        While the store is away it is, until the time is over that the lease was given for.
        """
        if self._lease is None:
            return False
        asked = self._clock()
        try:
            async with asyncio.timeout(max(0.0, self._good_until - asked) or self._seconds):
                renewed = await self._leases.renew_lease(self._lease, self._seconds)
        except (StoreError, TimeoutError) as error:
            _log.warning("the lease was not renewed", reason=str(error) or "no answer in time")
            return self._clock() < self._good_until
        if not renewed:
            self._lease = None
            return False
        self._good_until = max(self._good_until, asked + self._seconds)
        return True

    def surely(self) -> bool:
        """Whether nobody else can have it yet, without asking: for each step of the work.

        A runner that was paused says no here before it does anything else.
        """
        return self._lease is not None and self._clock() < self._good_until

    async def keep(self) -> None:
        """Renew it again and again; returns when it is lost, or may be."""
        while True:
            if not await self.holds():
                return
            await asyncio.sleep(self._seconds / RENEWALS)

    async def give_up(self) -> None:
        """Let the next one have it at once, where the store can be told within a moment."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(self._seconds / RENEWALS):
                    await self._leases.release_lease(lease)


def _for_people(holder: str) -> str:
    return holder.rpartition(" ")[0]
