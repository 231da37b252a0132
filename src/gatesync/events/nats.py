"""A hub on NATS.

Subjects: `gatesync.label.<hex SHA-256 of the label>` and `gatesync.report.<node>`, which tells who
sent a report: the broker lets each node send to its own only. Nothing else is used: no inbox, no
request, no JetStream (a flush is a PING of the protocol).

Each connection is a nats-py client of its own that does not reconnect: when it ends, another is
opened, every listener is subscribed again, and told that it may have lost something. So there is
no moment in which messages are kept for a broker that is away, to come as old news later.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import structlog

from gatesync.artifacts.names import check_node_id, label_token
from gatesync.events.access import BrokerAccess
from gatesync.events.buffer import Buffer, ReportBuffer
from gatesync.events.hub import (
    BUFFER_MESSAGES,
    AskAgain,
    EventHub,
    HubAddress,
    HubError,
    Listener,
    Reported,
    ReportListener,
    TooLarge,
)
from gatesync.events.nats_connection import (
    Endpoint,
    NatsConnection,
    Taken,
    connect,
    disconnect,
    parse_endpoint,
)
from gatesync.events.nats_login import AccessError, read_login
from gatesync.events.nats_trouble import Refusal, Trouble, trouble_of
from gatesync.events.nats_users import LABEL_SUBJECT, REPORT_SUBJECT

__all__ = ["NatsHub", "open_nats_hub"]

RETRY_FIRST: Final = 0.1  # seconds; the first attempt after a loss is made at once
RETRY_LONGEST: Final = 2.0  # seconds: well within a heartbeat (promise 1)
RETRY_LOGIN: Final = 10.0  # seconds, where the broker refuses us: it may have to hash a password
RETRY_REFUSED: Final = 30.0  # seconds until we ask once more for what we may not listen to
SETTLED: Final = 1.0  # seconds; a connection that ends sooner is no reason to hurry
FLUSH_TIMEOUT: Final = 5.0  # seconds; a broker that does not answer a PING is as good as gone
PENDING_MAX_BYTES: Final = 8 * 1024 * 1024  # not yet written; then senders wait for the broker
ASK_SECONDS: Final = 2.0  # without a broker, until we ask whether it has moved; a restart is over
ASK_TIMEOUT: Final = 10.0  # seconds

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_nats_hub(
    endpoints: Sequence[str],
    *,
    user: str | None,
    password: str | None,
    name: str,
    access: BrokerAccess | None = None,
    ask_again: AskAgain | None = None,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator[EventHub]:
    """Open a hub on the brokers of one cluster, as `OpenHub` says.

    Args:
        endpoints: `nats://host:port`, `tls://host:port` or `host:port`; tried in turn, from one
            that `jitter` chooses, so that many clients share out over them.
        user: with `password`; both may also stand in an endpoint's address.
        password: never shown, in no log and in no error.
        name: of this client, in the broker's own logs.
        access: a token or key in place of a user, and the files of TLS. Without any, TLS is used
            where an endpoint or the broker asks for it, and the system's certificates are trusted.
        ask_again: tells where the broker is, after `ASK_SECONDS` without one.
        jitter: numbers of [0, 1), for the time between attempts.
    """
    address = HubAddress(tuple(endpoints), user or "", password or "")
    hub = NatsHub(address, name, access or BrokerAccess(), jitter)
    tasks = [asyncio.create_task(hub.stay_connected(), name="nats-hub")]
    if ask_again is not None:
        tasks.append(asyncio.create_task(hub.follow(ask_again), name="nats-hub moves"))
    try:
        yield hub
    finally:
        await _end(tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel, and again: asyncio.wait_for of Python 3.11 may swallow a cancellation.

    That is why this is no TaskGroup, which cancels once.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()


class _Wanted(NamedTuple):
    """What a listener listens to, and how it takes a message."""

    subjects: tuple[str, ...]
    take: Taken


class NatsHub:
    """The hub itself, connected while `stay_connected` runs."""

    def __init__(
        self,
        address: HubAddress,
        name: str,
        access: BrokerAccess,
        jitter: Callable[[], float],
    ) -> None:
        self._name = name
        self._access = access
        self._jitter = jitter
        self._address = address
        self._endpoints = self._parse(address)
        self._listening: dict[Buffer | ReportBuffer, _Wanted] = {}
        self._connection: NatsConnection | None = None
        self._failures: dict[str, Trouble] = {}  # by endpoint
        self._names: dict[str, str] = {}  # what a subject, in lower case, is about
        self._moved = asyncio.Event()
        self._shown = ""  # the node's token, when we logged in with it

    @property
    def connected(self) -> bool:
        """Whether a broker answers."""
        return self._connection is not None and self._connection.is_connected

    @property
    def trouble(self) -> str:
        """Why no broker answers, or what the one that does refuses; empty when all is well."""
        connection = self._connection
        if connection is not None and not connection.ended.is_set():
            return "; ".join(self._told(each) for each in connection.refusals)
        return self._why_not()

    async def announce(self, label: str, message: bytes) -> None:
        """Send to every gateway that listens to this label."""
        await self._send(self._label_subject(label), message)

    async def report(self, node: str, message: bytes) -> None:
        """Send to every publisher. A node id that is no token of a subject is a `Problem`."""
        await self._send(REPORT_SUBJECT + check_node_id(node), message)

    @asynccontextmanager
    async def announcements(
        self, labels: Collection[str], *, buffer: int = BUFFER_MESSAGES
    ) -> AsyncIterator[Listener]:
        """Listen to these labels. Entering takes a round trip to the broker."""
        subjects = tuple(self._label_subject(label) for label in sorted(set(labels)))
        listener = Buffer(buffer)
        async with self._listening_to(listener, _Wanted(subjects, lambda _, m: listener.put(m))):
            yield listener

    @asynccontextmanager
    async def reports(self, *, buffer: int = BUFFER_MESSAGES) -> AsyncIterator[ReportListener]:
        """Listen to every gateway's reports."""
        listener = ReportBuffer(buffer)

        def take(subject: bytes, message: bytes) -> None:
            node = subject[len(REPORT_SUBJECT) :].decode(errors="replace")
            listener.put(Reported(node, message))

        async with self._listening_to(listener, _Wanted((REPORT_SUBJECT + ">",), take)):
            yield listener

    async def stay_connected(self) -> None:
        """Connect, and connect again: at once after a loss, then less and less often."""
        failures = 0
        while True:
            self._moved.clear()
            for endpoint in self._endpoints:
                began = asyncio.get_running_loop().time()
                served = await self._connect_once(endpoint)
                lasted = asyncio.get_running_loop().time() - began
                if served and lasted > SETTLED:
                    failures = -1  # the next round begins at once
            failures += 1
            if failures:
                known = self._failures.values()
                refused = bool(known) and all(each.is_login for each in known)
                longest = RETRY_LOGIN if refused else RETRY_LONGEST
                delay = min(longest, RETRY_FIRST * 2.0 ** min(failures - 1, 10))
                try:
                    async with asyncio.timeout(delay * (0.5 + 0.5 * self._jitter())):
                        await self._moved.wait()
                except TimeoutError:
                    continue
                failures = 0

    async def follow(self, ask_again: AskAgain) -> None:
        """Ask where the broker is while there is none, until cancelled."""
        while True:
            await asyncio.sleep(ASK_SECONDS * (0.75 + 0.5 * self._jitter()))
            if self.connected:
                continue
            try:
                async with asyncio.timeout(ASK_TIMEOUT):
                    address = await ask_again()
                if address == self._address or self.connected:
                    continue
                self._endpoints = self._parse(address)
            except (HubError, TimeoutError) as error:
                log.debug("broker.not_found", reason=str(error))
                continue
            log.info("broker.moved", endpoints=[each.url for each in self._endpoints])
            self._address = address
            self._failures.clear()
            self._moved.set()

    def _parse(self, address: HubAddress) -> list[Endpoint]:
        # Who logs in with a key shows no user, whatever a publisher tells.
        user = None if self._access.logs_in else address.username or None
        password = address.password if user else None
        found = [parse_endpoint(text, user, password) for text in address.endpoints]
        if not found:
            raise HubError("no broker is given; name at least one endpoint")
        first = int(self._jitter() * len(found))
        return found[first:] + found[:first]

    async def _connect_once(self, endpoint: Endpoint) -> bool:
        """One connection, from its attempt to its end. Whether there was one."""
        self._shown = self._token()
        try:
            connection = await connect(
                endpoint,
                read_login(self._access),
                name=self._name,
                ping_seconds=self._access.ping_seconds,
                refused=self._warn,
            )
        except AccessError as error:
            event = "broker.login_expired" if error.expired else "broker.login_unusable"
            self._explain(endpoint, Trouble(event, str(error)))
            return False
        except HubError as error:
            self._explain(endpoint, trouble_of(str(error), "broker.unreachable"))
            return False
        connection.has_others = len(self._endpoints) > 1
        try:
            await self._serve(connection, endpoint)
        finally:
            self._connection = None
            await disconnect(connection)
        self._explain(endpoint, trouble_of(connection.reason, "broker.lost"))
        return True

    async def _serve(self, connection: NatsConnection, endpoint: Endpoint) -> None:
        self._connection = connection
        listening = dict(self._listening)
        for listener, wanted in listening.items():
            await connection.listen(wanted.subjects, listener, wanted.take)
        await connection.settle(FLUSH_TIMEOUT)
        if connection.ended.is_set():
            return
        log.info("broker.connected", endpoint=endpoint.url)
        self._failures.clear()
        for listener in listening:  # now that they are subscribed: what comes next is complete
            listener.lose(f"connected to {endpoint.url}; news may have been missed")
        while not connection.ended.is_set():
            try:
                async with asyncio.timeout(RETRY_REFUSED):
                    await connection.ended.wait()
            except TimeoutError:
                if self._log_in_anew(connection):
                    return
                for listener in await connection.listen_again(FLUSH_TIMEOUT):
                    listener.lose("the broker lets this client listen now, and did not before")

    @asynccontextmanager
    async def _listening_to(
        self, listener: Buffer | ReportBuffer, wanted: _Wanted
    ) -> AsyncIterator[None]:
        self._listening[listener] = wanted
        try:
            connection = self._connection
            if connection is not None and not self._log_in_anew(connection):
                await connection.listen(wanted.subjects, listener, wanted.take)
                await connection.settle(FLUSH_TIMEOUT)
            yield
        finally:
            del self._listening[listener]
            if self._connection is not None:
                await self._connection.leave(listener)

    def _token(self) -> str:
        return self._access.node_token() if self._access.node_token is not None else ""

    def _log_in_anew(self, connection: NatsConnection) -> bool:
        """End a connection whose token was renewed: with the new one it may hear other labels."""
        if self._token() == self._shown:
            return False
        connection.end("this node has another token now")
        return True

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
        if connection.unwritten + len(message) > PENDING_MAX_BYTES:
            await connection.settle(FLUSH_TIMEOUT)
            connection = self._usable()
        connection.send(subject, message)

    def _usable(self) -> NatsConnection:
        connection = self._connection
        if connection is None:
            raise HubError(f"no broker is connected: {self._why_not()}")
        if connection.ended.is_set():
            raise HubError(f"the connection to the broker ended: {connection.reason}")
        return connection

    def _why_not(self) -> str:
        why = "; ".join(f"{url}: {each.reason}" for url, each in self._failures.items())
        return why or "not yet, or not any more"

    def _explain(self, endpoint: Endpoint, trouble: Trouble) -> None:
        """Log a reason the first time, and keep it for who wants to know meanwhile."""
        known = self._failures.get(endpoint.url) == trouble
        tell = log.debug if known else log.warning
        tell(trouble.event, endpoint=endpoint.url, reason=trouble.reason)
        self._failures[endpoint.url] = trouble

    def _label_subject(self, label: str) -> str:
        subject = LABEL_SUBJECT + label_token(label)
        self._names[subject] = label
        return subject

    def _warn(self, refusal: Refusal) -> None:
        log.warning("broker.refused", reason=self._told(refusal))

    def _told(self, refusal: Refusal) -> str:
        """A refusal with the label in place of its hash."""
        label = self._names.get(refusal.subject)
        about = f"label {label!r}: " if label is not None else ""
        return about + refusal.reason
