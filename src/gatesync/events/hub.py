"""The event hub: extension point 2.

A hub carries two kinds of message, as bytes that it does not look into: **announcements**, from
publishers to every gateway that listens to a label, and **reports**, from one gateway to every
publisher. Delivery is at most once, in any order, and may fail altogether: an event is a hint
(promise 1). What a hub owes is honesty: when messages may have been lost, its listener says so.

An adapter is a callable like `OpenHub` named in the entry-point group `gatesync.events`; it must
pass `tests/contracts/hub.py`.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

from gatesync.events.access import BrokerAccess

__all__ = [
    "BUFFER_MESSAGES",
    "AskAgain",
    "EventHub",
    "HubAddress",
    "HubError",
    "Listener",
    "Lost",
    "OpenHub",
    "ReportListener",
    "Reported",
    "TooLarge",
]

BUFFER_MESSAGES: Final = 65_536  # 18 hours of one label's heads at one each second


class HubError(Exception):
    """The broker cannot be reached or refuses; says which broker and why."""


class TooLarge(HubError):
    """The message has more bytes than the broker takes: `size`, and `limit`. Send less."""

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class Lost(msgspec.Struct, frozen=True):
    """Stands in a listener's stream where messages may be missing: `why`, for logs and counts."""

    why: str


class Reported(msgspec.Struct, frozen=True, gc=False):
    """A report, and the node that it came from, as the way says on which it came.

    `node` is what counts: the broker lets each node report as itself only, where it knows the
    nodes, while the message may name anybody.
    """

    node: str
    message: bytes

    def __len__(self) -> int:
        return len(self.message)


class HubAddress(msgspec.Struct, frozen=True):
    """Where the broker is, and as whom to connect; an empty `username` is none."""

    endpoints: tuple[str, ...]
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"HubAddress({self.endpoints!r})"


AskAgain = Callable[[], Awaitable[HubAddress]]
"""Tells where the broker is now. Raises `HubError` when nobody knows; then nothing changes."""


class Listener(Protocol):
    """A stream of messages, in the order in which they arrived here."""

    async def next(self) -> bytes | Lost:
        """Wait for the next message. Never raises because of a broken connection.

        One task at a time; once the listener is closed, only what had arrived comes out.
        """
        ...


class ReportListener(Protocol):
    """The same for reports."""

    async def next(self) -> Reported | Lost:
        """Wait for the next report, as `Listener` says."""
        ...


class EventHub(Protocol):
    """A broker as publishers and gateways see it. Safe to use from one event loop."""

    @property
    def connected(self) -> bool:
        """Whether a message given now has a chance to arrive."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong with the broker now, for people; empty when nothing is.

        Why none is connected, or what a connected one does not let this client do.
        """
        ...

    async def announce(self, label: str, message: bytes) -> None:
        """Send to every gateway that listens to this label.

        Raises `HubError` when it cannot, at once while no broker is connected: nothing waits
        here to be delivered as old news later. `TooLarge` when the broker would not take it.
        """
        ...

    async def report(self, node: str, message: bytes) -> None:
        """Send to every publisher, as gateway `node`. Raises `HubError` when it cannot."""
        ...

    def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AbstractAsyncContextManager[Listener]:
        """Listen to these labels; messages sent after entering are not missed.

        Where the broker is a cluster, that holds for what is sent through the same member; the
        others learn of a listener a moment later.

        At most `buffer` messages wait; when more come, all are dropped and one `Lost` stands
        in their place. A connection that was lost and restored yields a `Lost` as well. While no
        broker can be reached, entering does not wait: it yields `Lost` once there is one.
        """
        ...

    def reports(
        self, *, buffer: int = BUFFER_MESSAGES
    ) -> AbstractAsyncContextManager[ReportListener]:
        """Listen to every gateway's reports, with the same rules; each says who sent it."""
        ...


class OpenHub(Protocol):
    """What an adapter is: opens a hub for as long as it is entered.

    Entering neither waits for a broker nor fails without one. `name` is shown to whoever looks
    after the broker. `access` is how else to log in, and TLS. `ask_again` is asked when no broker
    could be reached for a while: it may have moved. Raises `HubError` for an endpoint that is no
    address.
    """

    def __call__(
        self,
        endpoints: Sequence[str],
        *,
        user: str | None,
        password: str | None,
        name: str,
        access: BrokerAccess | None = None,
        ask_again: AskAgain | None = None,
    ) -> AbstractAsyncContextManager[EventHub]:
        """Open a hub on the broker, or cluster of brokers, at these endpoints."""
        ...
