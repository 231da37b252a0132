"""Opens the engine `envoy` as a gateway's settings say: its files, its sockets, Envoy itself."""

import asyncio
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from errno import EBUSY
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gatesync.engines.envoy.admin import open_admin
from gatesync.engines.envoy.ads import AdsServer, serve_ads
from gatesync.engines.envoy.bootstrap import bootstrap, bootstrap_json
from gatesync.engines.envoy.engine import EnvoyEngine
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.process import EnvoyFiles, EnvoyProcess, find_envoy

__all__ = ["Addresses", "addresses_of", "envoy_bootstrap", "open_envoy_engine"]

SOCKET_MAX: Final = 100  # bytes of a Unix socket's path: the kernel takes 107
METRICS_SECONDS: Final = 5.0


class Addresses:
    """Where an Envoy and its gateway meet.

    Args:
        settings: of the gateway.
    """

    def __init__(self, settings: Any) -> None:
        self.folder: Path = settings.data.absolute() / "envoy"
        self.sockets = _socket_folder(self.folder)
        envoy = settings.envoy
        self.xds = str(envoy.xds) if envoy.xds else f"unix:{self.sockets / 'xds.sock'}"
        self.admin = str(envoy.admin) if envoy.admin else f"unix:{self.sockets / 'admin.sock'}"

    def make(self) -> None:
        """Make the folders, for this user alone. Raises `OSError`, with the folder's name."""
        for folder in {self.folder, self.sockets}:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(1, "this folder belongs to another user", str(folder))
            folder.chmod(0o700)


def addresses_of(settings: Any) -> Addresses:
    """Where the Envoy of this gateway and the gateway meet."""
    return Addresses(settings)


def envoy_bootstrap(settings: Any) -> bytes:
    """What Envoy is to be started with. Makes the folders that it names."""
    addresses = addresses_of(settings)
    addresses.make()
    return _bootstrap(settings, addresses)


def _bootstrap(settings: Any, addresses: Addresses) -> bytes:
    return bootstrap_json(
        bootstrap(
            settings.server.node_id,
            addresses.xds,
            addresses.admin,
            cluster_metrics=settings.envoy.cluster_metrics,
        )
    )


@asynccontextmanager
async def open_envoy_engine(settings: Any) -> AsyncIterator[EnvoyEngine]:
    """Serve an Envoy, and run it unless others do.

    Raises:
        EngineError: there is no Envoy to run.
        OSError: its folder cannot be used, or another gateway uses it.
    """
    envoy, addresses = settings.envoy, addresses_of(settings)
    binary = None if envoy.external else find_envoy(envoy.binary)
    addresses.make()
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(addresses.folder / "lock"))
        admin = await stack.enter_async_context(open_admin(addresses.admin))
        process = None
        if binary is not None:
            process = EnvoyProcess(
                EnvoyFiles(addresses.folder),
                binary,
                _arguments(settings),
                _bootstrap(settings, addresses),
                admin,
            )
        engine = EnvoyEngine(
            Node(_options(settings)),
            admin,
            answer_seconds=envoy.answer_ms / 1000,
            held_back=True,
            process=process,
        )
        # Begins the name of each push; no two processes of a node begin in the same nanosecond.
        server = AdsServer(f"{time.time_ns():x}", engine.connected, engine.disconnected)
        await stack.enter_async_context(serve_ads(server, addresses.xds))
        async with _running(engine, process):
            yield engine
        if process is not None and envoy.when_stopped == "drain":
            await process.stop(envoy.drain_ms / 1000)


@asynccontextmanager
async def _running(engine: EnvoyEngine, process: EnvoyProcess | None) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(engine.run(), name="xDS"),
            tasks.create_task(engine.metrics.watch(METRICS_SECONDS), name="Envoy's metrics"),
        ]
        if process is not None:
            running.append(tasks.create_task(process.run(), name="Envoy"))
        try:
            yield
        finally:
            for each in running:
                each.cancel()


def _arguments(settings: Any) -> list[str]:
    threads = settings.envoy.threads or len(os.sched_getaffinity(0))
    seconds = max(1, -(-settings.envoy.drain_ms // 1000))
    return [
        *("--concurrency", str(threads)),
        *("--log-level", "warning"),
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(seconds)),
    ]


def _options(settings: Any) -> Options:
    listen = settings.envoy.listen
    return Options(host=listen.host, port=listen.port, type=str(settings.gateway.type))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two gateways that serve one Envoy would take it from each other for ever."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OSError(EBUSY, "another gateway process uses this folder", str(path)) from None
        yield


def _socket_folder(folder: Path) -> Path:
    """The folder itself, or one with a shorter name: the kernel has a limit for sockets."""
    if len(os.fsencode(folder)) + len("/admin.sock") <= SOCKET_MAX:
        return folder
    name = sha256(os.fsencode(folder)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / f"gatesync-envoy-{os.geteuid()}-{name}"
