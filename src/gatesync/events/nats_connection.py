"""One connection to a NATS server: nats-py's client, with what it does not do for us."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors
import structlog
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from gatesync.events.access import PING_SECONDS
from gatesync.events.buffer import Buffer, ReportBuffer
from gatesync.events.hub import HubError
from gatesync.events.nats_login import Login
from gatesync.events.nats_trouble import Refusal, refusal_of

__all__ = ["Endpoint", "NatsConnection", "Taken", "connect", "disconnect", "parse_endpoint"]

CONNECT_TIMEOUT: Final = 2  # seconds, for each step of an attempt
ATTEMPT_TIMEOUT: Final = 10.0  # seconds, for the attempt as a whole
CLOSE_TIMEOUT: Final = 2.0  # seconds, to write what is still pending
REFUSAL_SECONDS: Final = 60.0  # that a refusal is told of, after it was last met with

# What nats-py lets through when the other side is no NATS server.
_NOT_NATS: Final = (ValueError, TypeError, LookupError, AttributeError, AssertionError)

log = structlog.get_logger(__name__)

# Everything that nats-py has to say comes through its callbacks. Without a handler of its own
# it would print the rest to standard error.
logging.getLogger("nats").addHandler(logging.NullHandler())


Taken: TypeAlias = Callable[[bytes, bytes], None]
"""Puts a message where it waits: its subject, and what it says."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a broker listens, and who we are there. `url` is safe to show."""

    url: str
    user: str | None
    password: str | None

    @property
    def encrypts(self) -> bool:
        """Whether the address asks for TLS."""
        return self.url.startswith("tls:")

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


def parse_endpoint(text: str, user: str | None, password: str | None) -> Endpoint:
    """Read `nats://[user:password@]host[:port]`; the scheme may be missing.

    Raises:
        HubError: this is no such address; the message shows nothing before an `@`.
    """
    shown = text.rpartition("@")[2]
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        port = 4222 if parts.port is None else parts.port
    except ValueError:
        raise HubError(f"broker endpoint {shown!r} has a broken host or port") from None
    scheme = parts.scheme in {"nats", "tls"}
    if not scheme or not parts.hostname or not port or parts.path.strip("/"):
        raise HubError(
            f"broker endpoint {shown!r} must look like nats://host:port or tls://host:port"
        )
    if user is None and parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(f"{parts.scheme}://{host}:{port}", user, password)


