"""The event hub: extension point 2.

A hub carries two kinds of message, as bytes that it does not look into: **announcements**, from
publishers to every gateway that listens to a label, and **reports**, from one gateway to every
publisher. Delivery is at most once, in any order, and may fail altogether: an event is a hint
(promise 1). What a hub owes is honesty: when messages may have been lost, its listener says so.

An adapter is a callable named in the entry-point group `gatesync.events`; it must pass
`tests/contracts/hub.py`.
"""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

__all__ = ["EventHub", "HubError", "Listener", "Lost"]


class HubError(Exception):
    """The broker cannot be reached or refuses; says which broker and why."""


class Lost(msgspec.Struct, frozen=True):
    """Stands in a listener's stream where messages may be missing: `why`, for logs and counts."""

    why: str


class Listener(Protocol):
    """A stream of messages, in the order in which they arrived here."""

    async def next(self) -> bytes | Lost:
        """Wait for the next message. Never raises because of a broken connection."""
        ...


class EventHub(Protocol):
    """A broker as publishers and gateways see it. Safe to use from one event loop."""

    @property
    def connected(self) -> bool:
        """Whether a message given now has a chance to arrive."""
        ...

    async def announce(self, label: str, message: bytes) -> None:
        """Send to every gateway that listens to this label. Raises `HubError` when it cannot."""
        ...

    async def report(self, node: str, message: bytes) -> None:
        """Send to every publisher, as gateway `node`. Raises `HubError` when it cannot."""
        ...

    def announcements(
        self, labels: Collection[str], *, buffer: int = 65_536
    ) -> AbstractAsyncContextManager[Listener]:
        """Listen to these labels; messages sent after entering are not missed.

        At most `buffer` messages wait; when more come, all are dropped and one `Lost` stands
        in their place. A connection that was lost and restored yields a `Lost` as well. While no
        broker can be reached, entering does not wait: it yields `Lost` once there is one.
        """
        ...

    def reports(self, *, buffer: int = 65_536) -> AbstractAsyncContextManager[Listener]:
        """Listen to every gateway's reports, with the same rules."""
        ...
