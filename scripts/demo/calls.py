"""Calling APIs through the gateways' Envoys, and the upstream that answers behind all of them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["call", "seconds_until_answered", "upstream"]

SECONDS: Final = 30.0  # for an answer
POLL_SECONDS: Final = 0.001


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """Answers each request with its request line, while the block runs; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = head.partition(b"\r\n")[0] + b"\n"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except (OSError, EOFError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def call(address: str, paths: Iterable[str]) -> dict[str, int]:
    """GET these one after the other on one connection; answers with the status of each.

    Where there is no answer it is 0.
    """
    found = dict.fromkeys(paths, 0)
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(*address.split(":"))
            try:
                for path in found:
                    found[path] = await _ask(reader, writer, path)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        pass
    return found


async def seconds_until_answered(
    addresses: Iterable[str], path: str, began: float, seconds: float
) -> float | None:
    """Seconds from `began`, by the loop's clock, until all answer with 200; None: not in time."""

    async def one(address: str) -> None:
        while (await call(address, [path]))[path] != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_SECONDS)

    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*map(one, addresses))
    except TimeoutError:
        return None
    return asyncio.get_running_loop().time() - began


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: demo\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    await reader.readexactly(length)
    return int(head.split()[1])
