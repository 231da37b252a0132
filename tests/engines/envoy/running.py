"""An engine with an Envoy of its own, without a gateway, for tests."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatesync.engines.envoy.admin import Admin, open_admin
from gatesync.engines.envoy.ads import AdsServer, serve_ads
from gatesync.engines.envoy.bootstrap import bootstrap, bootstrap_json
from gatesync.engines.envoy.engine import EnvoyEngine
from gatesync.engines.envoy.process import EnvoyFiles, EnvoyProcess, find_envoy
from tests.engines.envoy.handmade import HandmadeNode, read

TIMEOUT = 30.0
_revisions = itertools.count()


class Running:
    """An engine and the process that it feeds."""

    def __init__(self, engine: EnvoyEngine, process: EnvoyProcess, admin: Admin, port: int) -> None:
        self.engine = engine
        self.process = process
        self.admin = admin
        self.port = port

    async def get(self, path: str) -> tuple[int, str]:
        return await get(self.port, path)


@asynccontextmanager
async def running(
    folder: Path, port: int, *, held_back: bool = False, keep: bool = False, **options: Any
) -> AsyncIterator[Running]:
    """Run both while the block runs; `keep` leaves Envoy there, as the end of a gateway would."""
    folder.mkdir(exist_ok=True, mode=0o700)  # noqa: ASYNC240 - once
    addresses = [f"unix:{folder / name}" for name in ("xds", "admin")]
    async with open_admin(addresses[1]) as admin:
        content = bootstrap_json(bootstrap("test", *addresses))
        process = EnvoyProcess(
            EnvoyFiles(folder), find_envoy(None), ["--concurrency", "1"], content, admin
        )
        engine = EnvoyEngine(
            HandmadeNode(port),  # type: ignore[arg-type]
            admin,
            held_back=held_back,
            process=process,
            read=read,
            **options,
        )
        server = AdsServer(f"test{next(_revisions)}", engine.connected, engine.disconnected)
        try:
            async with serve_ads(server, addresses[0]):
                tasks = [asyncio.create_task(each.run()) for each in (engine, process)]
                try:
                    yield Running(engine, process, admin, port)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                    for task in tasks:
                        if not task.cancelled():
                            task.result()
        finally:
            if not keep:
                await process.stop(0.0)


async def get(port: int, path: str) -> tuple[int, str]:
    """One request on one connection: status and body."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await ask(reader, writer, path)
        finally:
            writer.close()


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
) -> tuple[int, str]:
    """One request on an open connection."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
    body = await reader.readexactly(length)
    return int(head.split()[1]), body.decode()
