"""One connection to a NATS server: nats-py's client, with what it does not do for us."""

import asyncio
import logging
import ssl
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors
import structlog
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription

from gatesync.events.buffer import Buffer
from gatesync.events.hub import HubError

__all__ = ["Endpoint", "NatsConnection", "connect", "disconnect", "parse_endpoint"]

CONNECT_TIMEOUT: Final = 2  # seconds, for each step of an attempt
ATTEMPT_TIMEOUT: Final = 10.0  # seconds, for the attempt as a whole
CLOSE_TIMEOUT: Final = 2.0  # seconds, to write what is still pending
PING_INTERVAL: Final = 10  # seconds; a silent connection is given up after two unanswered PINGs

# What nats-py lets through when the other side is no NATS server.
_NOT_NATS: Final = (ValueError, TypeError, LookupError, AttributeError, AssertionError)

log = structlog.get_logger(__name__)

# Everything that nats-py has to say comes through its callbacks. Without a handler of its own
# it would print the rest to standard error.
logging.getLogger("nats").addHandler(logging.NullHandler())


class Endpoint(msgspec.Struct, frozen=True):
    """Where a broker listens, and who we are there. `url` is safe to show."""

    url: str
    user: str | None
    password: str | None

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

    Three of nats-py's inner methods are replaced; the contract suite holds that against each
    version of it:

    - `_process_msg`: nats-py gives each message an object, a queue, a task's turn and a callback.
      Without them 1,000 listeners in one process have a message in 0.8 to 0.96 of the time, and the
      messages of several labels stay in order.
    - `_send_ping`: nats-py's PING overtakes the subscriptions that wait to be written, so that
      its PONG proves nothing about them.
    - `_process_pong`: nats-py stops reading, silently, when the PONG of a PING that nobody
      waits for any more arrives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()
        self.reason = "the broker closed the connection"
        self._buffers: dict[int, Buffer] = {}
        self._subscriptions: dict[Buffer, list[Subscription]] = {}
        self._warned: set[str] = set()

    async def listen(self, subjects: Iterable[str], buffer: Buffer) -> None:
        """Subscribe; a connection that ended meanwhile is no error, another one will come."""
        subscriptions = self._subscriptions.setdefault(buffer, [])
        try:
            for subject in subjects:
                subscription = await self.subscribe(subject)
                subscriptions.append(subscription)
                self._buffers[subscription._id] = buffer
        except nats.errors.Error as error:
            self.end(str(error))

    async def leave(self, buffer: Buffer) -> None:
        """Undo `listen`."""
        for subscription in self._subscriptions.pop(buffer, ()):
            self._buffers.pop(subscription._id, None)
            if not self.is_closed:
                await subscription.unsubscribe()

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

    async def on_error(self, error: Exception) -> None:
        """Note what nats-py reports: permission violations are shown, once for each."""
        text = str(error) or type(error).__name__
        if "permissions violation" in text:
            if text not in self._warned:
                self._warned.add(text)
                log.warning("broker.refused", reason=text)
            return
        self.reason = text

    async def on_closed(self) -> None:
        """The connection is gone."""
        self.end(str(self.last_error or "") or self.reason)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        buffer = self._buffers.get(sid)
        if buffer is not None:
            buffer.put(data)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


async def connect(endpoint: Endpoint, *, name: str, tls: ssl.SSLContext | None) -> NatsConnection:
    """Connect to one broker.

    Raises:
        HubError: with the reason, when it cannot be reached or refuses us.
    """
    connection = NatsConnection()
    options: dict[str, Any] = {"tls": tls} if tls is not None else {}
    try:
        async with asyncio.timeout(ATTEMPT_TIMEOUT):
            await connection.connect(
                [endpoint.url],
                name=name,
                user=endpoint.user,
                password=endpoint.password,
                error_cb=connection.on_error,
                closed_cb=connection.on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # else nats-py tries for ever, in here
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT,
                ping_interval=PING_INTERVAL,
                # No limits of nats-py's own: when it waits in them, it swallows cancellation.
                # NatsHub keeps what is pending small.
                pending_size=0,
                flusher_queue_size=0,
                **options,
            )
    except (nats.errors.Error, OSError) as error:  # TimeoutError is an OSError
        reason = connection.reason if isinstance(error, nats.errors.NoServersError) else error
        await disconnect(connection)
        raise HubError(str(reason) or "no answer in time") from None
    except _NOT_NATS as error:
        await disconnect(connection)
        raise HubError(f"what listens there does not speak NATS ({error})") from None
    except BaseException:
        await disconnect(connection)
        raise
    return connection


async def disconnect(connection: NatsConnection) -> None:
    """End a connection, whatever state it is in, and the tasks that nats-py has for it."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
            await connection.ended.wait()
    except TimeoutError:  # it takes no more bytes: give up those that are not written
        writer = getattr(connection._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
            await asyncio.sleep(0)  # the socket is closed in the next turn
    except (OSError, nats.errors.Error) as error:
        log.debug("broker.close_failed", reason=str(error))
