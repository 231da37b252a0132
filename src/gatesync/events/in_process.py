"""A hub within one event loop: for tests, and for roles that share a process."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from gatesync.events.access import BrokerAccess
from gatesync.events.buffer import Buffer, ReportBuffer
from gatesync.events.hub import (
    BUFFER_MESSAGES,
    AskAgain,
    EventHub,
    Listener,
    Reported,
    ReportListener,
)

__all__ = ["InProcessHub", "open_in_process_hub"]


class InProcessHub:
    """Hands each message to whoever listens now. Whoever shall hear each other share one."""

    def __init__(self) -> None:
        self._by_label: dict[str, list[Buffer]] = {}
        self._reports: list[ReportBuffer] = []

    @property
    def connected(self) -> bool:
        """Always: there is no broker that could be away."""
        return True

    @property
    def trouble(self) -> str:
        """None, ever."""
        return ""

    async def announce(self, label: str, message: bytes) -> None:
        """Send to every listener of this label."""
        for listener in self._by_label.get(label, ()):
            listener.put(message)

    async def report(self, node: str, message: bytes) -> None:
        """Send to every listener of reports."""
        for listener in self._reports:
            listener.put(Reported(node, message))

    @asynccontextmanager
    async def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AsyncIterator[Listener]:
        """Listen to these labels."""
        listener = Buffer(buffer)
        mine = set(labels)
        for label in mine:
            self._by_label.setdefault(label, []).append(listener)
        try:
            yield listener
        finally:
            for label in mine:
                self._by_label[label].remove(listener)

    @asynccontextmanager
    async def reports(self, *, buffer: int = BUFFER_MESSAGES) -> AsyncIterator[ReportListener]:
        """Listen to every gateway's reports."""
        listener = ReportBuffer(buffer)
        self._reports.append(listener)
        try:
            yield listener
        finally:
            self._reports.remove(listener)


@asynccontextmanager
async def open_in_process_hub(
    endpoints: Sequence[str] = (),
    *,
    user: str | None = None,
    password: str | None = None,
    name: str = "",
    access: BrokerAccess | None = None,
    ask_again: AskAgain | None = None,
) -> AsyncIterator[EventHub]:
    """Open a hub of one's own; there is nothing to connect to, so every argument is ignored."""
    yield InProcessHub()
