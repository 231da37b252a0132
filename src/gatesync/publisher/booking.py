"""Keeping the receipt book: what the gateways reported, for the next start and other publishers.

    each second: what is new in the book → fleet; what is new in the fleet → book

Written behind, in batches, beside everything else: publishing never waits for it, and a book that
cannot be reached is told of once and harms nothing. The book may be behind by a second; until
another publisher has read it, it takes a heartbeat, or a second while somebody waits there.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Final

import structlog

from gatesync.artifacts.errors import FormatError
from gatesync.publisher.fleet import Fleet
from gatesync.publisher.nodes import decode_booked
from gatesync.stores.receipts import NodeRecord, ReceiptBook
from gatesync.stores.store import StoreError

__all__ = ["FORGET_SECONDS", "Booking"]

FORGET_SECONDS: Final = 7 * 86_400.0  # a node that was lost for so long is not coming back
TURN_SECONDS: Final = 1.0
AT_ONCE: Final = 2_000  # nodes written in one turn; the others have theirs a second later
ENCODED_AT_ONCE: Final = 50  # nodes encoded before other tasks have their turn
ALIVE_HEARTBEATS: Final = 1.5  # a node that is merely alive is booked as often as this
ALIVE_EVERYWHERE_HEARTBEATS: Final = 6.0  # the same where every publisher hears it itself
FORGETTING_SECONDS: Final = 60.0

_log = structlog.get_logger("gatesync.publisher")


class Booking:
    """Keeps one publisher's fleet and the book in step.

    Args:
        fleet: what the gateways reported.
        book: where that is kept.
        heartbeat: seconds between a node's reports.
        forget_after: seconds after which a silent node is forgotten.
        wall_clock: seconds since 1970.
        clock: the monotonic clock.

    Attributes:
        error: why the book could not be read or written the last time; empty when it could.
        writes: records that this publisher wrote.
    """

    def __init__(
        self,
        fleet: Fleet,
        book: ReceiptBook,
        *,
        heartbeat: float = 5.0,
        forget_after: float = FORGET_SECONDS,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error = ""
        self.writes = 0
        self._fleet = fleet
        self._book = book
        self._heartbeat = heartbeat
        self._pause = min(TURN_SECONDS, heartbeat / 2)
        self._forget_after = forget_after
        self._wall_clock = wall_clock
        self._clock = clock
        self._numbers = random.SystemRandom()  # editions, which no two publishers may share
        self._seen: dict[str, int] = {}  # the book as last read: editions
        self._incarnations: dict[str, str] = {}
        self._heard_at: dict[str, int] = {}
        self._wrote_at: dict[str, float] = {}
        self._lost: set[str] = set()
        self._foreign: set[str] = set()  # another version wrote them: they are not ours to remove
        self._refresh_at = clock()
        self._forget_at = clock() + FORGETTING_SECONDS

    async def run(self) -> None:
        """Read the book, and keep it until cancelled; what is not booked yet is booked then."""
        try:
            while True:
                await self.turn()
                await asyncio.sleep(self._pause)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self.turn(everything=True)

    async def turn(self, *, everything: bool = False) -> None:
        """Read and write once. A book that fails is told of, and tried again in the next turn.

        `everything`: also what might as well be written a little later.
        """
        try:
            await self._read()
            await self._write(everything)
            await self._forget()
        except StoreError as error:
            if not self.error:
                _log.warning("receipts are kept in memory only", reason=str(error))
            self.error = str(error)
            self._refresh_at = self._clock()
        else:
            if self.error:
                _log.info("receipts are kept again")
            self.error = ""

    async def _read(self) -> None:
        now = self._clock()
        if now < self._refresh_at and not (self._fleet.waiting or self._fleet.nearly_lost()):
            return
        editions = await self._book.editions()
        self._refresh_at = now + self._heartbeat
        changed = {node for node, each in editions.items() if self._seen.get(node) != each}
        gone = self._seen.keys() - editions.keys()
        for node in gone:
            self._fleet.left_elsewhere(node, self._incarnations.get(node, ""))
            self._unsee(node)
        for record in await self._book.read(changed):
            self._see(record)

    def _see(self, record: NodeRecord) -> None:
        try:
            booked = decode_booked(record.state)
        except FormatError as error:
            _log.warning("a receipt was left alone", node=record.node, reason=str(error))
            self._seen[record.node] = record.edition
            self._foreign.add(record.node)
            return
        self._foreign.discard(record.node)
        self._saw(record, booked.report.incarnation, lost=booked.lost)
        self._fleet.merge(booked)

    async def _write(self, everything: bool) -> None:
        due = self._due(everything)
        records: list[NodeRecord] = []
        incarnations: dict[str, str] = {}
        for number, node in enumerate(due[:AT_ONCE]):
            booked = self._fleet.booked(node)
            self._fleet.unbooked.discard(node)
            if booked is not None:
                edition = self._numbers.getrandbits(62)
                records.append(NodeRecord(node, edition, *booked))
                incarnations[node] = self._fleet.incarnation(node)
            if number % ENCODED_AT_ONCE == ENCODED_AT_ONCE - 1:
                await asyncio.sleep(0)
        if records:
            await self._put(records, incarnations)
        if len(due) > AT_ONCE:
            return
        known = self._foreign.union(name for name, *_ in self._fleet.pulses())
        if left := {k: each for k, each in self._seen.items() if k not in known}:
            await self._book.remove(left)
            for node in left:
                self._unsee(node)

    def _due(self, everything: bool) -> list[str]:
        """The nodes to write."""
        due: list[str] = []
        unbooked, soon = self._fleet.unbooked, self._clock() - self._heartbeat
        for name, heard_at, everywhere, lost in self._fleet.pulses():
            if name in unbooked:
                # While one change follows the other, not each of them: who restarts loses a
                # heartbeat's dates at most, and the other publishers hear it all themselves.
                if everything or not everywhere or self._wrote_at.get(name, soon) <= soon:
                    due.append(name)
                continue
            beats = ALIVE_EVERYWHERE_HEARTBEATS if everywhere else ALIVE_HEARTBEATS
            late = heard_at - self._heard_at.get(name, 0) > beats * self._heartbeat * 1000
            if late or lost != (name in self._lost):
                due.append(name)
        return due

    async def _put(self, records: list[NodeRecord], incarnations: dict[str, str]) -> None:
        nodes = incarnations.keys()
        lost = {name for name, _, _, lost in self._fleet.pulses() if lost}
        try:
            written = await self._book.write(records, self._seen)
        except BaseException:  # what became of it is not known: all of it again
            self._fleet.unbooked |= {node for node in nodes if self._fleet.incarnation(node)}
            raise
        self.writes += len(written)
        for record in records:
            if record.node in written:
                self._saw(record, incarnations[record.node], lost=record.node in lost)
                self._wrote_at[record.node] = self._clock()
        if len(written) < len(records):  # somebody else was quicker: look what it says
            self._refresh_at = self._clock()
            others = nodes - written
            self._fleet.unbooked |= {node for node in others if self._fleet.incarnation(node)}

    async def _forget(self) -> None:
        if self._clock() < self._forget_at:
            return
        self._forget_at = self._clock() + FORGETTING_SECONDS
        before = int((self._wall_clock() - self._forget_after) * 1000)
        self._fleet.forget(before)
        await self._book.forget(before)

    def _saw(self, record: NodeRecord, incarnation: str, *, lost: bool) -> None:
        self._seen[record.node] = record.edition
        self._incarnations[record.node] = incarnation
        self._heard_at[record.node] = record.heard_at
        (self._lost.add if lost else self._lost.discard)(record.node)

    def _unsee(self, node: str) -> None:
        self._seen.pop(node, None)
        self._incarnations.pop(node, None)
        self._heard_at.pop(node, None)
        self._wrote_at.pop(node, None)
        self._lost.discard(node)
        self._foreign.discard(node)
