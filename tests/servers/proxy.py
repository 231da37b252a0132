"""A TCP proxy between a client and a server, for tests of a network that misbehaves.

It can be gone (connections are refused), hang (it takes bytes and sends none on), and cut a
connection at the one moment that counts: when a COMMIT is on its way.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Final

from tests.servers.gatesync import TIMEOUT, until

COMMITS: Final = (b"Q\0\0\0\x0bCOMMIT\0", b"\x07\0\0\0\x03COMMIT")
"""As PostgreSQL's clients say it, and as MySQL's do."""
WRITES: Final = b"INSERT"
CHUNK_BYTES: Final = 64 * 1024


class Way(Enum):
    """In which direction bytes go."""

    REQUESTS = "requests"  # from the client to the server
    ANSWERS = "answers"


class Cut(Enum):
    """What a connection is cut at."""

    BEFORE_COMMIT = "before"  # the server never hears of it
    AFTER_COMMIT = "after"  # the server has done it, the client never hears of that
    SILENCE = "silence"  # the same, but the connection stays as if nothing had happened


class Proxy:
    """Listens on a port of its own at 127.0.0.1, and passes on to a port there."""

    def __init__(self, server_port: int) -> None:
        self.cuts = 0
        self._server_port = server_port
        self._flowing = {way: threading.Event() for way in Way}
        self._cut: Cut | None = None
        self._wires: set[_Wire] = set()
        self._lock = threading.Lock()
        self._listening: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        for way in Way:
            self._flowing[way].set()
        self.come()

    def come(self) -> None:
        """Listen (again)."""
        listening = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = int(listening.getsockname()[1])
        self._listening = listening
        self._thread = threading.Thread(target=self._accept, args=(listening,), daemon=True)
        self._thread.start()

    def go(self) -> None:
        """Refuse connections, and end those there are."""
        assert self._listening is not None
        assert self._thread is not None
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._listening.close()
        self.drop()

    def drop(self) -> None:
        """End every connection."""
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.end()

    @contextmanager
    def hanging(self, *ways: Way) -> Iterator[None]:
        """Nothing goes these ways while the block runs; what was sent arrives afterwards."""
        for way in ways:
            self._flowing[way].clear()
        try:
            yield
        finally:
            for way in ways:
                self._flowing[way].set()

    @contextmanager
    def cutting(self, cut: Cut) -> Iterator[None]:
        """Cut one connection, which writes, at its next COMMIT."""
        before, self._cut = self.cuts, cut
        try:
            yield
            until(lambda: self.cuts == before + 1, "a connection was cut at its COMMIT")
        finally:
            self._cut = None

    def close(self) -> None:
        for way in Way:
            self._flowing[way].set()
        self.go()

    def flows(self, way: Way) -> None:
        """Returns once bytes may go this way."""
        self._flowing[way].wait()

    def takes_cut(self) -> Cut | None:
        """What the connection that asks is to be cut at; no second one is."""
        with self._lock:
            cut, self._cut = self._cut, None
        return cut

    @property
    def waits_to_cut(self) -> bool:
        return self._cut is not None

    def forget(self, wire: "_Wire") -> None:
        with self._lock:
            self._wires.discard(wire)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), TIMEOUT)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            wire = _Wire(self, client, server)
            with self._lock:
                self._wires.add(wire)
            wire.start()


class _Wire:
    """One connection, and a thread for each direction; the last of them closes it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._writes = False
        self._cut: Cut | None = None
        self._threads = len(Way)
        self._lock = threading.Lock()
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for work in (self._send_requests, self._send_answers):
            threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def end(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _run(self, work: Callable[[], None]) -> None:
        with suppress(OSError):
            work()
        self.end()
        with self._lock:
            self._threads -= 1
            if self._threads:
                return
        self._client.close()
        self._server.close()
        self._proxy.forget(self)

    def _send_requests(self) -> None:
        while chunk := self._client.recv(CHUNK_BYTES):
            self._proxy.flows(Way.REQUESTS)
            self._writes |= self._proxy.waits_to_cut and WRITES in chunk
            if self._writes and chunk.endswith(COMMITS):
                self._cut = self._proxy.takes_cut()
                if self._cut is Cut.BEFORE_COMMIT:
                    self._proxy.cuts += 1
                    return
            self._server.sendall(chunk)

    def _send_answers(self) -> None:
        while chunk := self._server.recv(CHUNK_BYTES):
            self._proxy.flows(Way.ANSWERS)
            if self._cut is None:
                self._client.sendall(chunk)
                continue
            self._proxy.cuts += 1  # the server has answered: it is done
            if self._cut is Cut.AFTER_COMMIT:
                return


@contextmanager
def proxy_to(server_port: int) -> Iterator[Proxy]:
    """A proxy while the block runs."""
    proxy = Proxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
