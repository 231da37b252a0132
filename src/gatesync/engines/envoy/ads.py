"""xDS for one Envoy: delta ADS, each resource with a version, over gRPC.

    Envoy connects, tells what it has → `on_connected` → whoever feeds it calls `deliver`
    deliver: clusters (resolved) → listeners → scopes → gone scopes, listeners, clusters

Each step waits until Envoy has acknowledged the one before, so that nothing it holds ever refers
to what it does not have. Nothing is said before `deliver` is called for the first time.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import grpc
import structlog
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from gatesync.engines.envoy.resources import LISTENER, SCOPE, TYPE_URLS
from gatesync.engines.envoy.versions import (
    UNKNOWN,
    Change,
    Resource,
    difference,
    named_anew,
    version_of,
)

__all__ = ["AdsServer", "DisconnectedError", "RejectedError", "Session", "Target", "serve_ads"]

RECEIVED_MAX_BYTES: Final = 64 * 1024 * 1024  # of one request: versions of some 500,000 resources
GRACE_SECONDS: Final = 0.2  # for a stream to end when this process does; Envoy keeps what it has

Target = Mapping[str, Mapping[str, Resource]]
"""What Envoy should have: resources by name, by type URL."""

_log = structlog.get_logger("gatesync.engines.envoy")


class RejectedError(Exception):
    """Envoy rejected a response, and says why. `names` are the resources that were in it."""

    def __init__(self, reason: str, type_url: str, names: frozenset[str]) -> None:
        super().__init__(reason)
        self.type_url = type_url
        self.names = names


class DisconnectedError(Exception):
    """Envoy is not connected, or went away before it answered."""


class Session:
    """One stream of one Envoy.

    Attributes:
        held: versions by name, by type URL: what Envoy said it has, and acknowledged since.
        asked: type URLs that Envoy has subscribed to.
        fresh: whether it came with nothing: Envoy has just started.
    """

    def __init__(
        self, write: Callable[[Any], Awaitable[None]], node: str, pushes: Iterator[str]
    ) -> None:
        self.node = node
        self.held: dict[str, dict[str, str]] = {each: {} for each in TYPE_URLS}
        self.asked: set[str] = set()
        self._touched: dict[str, set[str]] = {each: set() for each in TYPE_URLS}
        self._compared: set[str] = set()  # types whose every resource was compared
        self.fresh = True
        self.pushes = 0
        self._write = write
        self._push = pushes
        self._answered: set[str] = set()  # types that Envoy waits for no more
        self._moved = asyncio.Event()  # set, and made anew, when something was received
        self._nonces: dict[str, asyncio.Future[None]] = {}
        self._closed = False

    def received(self, request: Any) -> None:
        """Take in a subscription, an acknowledgement or a rejection."""
        type_url = request.type_url
        if type_url not in self.held:
            _log.warning("Envoy asks for a type that is not served", type=type_url)
            return
        if type_url not in self.asked:
            self.asked.add(type_url)
            self.held[type_url].update(request.initial_resource_versions)
            if request.initial_resource_versions:
                self.fresh = False
                self._answered.add(type_url)
        answer = self._nonces.pop(request.response_nonce, None)
        if answer is not None and not answer.done():
            if request.HasField("error_detail"):
                answer.set_exception(_Nack(request.error_detail.message))
            else:
                answer.set_result(None)
        self._stir()

    def close(self) -> None:
        """The stream has ended: whoever waits for an answer is told so."""
        self._closed = True
        for answer in self._nonces.values():
            if not answer.done():
                answer.set_exception(DisconnectedError("Envoy disconnected before it answered"))
        self._nonces.clear()
        self._stir()

    async def until_asked(self, type_url: str) -> None:
        """Wait until Envoy subscribes to a type. Raises `DisconnectedError`."""
        while type_url not in self.asked:
            if self._closed:
                raise DisconnectedError("Envoy disconnected")
            await self._moved.wait()

    def touch(self, type_url: str, names: Iterable[str]) -> None:
        """Tell which resources of the target have changed: no others are compared again."""
        self._touched[type_url].update(names)

    def lacks(self, target: Target) -> bool:
        """Whether Envoy may have something else than this."""
        return any(
            self._touched[each] or each not in self._compared or each not in self._answered
            for each in TYPE_URLS
            if each != SCOPE or target.get(LISTENER)  # without a listener nobody asks for scopes
        )

    async def deliver(
        self,
        target: Target,
        warmed: Callable[[Collection[str]], Awaitable[None]],
        *,
        additive: bool = False,
        only_fresh: bool = False,
    ) -> None:
        """Make Envoy have exactly this, in as few pushes as order allows.

        Args:
            target: everything that it should have.
            warmed: returns once these clusters wait for no names to be resolved.
            additive: leave what it has and this does not name.
            only_fresh: do nothing if it has something of an earlier process.

        Raises:
            RejectedError: Envoy refused a response. Deliver another target then, else what was
                good in it may not be served.
            DisconnectedError: the stream ended.
        """
        for type_url in TYPE_URLS:
            if type_url == SCOPE and not target.get(LISTENER):
                continue
            await self.until_asked(type_url)
            if only_fresh and not self.fresh:
                return
            change = self._change(target, type_url)
            if change is None or not (change.put or type_url not in self._answered):
                continue
            await self._send(type_url, Change(change.put))
            if waiting := [name for name, each in change.put.items() if each.waits]:
                await warmed(waiting)
        for type_url in () if additive else reversed(TYPE_URLS):
            change = self._change(target, type_url)
            if change is not None and change.removed:
                await self._send(type_url, Change({}, change.removed))

    def _change(self, target: Target, type_url: str) -> Change | None:
        wanted, held, touched = target[type_url], self.held[type_url], self._touched[type_url]
        if type_url not in self.asked:
            return None
        if type_url not in self._compared:
            self._compared.add(type_url)
            touched.update(wanted, held)
        touched -= {name for name in touched if version_of(wanted.get(name)) == held.get(name)}
        return difference(wanted, held, touched, first=type_url not in self._answered)

    async def _send(self, type_url: str, change: Change) -> None:
        if self._closed:
            raise DisconnectedError("Envoy disconnected")
        nonce = next(self._push)
        response = discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url, nonce=nonce, removed_resources=change.removed
        )
        for name, each in change.put.items():
            added = response.resources.add(name=name, version=each.version)
            added.resource.type_url = type_url
            added.resource.value = (
                named_anew(name, each, nonce) if type_url == SCOPE else each.content
            )
        held = self.held[type_url]
        for name in (*change.put, *change.removed):
            held[name] = UNKNOWN  # until it is acknowledged
        answer = self._nonces[nonce] = asyncio.get_running_loop().create_future()
        self._answered.add(type_url)
        self.pushes += 1
        try:
            await self._write(response)
            await answer
        except _Nack as nack:
            raise RejectedError(str(nack), type_url, frozenset(change.put)) from None
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise DisconnectedError(f"Envoy disconnected: {error}") from error
        finally:
            self._nonces.pop(nonce, None)
        held.update({name: each.version for name, each in change.put.items()})
        for name in change.removed:
            held.pop(name, None)
        self._touched[type_url].difference_update(change.put, change.removed)

    def _stir(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class _Nack(Exception):
    pass


class AdsServer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Answers the one Envoy of this node; the newest stream is the one that counts.

    Args:
        revision: begins the names of all pushes; no other process of this node has the same.
        on_connected: called for each new stream, once Envoy has begun to tell what it has.
        on_disconnected: called when it has ended.
    """

    def __init__(
        self,
        revision: str,
        on_connected: Callable[[Session], None],
        on_disconnected: Callable[[Session], None],
    ) -> None:
        self.session: Session | None = None
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._pushes = (f"{revision}.{number}" for number in count(1))

    async def DeltaAggregatedResources(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[Any], context: Any
    ) -> None:
        """One stream, until Envoy ends it."""
        session: Session | None = None
        try:
            async for request in requests:
                if session is None:
                    session = Session(context.write, request.node.id, self._pushes)
                    if self.session is not None:
                        _log.warning("another stream of Envoy takes over", node=request.node.id)
                        self.session.close()
                    self.session = session
                    session.received(request)
                    self._on_connected(session)
                else:
                    session.received(request)
        finally:
            if session is not None:
                session.close()
                if self.session is session:
                    self.session = None
                self._on_disconnected(session)


@asynccontextmanager
async def serve_ads(server: AdsServer, address: str) -> AsyncIterator[str]:
    """Serve it while the block runs; yields the address, with a port that was 0 filled in.

    Args:
        server: what to serve.
        address: `unix:/path`, in a folder that only this user may enter, or `127.0.0.1:port`.

    Raises:
        OSError: nobody can listen there.
    """
    listening = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", RECEIVED_MAX_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(server, listening)
    try:
        port = listening.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot serve Envoy at {address}: {error}") from error
    await listening.start()
    try:
        yield address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    finally:
        await listening.stop(GRACE_SECONDS)
