"""The gateways as a publisher knows them: from their reports, and from their silence.

What is asked of a fleet is answered from the last report of each node and a short memory of when
its watermarks rose (promise 9). The nodes say what they hold again each heartbeat; dates, and who
is lost since when, are kept in the receipt book (`booking`), which all publishers share.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from gatesync.artifacts.changes import Cursor, Head
from gatesync.events.messages import Inventory, NodeReport
from gatesync.publisher.goals import Goal, Goals
from gatesync.publisher.nodes import (
    BookedNode,
    KnownLabel,
    KnownNode,
    differs,
    encode_booked,
    merged_rises,
)
from gatesync.publisher.receipts import (
    NodeStatus,
    Receipt,
    ReceiptStatus,
    Silence,
    receipt_of,
)

__all__ = ["Fleet", "NodeStatus", "Receipt", "ReceiptStatus"]

LOST_HEARTBEATS: Final = 3  # a node silent for this many is lost
UNHEARD_HEARTBEATS: Final = 5  # the same for one that others hear: the book is a little late
LEFT: Final = 256  # processes that said goodbye, whose late reports are known as such
INVENTORIES: Final = 8  # answers kept of a node: two verifications may cross each other


class Fleet:
    """Every gateway that reported to this publisher, or to another one that keeps the same book.

    `version` rises with each news. `unbooked` are the nodes of which more is known than the book
    may have, by name; whoever books them takes them out.

    Args:
        heartbeat: seconds between a node's reports.
        clock: the monotonic clock.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        heartbeat: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.version = 0
        self.waiting = 0  # how many wait for news
        self.unbooked: set[str] = set()
        self._nodes: dict[str, KnownNode] = {}
        self._left: deque[str] = deque(maxlen=LEFT)
        self._heartbeat = heartbeat
        self._clock = clock
        self._wall_clock = wall_clock
        self._listening_since = clock()
        self._changed = asyncio.Event()
        self._goals = Goals()

    def __len__(self) -> int:
        return len(self._nodes)

    def receive(self, report: NodeReport, *, everywhere: bool = False) -> None:
        """Take a report; one that is older than what is known changes nothing (promise 7).

        Nothing here takes longer where there are more nodes. `everywhere`: it came through the
        hub, so that every publisher has it.
        """
        if report.incarnation in self._left:
            return
        now = self._clock()
        node = self._nodes.get(report.node)
        started = now - report.uptime_ms / 1000
        if node is None:
            node = self._nodes[report.node] = _new_node(report, started)
            self.unbooked.add(report.node)
        elif report.incarnation != node.report.incarnation:
            # The later start is the node that lives; a late report looks younger than it is.
            late = report.incarnation in node.retired or started <= node.started
            if late and not self._is_lost(node):
                return
            _begin_anew(node, started)
            self.unbooked.add(report.node)
        elif report.sequence <= node.report.sequence:
            return
        if report.leaving:
            self._drop(report.node)
            self._left.append(report.incarnation)
        else:
            self._take(node, report, now, started, everywhere)
        self._news()

    def _take(
        self, node: KnownNode, report: NodeReport, now: float, started: float, everywhere: bool
    ) -> None:
        node.started = min(node.started, started)
        node.heard, node.heard_at = now, int(self._wall_clock() * 1000)
        node.here, node.everywhere, node.given_up = True, everywhere, False
        if report.verification is not None:
            node.inventories[report.verification.id] = report.verification
            while len(node.inventories) > INVENTORIES:
                del node.inventories[next(iter(node.inventories))]
        news = report.node in self.unbooked or report.status != node.report.status
        for each in report.labels:
            before = node.receive_label(each, report.sequence, node.heard_at)
            self._goals.heard(report.node, each)
            news = news or before is None or differs(before, each)
        if news:
            self.unbooked.add(report.node)
        node.report = report

    def merge(self, booked: BookedNode) -> None:
        """Take what the book has of a node, unless that process said goodbye here."""
        report, name = booked.report, booked.report.node
        if report.incarnation in self._left:
            return
        now, wall = self._clock(), self._wall_clock()
        started = now - (wall - booked.started_at / 1000)
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _new_node(report, started)
            self._adopt(node, booked)
        elif report.incarnation == node.report.incarnation:
            if _says_more(node, booked):
                self.unbooked.add(name)
            else:
                self.unbooked.discard(name)
            self._adopt(node, booked)
        elif report.incarnation not in node.retired and (
            started > node.started or (self._is_lost(node) and booked.heard_at > node.heard_at)
        ):
            _begin_anew(node, started)
            self._adopt(node, booked)
            self.unbooked.discard(name)
        else:
            self.unbooked.add(name)  # what is in the book is an earlier process
        self._goals.look_again()
        self._news()

    def _adopt(self, node: KnownNode, booked: BookedNode) -> None:
        for each in booked.labels:
            known = node.labels.get(each.report.label)
            if known is not None and known.report.epoch == each.report.epoch:
                known.rises = merged_rises(known.rises, each.rises)
                if each.sequence > known.sequence:
                    known.report, known.sequence = each.report, each.sequence
            elif known is None or each.sequence > known.sequence:
                rises = merged_rises((), each.rises)
                node.labels[each.report.label] = KnownLabel(each.report, each.sequence, rises)
        if booked.heard_at >= node.heard_at:
            if booked.heard_at > node.heard_at:
                node.here, node.everywhere = False, booked.everywhere
            node.heard_at = booked.heard_at
            node.heard = self._clock() - (self._wall_clock() - booked.heard_at / 1000)
            node.given_up = booked.lost
        if booked.report.sequence > node.report.sequence:
            node.report = booked.report

    def left_elsewhere(self, name: str, incarnation: str) -> None:
        """The book lost a node that was in it: another publisher heard its goodbye."""
        node = self._nodes.get(name)
        if node is not None and node.report.incarnation == incarnation:
            self._drop(name)
            self._news()

    def booked(self, name: str) -> tuple[int, bytes] | None:
        """When a node was heard, in milliseconds since 1970, and it all as the book keeps it."""
        node = self._nodes.get(name)
        if node is None:
            return None
        age = self._clock() - node.started
        started_at = int((self._wall_clock() - age) * 1000)
        return node.heard_at, encode_booked(node, started_at=started_at, lost=self._is_lost(node))

    def pulses(self) -> list[tuple[str, int, bool, bool]]:
        """Of each node its name, when it was heard, whether everywhere, and whether it is lost."""
        return [
            (name, node.heard_at, node.everywhere, self._is_lost(node))
            for name, node in self._nodes.items()
        ]

    def incarnation(self, name: str) -> str:
        """Which process of a node is the living one; empty where there is none."""
        node = self._nodes.get(name)
        return node.report.incarnation if node else ""

    def forget(self, before: int) -> None:
        """Forget the nodes that were last heard before this, in milliseconds since 1970."""
        for name in [name for name, node in self._nodes.items() if node.heard_at < before]:
            self._drop(name)
            self._news()

    async def change(self, version: int, seconds: float) -> None:
        """Wait until there is more news than `version`, but no longer than this."""
        if self.version != version:
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1

    async def reached(
        self, label: str, cursor: Cursor, first: int, count: int, seconds: float
    ) -> bool:
        """Wait until so many nodes have applied it, or none is at it any more.

        No longer than `seconds`. False, at once, where too few have it and none is at it: somebody
        has to come first, or come back.
        """
        goal = Goal(label, cursor, first, count)
        for name, node in self._nodes.items():
            known = node.labels.get(label)
            if known is not None:
                goal.hear(name, known.report)
                if self._is_lost(node):
                    goal.at_it.discard(name)
        if len(goal.have) >= count:
            return True
        if goal.is_over:
            return False
        goal.over.clear()
        self.waiting += 1
        try:
            await self._goals.wait(goal, seconds)
        finally:
            self.waiting -= 1
        return True

    def nodes(self) -> list[NodeStatus]:
        """Every node, by name."""
        return [
            NodeStatus(
                node=name,
                engine=node.report.engine,
                version=node.report.version,
                admin_url=node.report.admin_url,
                uptime_ms=node.report.uptime_ms,
                silent_ms=self._silent_ms(node),
                lost=self._is_lost(node),
                labels=tuple(node.labels[label].report for label in sorted(node.labels)),
                heard_at=node.heard_at,
                status=node.report.status,
                mode=node.report.mode,
            )
            for name, node in sorted(self._nodes.items())
        ]

    def labels(self) -> set[str]:
        """Every label that a node follows."""
        return {label for node in self._nodes.values() for label in node.labels}

    def inventories(self, verification: str) -> dict[str, Inventory | None]:
        """Each node's answer to a verification, or None where it gave none yet."""
        return {
            name: node.inventories.get(verification) for name, node in sorted(self._nodes.items())
        }

    def receipts(self, label: str, cursor: Cursor, first: int = 0) -> list[Receipt]:
        """What each node of a label did about the revisions from `first` to that at `cursor`."""
        return [
            receipt_of(
                name,
                known.report,
                known.rises,
                Silence(self._silent_ms(node), self._is_lost(node)),
                cursor,
                first,
            )
            for name, node in sorted(self._nodes.items())
            if (known := node.labels.get(label)) is not None
        ]

    def in_step(self, head: Head) -> list[str]:
        """The nodes that are in step with a head."""
        return [
            receipt.node
            for receipt in self.receipts(head.label, head.cursor)
            if receipt.status is ReceiptStatus.APPLIED
        ]

    def nearly_lost(self) -> Collection[str]:
        """Who may be lost soon, unless another publisher hears it."""
        soon = self._clock() - (LOST_HEARTBEATS - 1) * self._heartbeat
        return [k for k, node in self._nodes.items() if node.heard < soon and not node.given_up]

    def _is_lost(self, node: KnownNode) -> bool:
        if node.given_up:
            return True
        limit = LOST_HEARTBEATS if node.here else UNHEARD_HEARTBEATS
        heard = max(node.heard, self._listening_since)
        return self._clock() - heard > limit * self._heartbeat

    def _silent_ms(self, node: KnownNode) -> int:
        return max(0, int((self._clock() - node.heard) * 1000))

    def _drop(self, name: str) -> None:
        del self._nodes[name]
        self.unbooked.discard(name)
        self._goals.look_again()

    def _news(self) -> None:
        self.version += 1
        if self.waiting:
            self._changed.set()
            self._changed = asyncio.Event()


def _new_node(report: NodeReport, started: float) -> KnownNode:
    return KnownNode(report, 0.0, 0, started, here=False, everywhere=False)


def _says_more(node: KnownNode, booked: BookedNode) -> bool:
    """Whether later reports than those in the book said anything but that the node lives."""
    theirs = {each.report.label: each for each in booked.labels}
    return any(
        (known := theirs.get(label)) is None
        or (each.sequence > known.sequence and differs(known.report, each.report))
        for label, each in node.labels.items()
    )


def _begin_anew(node: KnownNode, started: float) -> None:
    """Another process of the node takes over: what the one before it did counts no more."""
    node.retired.append(node.report.incarnation)
    node.report = msgspec.structs.replace(node.report, sequence=-1)
    node.labels.clear()
    node.inventories.clear()
    node.started = started
    node.heard_at = 0
