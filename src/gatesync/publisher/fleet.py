"""The gateways as a publisher knows them: from their reports, and from their silence.

What is asked of a fleet is answered from the last report of each node and a short memory of when
its watermarks rose (promise 9). Nothing here is persisted: nodes say it all again each heartbeat.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from gatesync.artifacts.changes import Cursor, Head
from gatesync.events.messages import Inventory, LabelReport, NodeReport

__all__ = ["Fleet", "NodeStatus", "Receipt", "ReceiptStatus"]

WATERMARKS: Final = 64  # rises remembered per node and label, to date a receipt
LOST_HEARTBEATS: Final = 3  # a node silent for this many is lost
LEFT: Final = 256  # processes that said goodbye, whose late reports are known as such
INVENTORIES: Final = 8  # answers kept of a node: two verifications may cross each other
RETIRED: Final = 16  # earlier processes of a node whose late reports are known as such


class ReceiptStatus(StrEnum):
    """How far a node is with a change."""

    APPLIED = "applied"
    FAILED = "failed"
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"


class Receipt(msgspec.Struct, frozen=True):
    """What one node did about one revision of a label.

    `at` is milliseconds since 1970 by this publisher's clock, when its report came;
    `took_us` microseconds on the node's own clock; 0 where unknown.
    """

    node: str
    status: ReceiptStatus
    at: int = 0
    took_us: int = 0
    reason: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """One node, for `gatesync gateways`. Times are milliseconds."""

    node: str
    engine: str
    version: str
    admin_url: str
    uptime_ms: int
    silent_ms: int
    lost: bool
    labels: tuple[LabelReport, ...]


class _Label(msgspec.Struct):
    report: LabelReport
    rises: deque[tuple[int, int, int]]  # revision, at, took_us


class _Node(msgspec.Struct):
    report: NodeReport
    heard: float
    started: float  # of its process, at the latest, on our clock
    labels: dict[str, _Label]
    retired: deque[str]
    inventories: dict[str, Inventory] = {}  # the newest last


class Fleet:
    """Every gateway that reported to this publisher.

    `version` rises with each report that was taken.

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
        self._nodes: dict[str, _Node] = {}
        self._left: deque[str] = deque(maxlen=LEFT)
        self._heartbeat = heartbeat
        self._clock = clock
        self._wall_clock = wall_clock
        self._changed = asyncio.Event()
        self.version = 0

    def receive(self, report: NodeReport) -> None:
        """Take a report; one that is older than what is known changes nothing (promise 7)."""
        if report.incarnation in self._left:
            return
        node = self._nodes.get(report.node)
        started = self._clock() - report.uptime_ms / 1000
        if node is None:
            node = _Node(report, self._clock(), started, {}, deque(maxlen=RETIRED))
            self._nodes[report.node] = node
        elif report.incarnation != node.report.incarnation:
            # The later start is the node that lives; a late report looks younger than it is.
            late = report.incarnation in node.retired or started <= node.started
            if late and not self._lost(node):
                return
            node.retired.append(node.report.incarnation)
            node.labels.clear()
            node.started = started
        elif report.sequence <= node.report.sequence:
            return
        if report.leaving:
            del self._nodes[report.node]
            self._left.append(report.incarnation)
        else:
            node.started = min(node.started, started)
            node.report = report
            node.heard = self._clock()
            if report.verification is not None:
                node.inventories[report.verification.id] = report.verification
                while len(node.inventories) > INVENTORIES:
                    del node.inventories[next(iter(node.inventories))]
            for each in report.labels:
                self._receive_label(node, each)
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, version: int, seconds: float) -> None:
        """Wait until a report brings more than `version`, but no longer than this."""
        if self.version != version:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def nodes(self) -> list[NodeStatus]:
        """Every node, by name."""
        now = self._clock()
        return [
            NodeStatus(
                node=name,
                engine=node.report.engine,
                version=node.report.version,
                admin_url=node.report.admin_url,
                uptime_ms=node.report.uptime_ms,
                silent_ms=int((now - node.heard) * 1000),
                lost=self._lost(node),
                labels=tuple(node.labels[label].report for label in sorted(node.labels)),
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
            self._receipt(name, node, node.labels[label], cursor, first)
            for name, node in sorted(self._nodes.items())
            if label in node.labels
        ]

    def in_step(self, head: Head) -> list[str]:
        """The nodes that are in step with a head."""
        return [
            receipt.node
            for receipt in self.receipts(head.label, head.cursor)
            if receipt.status is ReceiptStatus.APPLIED
        ]

    def _receive_label(self, node: _Node, report: LabelReport) -> None:
        known = node.labels.get(report.label)
        if known is None or known.report.epoch != report.epoch:
            known = node.labels[report.label] = _Label(report, deque(maxlen=WATERMARKS))
        last = known.rises[-1][0] if known.rises else -1
        if report.applied > last:
            known.rises.append((report.applied, int(self._wall_clock() * 1000), report.took_us))
        elif report.applied < last:
            known.rises.clear()
        known.report = report

    def _lost(self, node: _Node) -> bool:
        return self._clock() - node.heard > LOST_HEARTBEATS * self._heartbeat

    def _receipt(
        self, name: str, node: _Node, label: _Label, cursor: Cursor, first: int
    ) -> Receipt:
        report = label.report
        reached = report.epoch == cursor.epoch and report.applied >= cursor.revision
        if reached:
            failed = [e for e in report.exceptions if first <= e.revision <= cursor.revision]
            if failed:
                why = failed[0]
                reason = (
                    f"{why.api_id}: {why.reason} (attempt {why.attempt}, "
                    f"next in {why.next_try_ms / 1000:.1f} s)"
                )
                return Receipt(name, ReceiptStatus.FAILED, reason=reason)
            rise = next((r for r in label.rises if r[0] >= cursor.revision), None)
            at, took = (rise[1], rise[2]) if rise else (0, 0)
            if report.held:
                reason = (
                    f"{report.held} removals wait for: gatesync labels confirm {report.label!r}"
                )
                return Receipt(name, ReceiptStatus.HELD, at, took, reason)
            return Receipt(name, ReceiptStatus.APPLIED, at, took)
        silent = self._clock() - node.heard
        if self._lost(node):
            return Receipt(name, ReceiptStatus.LOST, reason=f"not heard of for {silent:.0f} s")
        return Receipt(name, ReceiptStatus.WAITING, reason=f"at revision {report.applied}")
