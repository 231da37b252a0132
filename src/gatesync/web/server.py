"""uvicorn inside a task group: no signal handlers, a clean stop, and quiet when idle."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn

from gatesync.web.connection import LimitedConnection
from gatesync.web.tls import LOOK_SECONDS, ServerContext, ServerTls

__all__ = ["ListenError", "serve"]

KEEP_ALIVE_SECONDS: Final = 75  # the default of 5 s collides with the heartbeat
STOP_SECONDS: Final = 5  # how long open requests may take after the stop


class ListenError(Exception):
    """The address cannot be listened on; says which, and why."""


class _Server(uvicorn.Server):
    """Waits for the end instead of waking up ten times a second; signals are the role's matter."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._ended = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._ended.wait()

    def end(self) -> None:
        self.should_exit = True
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    tls: ServerTls | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> AsyncIterator[int]:
    """Serve an ASGI application while the context is open; yields the port (for `port=0`).

    Args:
        app: the application.
        host: where to listen.
        port: where to listen.
        tls: certificate and key; without, plain HTTP. Files that are renewed are taken for new
            connections, and no request fails.
        look_seconds: between two looks at those files.

    Raises:
        TlsFileError: a file of `tls` cannot be used.
        ListenError: the address is taken, or not this machine's.
    """
    context = ServerContext(tls) if tls is not None else None
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who asks is who is connected, whatever it says of itself
        lifespan="off",
        date_header=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        http=LimitedConnection,
        ws="none",
        ssl_context_factory=None if context is None else lambda _config, _made: context.context,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listening]), name=f"http {host}:{port}")
        looking = tasks.create_task(_renewing(context, look_seconds), name="certificates")
        try:
            await server.up.wait()
            yield int(listening.getsockname()[1])
        finally:
            looking.cancel()
            server.end()


async def _renewing(context: ServerContext | None, look_seconds: float) -> None:
    while context is not None:
        await asyncio.sleep(look_seconds)
        context.renew()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows TCP, and sends small answers at once (TCP_NODELAY).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "set another port, or [server] offset, or end the process that has it"
        ) from error
    return listening
