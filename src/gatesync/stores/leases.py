"""Leases: of those who could do a piece of work, on whatever host, one does: a power of a store.

Who holds a lease renews it before it runs out, and asks again before each thing that only one may
do. It runs out by the store's own clock, or by what somebody saw of it for so long, never by
comparing the clocks of two hosts. When it has run out, anybody takes it, and its **term** rises: a
holder that was paused and wakes late finds another term there, even where that other one is gone.

A lease is no part of any promise about artifacts. Every adapter must pass
`tests/contracts/leases.py`.
"""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["KeepsLeases", "Lease", "LeaseRecord", "MemoryLeases", "stands", "taken"]


class Lease(msgspec.Struct, frozen=True):
    """Who holds what is named so, for the how-many-th time that it changed hands."""

    name: str
    holder: str
    term: int


@runtime_checkable
class KeepsLeases(Protocol):
    """What a store is that has room for leases.

    A holder is named so that no other process ever has that name. Names and holders have 255
    characters at most. Each method raises `StoreError` when the store cannot be reached; what
    became of the lease is not known then, and asking again is harmless.
    """

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> Lease:
        """Take it for so many seconds if it is free or has run out; answer with who holds it now.

        Who holds it already has it prolonged, in the same term.
        """
        ...

    async def renew_lease(self, lease: Lease, seconds: float) -> bool:
        """Prolong it; False where it was given up, or somebody else has had it meanwhile.

        A lease that ran out and that nobody wanted is still its holder's.
        """
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give it up, so that the next one need not wait; nothing where it is somebody else's."""
        ...


class LeaseRecord(msgspec.Struct, frozen=True):
    """What a store keeps of a lease; `renewed_at` and `length` are milliseconds.

    The first is by the store's own clock. A `length` of 0: it was given up.
    """

    holder: str
    term: int
    renewed_at: int
    length: int

    def has_run_out(self, now: int) -> bool:
        """Whether anybody may take it. A clock that was set far back keeps nobody waiting."""
        return abs(now - self.renewed_at) >= self.length


def taken(record: LeaseRecord | None, holder: str, seconds: float, now: int) -> LeaseRecord:
    """What is kept after somebody wanted a lease: its record then, or the one that stands."""
    length = max(1, int(seconds * 1000))
    if record is None:
        return LeaseRecord(holder, 1, now, length)
    if record.holder == holder and record.length:
        return LeaseRecord(holder, record.term, now, length)
    if record.has_run_out(now):
        return LeaseRecord(holder, record.term + 1, now, length)
    return record


def stands(record: LeaseRecord, lease: Lease) -> bool:
    """Whether nobody has had it since, and it was not given up."""
    return (record.holder, record.term) == (lease.holder, lease.term) and record.length > 0


class MemoryLeases:
    """Leases in memory: for tests, and to read what the contract means."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._records: dict[str, LeaseRecord] = {}
        self._clock = clock

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> Lease:
        """See `KeepsLeases.acquire_lease`."""
        record = taken(self._records.get(name), holder, seconds, self._now())
        self._records[name] = record
        return Lease(name, record.holder, record.term)

    async def renew_lease(self, lease: Lease, seconds: float) -> bool:
        """See `KeepsLeases.renew_lease`."""
        if not self._stands(lease):
            return False
        await self.acquire_lease(lease.name, lease.holder, seconds)
        return True

    async def release_lease(self, lease: Lease) -> None:
        """See `KeepsLeases.release_lease`."""
        if self._stands(lease):
            self._records[lease.name] = msgspec.structs.replace(self._records[lease.name], length=0)

    def _stands(self, lease: Lease) -> bool:
        record = self._records.get(lease.name)
        return record is not None and stands(record, lease)

    def _now(self) -> int:
        return int(self._clock() * 1000)