class NatsConnection(Client):
    """A client that puts messages straight into buffers, and tells when and why it ended.

    Some of nats-py's inner methods are replaced; the contract suite holds that against each
    version of it:

    - `_process_msg`: nats-py gives each message an object, a queue, a task's turn and a callback.
      Without them 1,000 listeners in one process have a message in 0.8 to 0.96 of the time, and the
      messages of several labels stay in order.
    - `publish`, in whose place is `send`: nats-py has a task write what waits, at the price of a
      future, a queue and that task's turn for each message.
    - `_send_ping`: nats-py's PING overtakes the subscriptions that wait to be written, so that
      its PONG proves nothing about them.
    - `_process_pong`: nats-py stops reading, silently, when the PONG of a PING that nobody
      waits for any more arrives.
    - `_process_err` and `_process_op_err`: nats-py closes in here, and to close it writes what is
      pending, for which it waits without end where packets vanish. Whoever has the connection
      closes it.
    - `_process_info`: nats-py goes on in the clear, password and all, where a broker that should
      offer TLS does not; and it ignores a new limit of payloads.
    """

    def __init__(
        self, *, encrypts: bool = False, refused: Callable[[Refusal], None] = lambda _: None
    ) -> None:
        super().__init__()
        self.ended = asyncio.Event()
        self.reason = "the broker closed the connection"
        self.has_others = False  # brokers to go to when this one is about to end
        self._loop = asyncio.get_running_loop()
        self._writes = False  # in the next turn
        self._encrypts = encrypts
        self._refused = refused
        self._refusals: dict[Refusal, float] = {}
        self._takers: dict[int, Taken] = {}
        self._subscriptions: dict[Buffer | ReportBuffer, list[Subscription]] = {}

    @property
    def refusals(self) -> list[Refusal]:
        """What the broker refused in the last minute, and did not grant since."""
        now = asyncio.get_running_loop().time()
        return [each for each, at in self._refusals.items() if now - at < REFUSAL_SECONDS]

    async def listen(
        self, subjects: Iterable[str], buffer: Buffer | ReportBuffer, take: Taken
    ) -> None:
        """Subscribe; a connection that ended meanwhile is no error, another one will come."""
        subscriptions = self._subscriptions.setdefault(buffer, [])
        try:
            for subject in subjects:
                subscription = await self.subscribe(subject)
                subscriptions.append(subscription)
                self._takers[subscription._id] = take
        except nats.errors.Error as error:
            self.end(str(error))

    async def leave(self, buffer: Buffer | ReportBuffer) -> None:
        """Undo `listen`."""
        for subscription in self._subscriptions.pop(buffer, ()):
            self._takers.pop(subscription._id, None)
            if not self.is_closed:
                await subscription.unsubscribe()

    @property
    def unwritten(self) -> int:
        """Bytes of what was sent that the network has not taken yet."""
        transport = self._transport
        waiting = transport.unwritten if isinstance(transport, _Transport) else 0
        return waiting + int(self.pending_data_size)

    def send(self, subject: str, message: bytes) -> None:
        """Have a message written, in the next turn of the loop, with all that is sent in this."""
        data = b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(message), message)
        self._pending.append(data)
        self._pending_data_size += len(data)
        if not self._writes:
            self._writes = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._writes = False
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        if not waiting or self._transport is None:
            return  # a task of nats-py has written it, or it is closed
        try:
            self._transport.writelines(waiting)
        except RuntimeError as error:  # uvloop's, for a socket that was closed a moment ago
            self.end(str(error))

    async def settle(self, timeout: float) -> None:
        """Wait until the broker has dealt with everything sent so far, or the connection ended.

        It ends here when the broker does not answer within `timeout` seconds.
        """
        if self.ended.is_set():
            return
        pong = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        try:
            async with asyncio.timeout(timeout):
                await pong
        except TimeoutError:
            self.end(f"the broker did not answer within {timeout:g} s")

    def end(self, reason: str) -> None:
        """Mark the connection as of no more use, and let go who waits for an answer."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()
        for pong in self._pongs:
            if not pong.done():
                pong.set_result(False)

    async def listen_again(self, timeout: float) -> list[Buffer | ReportBuffer]:
        """Ask once more for what was refused; answers with who may listen now, and did not."""
        refused = {each for each in self._refusals if each.subscribing}
        subjects = {each.subject for each in refused}
        again = {
            buffer: [each for each in subscriptions if each.subject.lower() in subjects]
            for buffer, subscriptions in self._subscriptions.items()
        }
        for each in refused:
            del self._refusals[each]
        try:
            for subscription in [each for several in again.values() for each in several]:
                await self._send_subscribe(subscription)
        except nats.errors.Error as error:
            self.end(str(error))
        await self.settle(timeout)
        still = {each.subject for each in self._refusals if each.subscribing}
        return [
            buffer
            for buffer, several in again.items()
            if any(each.subject.lower() not in still for each in several)
        ]

    async def on_error(self, error: Exception) -> None:
        """Keep what nats-py reports while it connects."""
        self.reason = str(error) or type(error).__name__

    async def on_closed(self) -> None:
        """The connection is gone."""
        self.end(str(self.last_error or "") or self.reason)

    def abort(self) -> None:
        """Close without writing what is pending."""
        if isinstance(self._transport, _Transport):
            self._transport.abort()

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        take = self._takers.get(sid)
        if take is not None:
            take(subject, data)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        refusal = refusal_of(err_msg)
        if refusal is None:
            self.end(err_msg.strip("'"))
            return
        known = refusal in self._refusals
        self._refusals[refusal] = asyncio.get_running_loop().time()
        if not known:
            self._refused(refusal)

    async def _process_op_err(self, e: Exception) -> None:
        self.end(str(e) or type(e).__name__)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._encrypts and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise nats.errors.Error(
                    "the broker offers no TLS, which this client insists on; give the broker a "
                    "certificate, or write nats:// without tls_ and without tls_ keys"
                )
            info["tls_required"] = True  # nats-py encrypts by this
        if not initial_connection and "max_payload" in info:
            self._max_payload = info["max_payload"]
        if not initial_connection and info.get("ldm") and self.has_others:
            self.end("the broker is about to end (lame duck mode)")
        # Without the addresses of the cluster's other members: see docs/decisions/0022.
        await super()._process_info({**info, "connect_urls": None}, initial_connection)


class _Transport(TcpTransport):
    """Reads why a broker refuses us, where nats-py says that it is no broker; and can abort."""

    aborted = False

    @property
    def unwritten(self) -> int:
        """Bytes that wait for the network."""
        if self._io_writer is None:
            return 0
        return int(self._io_writer.transport.get_write_buffer_size())

    def abort(self) -> None:
        """Give up, with what is not written yet."""
        self.aborted = True
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        if not self.aborted:  # after TLS that failed, nobody would ever tell
            await super().wait_closed()  # type: ignore[no-untyped-call]

    async def readline(self) -> bytes:
        line: bytes = await super().readline()  # type: ignore[no-untyped-call]
        if line.startswith(b"-ERR"):
            raise nats.errors.Error(line[4:].decode(errors="replace").strip(" '\r\n"))
        return line

    async def drain(self) -> None:
        try:
            await super().drain()  # type: ignore[no-untyped-call]
        except ConnectionError:  # it hung up, perhaps after it said why
            _, found, said = bytes(getattr(self._io_reader, "_buffer", b"")).partition(b"-ERR")
            if found:
                reason = said.decode(errors="replace").strip(" '\r\n")
                raise nats.errors.Error(reason) from None
            raise

    def __bool__(self) -> bool:
        return True  # else nats-py takes one of its own


async def connect(
    endpoint: Endpoint,
    login: Login,
    *,
    name: str,
    ping_seconds: float = PING_SECONDS,
    refused: Callable[[Refusal], None] = lambda _: None,
) -> NatsConnection:
    """Connect to one broker.

    Args:
        endpoint: where it is.
        login: who we are, beside the endpoint's user.
        name: of this client, in the broker's own logs.
        ping_seconds: between two PINGs; when one is not answered by the next, that is the end.
        refused: told what the broker does not let this client do, once for each.

    Raises:
        HubError: with the reason, when it cannot be reached or refuses us.
    """
    encrypts = login.encrypts or endpoint.encrypts
    connection = NatsConnection(encrypts=encrypts, refused=refused)
    connection._public_nkey = login.nkey
    connection._transport = _Transport()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"ping_interval": ping_seconds}  # nats-py says int, and sleeps it
    if login.tls is not None:
        options["tls"] = login.tls
    if login.server_name is not None:
        options["tls_hostname"] = login.server_name
    if login.jwt is not None:
        jwt = login.jwt.encode()
        options["user_jwt_cb"] = lambda: jwt
    try:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            await connection.connect(
                [endpoint.url],
                name=name,
                user=endpoint.user,
                password=endpoint.password,
                token=login.token,
                signature_cb=login.sign,
                error_cb=connection.on_error,
                closed_cb=connection.on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # else nats-py tries for ever, in here
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT,
                max_outstanding_pings=1,
                # No limits of nats-py's own: when it waits in them, it swallows cancellation.
                # NatsHub keeps what is pending small.
                pending_size=0,
                flusher_queue_size=0,
                **options,
            )
    except (nats.errors.Error, OSError) as error:  # TimeoutError is an OSError
        reason = connection.reason if isinstance(error, nats.errors.NoServersError) else error
        await _give_up(connection)
        raise HubError(_said(reason)) from None
    except _NOT_NATS as error:
        await _give_up(connection)
        raise HubError(f"what listens there does not speak NATS ({error})") from None
    except BaseException:
        await _give_up(connection)
        raise
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # nats-py waits with asyncio.wait_for, which swallows a cancellation that comes just when
        # the answer does (Python 3.11): whoever was told to stop would stay for ever.
        await _give_up(connection)
        raise asyncio.CancelledError
    if not connection.is_connected:
        await _give_up(connection)
        raise HubError("the connection was closed during the login")
    return connection


def _said(reason: object) -> str:
    """What went wrong, without the marks of who said it."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError):
        return f"TLS with the broker failed: {reason.reason or reason}"
    text = str(reason).removeprefix("nats: ").strip("'\"")
    return text or "no answer in time"


async def _give_up(connection: NatsConnection) -> None:
    """End one that never served: there is nothing to wait for."""
    connection.end("it was not connected")
    await disconnect(connection)


async def disconnect(connection: NatsConnection) -> None:
    """End a connection, whatever state it is in, and the tasks that nats-py has for it."""
    if connection.ended.is_set():  # the other side is gone; nothing more can be written to it
        connection.abort()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
            await connection.ended.wait()
    except TimeoutError:  # it takes no more bytes: give up those that are not written
        connection.abort()
    except (OSError, RuntimeError, nats.errors.Error) as error:
        # RuntimeError: uvloop's, for a socket that was closed a moment before the last write.
        log.debug("broker.close_failed", reason=str(error))
        connection.abort()
    await asyncio.sleep(0)  # a socket is closed in the next turn
