"""Waiting until so many gateways have a change.

Each report is looked at once, alone: nobody counts a thousand gateways anew whenever one of them
reports.
"""

import asyncio

import msgspec

from gatesync.artifacts.changes import Cursor
from gatesync.events.messages import LabelReport
from gatesync.publisher.receipts import ReceiptStatus, status_of

__all__ = ["Goal", "Goals"]


class Goal(msgspec.Struct, eq=False):
    """So many nodes are to have the revisions of a label from `first` to that at `cursor`.

    `at_it` are those that have said neither yes nor no, `have` those that said yes.
    """

    label: str
    cursor: Cursor
    first: int
    count: int
    have: set[str] = set()
    at_it: set[str] = set()
    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """Whether enough nodes have it, or none is at it any more."""
        return len(self.have) >= self.count or not self.at_it

    def hear(self, node: str, report: LabelReport) -> None:
        """A node says how far it is."""
        status = status_of(report, self.cursor, self.first)
        if status is ReceiptStatus.WAITING:
            self.at_it.add(node)
            return
        self.at_it.discard(node)
        if status is ReceiptStatus.APPLIED:
            self.have.add(node)
        if self.is_over:
            self.over.set()


class Goals:
    """What is being waited for at one publisher."""

    def __init__(self) -> None:
        self._goals: dict[str, list[Goal]] = {}

    async def wait(self, goal: Goal, seconds: float) -> None:
        """Wait until it is over, but no longer than this."""
        self._goals.setdefault(goal.label, []).append(goal)
        try:
            async with asyncio.timeout(seconds):
                await goal.over.wait()
        except TimeoutError:
            pass
        finally:
            self._goals[goal.label].remove(goal)
            if not self._goals[goal.label]:
                del self._goals[goal.label]

    def heard(self, node: str, report: LabelReport) -> None:
        """A node said how far it is."""
        for goal in self._goals.get(report.label, ()):
            goal.hear(node, report)

    def look_again(self) -> None:
        """More changed than one report says: whoever waits looks at all of it."""
        for goals in self._goals.values():
            for goal in goals:
                goal.over.set()
