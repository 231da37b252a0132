"""A hub on NATS.

Subjects: `gatesync.label.<hex SHA-256 of the label>` and `gatesync.report.<node>`. Nothing else
is used: no inbox, no request, no JetStream (a flush is a PING of the protocol).

Each connection is a nats-py client of its own that does not reconnect: when it ends, another is
opened, every listener is subscribed again, and told that it may have lost something. So there is
no moment in which messages are kept for a broker that is away, to come as old news later.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import nats.errors
import structlog

from gatesync.artifacts.names import check_node_id, label_token
from gatesync.events.buffer import Buffer
from gatesync.events.hub import BUFFER_MESSAGES, EventHub, HubError, Listener, TooLarge
from gatesync.events.nats_connection import (
    Endpoint,
    NatsConnection,
    connect,
    disconnect,
    parse_endpoint,
)

__all__ = ["LABEL_SUBJECT", "REPORT_SUBJECT", "NatsHub", "open_nats_hub"]

LABEL_SUBJECT: Final = "gatesync.label."
REPORT_SUBJECT: Final = "gatesync.report."

RETRY_FIRST: Final = 0.1  # seconds; the first attempt after a loss is made at once
RETRY_LONGEST: Final = 2.0  # seconds: well within a heartbeat (promise 1)
SETTLED: Final = 1.0  # seconds; a connection that ends sooner is no reason to hurry
FLUSH_TIMEOUT: Final = 5.0  # seconds; a broker that does not answer a PING is as good as gone
PENDING_MAX_BYTES: Final = 8 * 1024 * 1024  # not yet written; then senders wait for the broker

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_nats_hub(
    endpoints: Sequence[str],
    *,
    user: str | None,
    password: str | None,
    name: str,
    tls: ssl.SSLContext | None = None,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator[EventHub]:
    """Open a hub on the brokers of one cluster, as `OpenHub` says.

    Args:
        endpoints: `nats://host:port`, `tls://host:port` or `host:port`; tried in turn.
        user: with `password`; both may also stand in an endpoint's address.
        password: never shown, in no log and in no error.
        name: of this client, in the broker's own logs.
        tls: for brokers that ask for it; by default the system's certificates are trusted.
        jitter: numbers of [0, 1), for the time between attempts.
    """
    hub = NatsHub([parse_endpoint(text, user, password) for text in endpoints], name, tls, jitter)
    task = asyncio.create_task(hub.stay_connected(), name="nats-hub")
    try:
        yield hub
    finally:
        while not task.done():  # asyncio.wait_for of Python 3.11 may swallow one cancellation
            task.cancel()
            await asyncio.wait([task], timeout=1)
        if not task.cancelled():
            task.result()


class NatsHub:
    """The hub itself, connected while `stay_connected` runs."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        name: str,
        tls: ssl.SSLContext | None,
        jitter: Callable[[], float],
    ) -> None:
        if not endpoints:
            raise HubError("no broker is given; name at least one endpoint")
        self._endpoints = endpoints
        self._name = name
        self._tls = tls
        self._jitter = jitter
        self._listening: dict[Buffer, tuple[str, ...]] = {}
        self._connection: NatsConnection | None = None
        self._failures: dict[str, str] = {}  # why, by endpoint

    @property
    def connected(self) -> bool:
        """Whether a broker answers."""
        return self._connection is not None and self._connection.is_connected

    async def announce(self, label: str, message: bytes) -> None:
        """Send to every gateway that listens to this label."""
        await self._send(LABEL_SUBJECT + label_token(label), message)

    async def report(self, node: str, message: bytes) -> None:
        """Send to every publisher. A node id that is no token of a subject is a `Problem`."""
        await self._send(REPORT_SUBJECT + check_node_id(node), message)

    @asynccontextmanager
    async def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AsyncIterator[Listener]:
        """Listen to these labels. Entering takes a round trip to the broker."""
        subjects = tuple(LABEL_SUBJECT + label_token(label) for label in sorted(set(labels)))
        async with self._listen(subjects, buffer) as listener:
            yield listener

    @asynccontextmanager
    async def reports(self, *, buffer: int = BUFFER_MESSAGES) -> AsyncIterator[Listener]:
        """Listen to every gateway's reports."""
        async with self._listen((REPORT_SUBJECT + ">",), buffer) as listener:
            yield listener

    async def stay_connected(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        while True:
            for endpoint in self._endpoints:
                began = asyncio.get_running_loop().time()
                served = await self._connect_once(endpoint)
                lasted = asyncio.get_running_loop().time() - began
                if served and lasted > SETTLED:
                    failures = -1  # the next round begins at once
            failures += 1
            if failures:
                delay = min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** min(failures - 1, 10))
                await asyncio.sleep(delay * (0.5 + 0.5 * self._jitter()))

    async def _connect_once(self, endpoint: Endpoint) -> bool:
        """One connection, from its attempt to its end. Whether there was one."""
        try:
            connection = await connect(endpoint, name=self._name, tls=self._tls)
        except HubError as error:
            self._explain("broker.unreachable", endpoint, str(error))
            return False
        try:
            await self._serve(connection, endpoint)
        finally:
            self._connection = None
            await disconnect(connection)
        self._explain("broker.lost", endpoint, connection.reason)
        return True

    async def _serve(self, connection: NatsConnection, endpoint: Endpoint) -> None:
        self._connection = connection
        listening = dict(self._listening)
        for listener, subjects in listening.items():
            await connection.listen(subjects, listener)
        await connection.settle(FLUSH_TIMEOUT)
        if connection.ended.is_set():
            return
        log.info("broker.connected", endpoint=endpoint.url)
        self._failures.clear()
        for listener in listening:  # now that they are subscribed: what comes next is complete
            listener.lose(f"connected to {endpoint.url}; news may have been missed")
        await connection.ended.wait()

    @asynccontextmanager
    async def _listen(self, subjects: tuple[str, ...], limit: int) -> AsyncIterator[Listener]:
        listener = Buffer(limit)
        self._listening[listener] = subjects
        try:
            connection = self._connection
            if connection is not None:
                await connection.listen(subjects, listener)
                await connection.settle(FLUSH_TIMEOUT)
            yield listener
        finally:
            del self._listening[listener]
            if self._connection is not None:
                await self._connection.leave(listener)

    async def _send(self, subject: str, message: bytes) -> None:
        connection = self._usable()
        limit = connection.max_payload
        if len(message) > limit:
            raise TooLarge(
                f"the message has {len(message)} bytes, the broker takes at most {limit}; "
                "send it without contents, or raise max_payload in the broker's configuration",
                size=len(message),
                limit=limit,
            )
        if connection.pending_data_size + len(message) > PENDING_MAX_BYTES:
            await connection.settle(FLUSH_TIMEOUT)
            connection = self._usable()
        try:
            await connection.publish(subject, message)
        except nats.errors.Error as error:
            raise HubError(f"the connection to the broker ended: {error}") from None

    def _usable(self) -> NatsConnection:
        connection = self._connection
        if connection is None:
            why = "; ".join(f"{url}: {reason}" for url, reason in self._failures.items())
            raise HubError(f"no broker is connected: {why or 'not yet, or not any more'}")
        if connection.ended.is_set():
            raise HubError(f"the connection to the broker ended: {connection.reason}")
        return connection

    def _explain(self, event: str, endpoint: Endpoint, reason: str) -> None:
        """Log a reason the first time, and keep it for who wants to send meanwhile."""
        known = self._failures.get(endpoint.url) == reason
        (log.debug if known else log.warning)(event, endpoint=endpoint.url, reason=reason)
        self._failures[endpoint.url] = reason
