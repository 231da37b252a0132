"""Opens the engine `envoy` as a gateway's settings say: its files, its sockets, Envoy itself."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from errno import EBUSY
from pathlib import Path
from typing import Any, Final

from gatesync.engines.envoy.addresses import Addresses, envoy_bootstrap
from gatesync.engines.envoy.admin import open_admin
from gatesync.engines.envoy.ads import AdsServer, serve_ads
from gatesync.engines.envoy.configured import options_of
from gatesync.engines.envoy.engine import EnvoyEngine
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.process import EnvoyFiles, EnvoyProcess, find_envoy

__all__ = ["open_envoy_engine"]

METRICS_SECONDS: Final = 5.0


@asynccontextmanager
async def open_envoy_engine(settings: Any) -> AsyncIterator[EnvoyEngine]:
    """Serve an Envoy, and run it unless others do.

    Raises:
        EngineError: there is no Envoy to run.
        OSError: its folder cannot be used, or another gateway uses it.
    """
    envoy, addresses = settings.envoy, Addresses(settings)
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
                envoy_bootstrap(settings),
                admin,
            )
        engine = EnvoyEngine(
            Node(options_of(settings)),
            admin,
            answer_seconds=envoy.answer_ms / 1000,
            held_back=True,
            process=process,
        )
        # Begins the name of each push; no two processes of a node begin in the same nanosecond.
        server = AdsServer(f"{time.time_ns():x}", engine.connected, engine.disconnected)
        try:
            async with serve_ads(server, addresses.xds), _running(engine, process):
                yield engine
        except BaseException as error:  # whoever crashes leaves Envoy serving
            if isinstance(error, asyncio.CancelledError):
                await _stop(process, settings)
            elif process is not None and process.starts and not engine.known:
                await process.stop(0.0)  # such as where a port is taken: it was told nothing yet
            raise
        await _stop(process, settings)


async def _stop(process: EnvoyProcess | None, settings: Any) -> None:
    if process is not None and settings.envoy.when_stopped == "drain":
        await process.stop(settings.envoy.drain_ms / 1000)


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


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two gateways that serve one Envoy would take it from each other for ever."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OSError(EBUSY, "another gateway process uses this folder", str(path)) from None
        yield
