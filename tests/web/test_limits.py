"""Connections that hold on to a server, from raw sockets: they end, and others are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from gatesync.web.connection import HEAD_BYTES, HEADERS_MOST, LimitedConnection
from gatesync.web.guard import Guard
from gatesync.web.server import serve

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

SOON: Final = 10.0  # seconds in which each of these must be over
LARGE: Final = 64 * 1024 * 1024
TOKEN: Final = b"Authorization: Bearer good\r\n"
GET: Final = b"GET /small HTTP/1.1\r\nHost: h\r\n" + TOKEN + b"\r\n"
POST: Final = b"POST /small HTTP/1.1\r\nHost: h\r\n" + TOKEN + b"Content-Length: 100000\r\n\r\n"


async def _app(scope: Any, _receive: Any, send: Any) -> None:
    body = b"x" * LARGE if scope["path"] == "/large" else b"small"
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server:
    """A server, and raw connections to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def said(self, sent: bytes) -> bytes:
        """Everything that is answered until the connection ends."""
        reader, writer = await self.connect()
        writer.write(sent)
        async with asyncio.timeout(SOON):
            answer = await _rest(reader)
        writer.close()
        return answer

    async def serves(self) -> bool:
        """Whether another request is answered meanwhile."""
        async with asyncio.timeout(SOON):
            return b"200 OK" in await self.said(GET.replace(b"Host", b"Connection: close\r\nHost"))


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(LARGE * 2)
    except ConnectionError:  # the end of a connection that has bytes nobody wants
        return b""


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """With tenths of a second where others have tens of seconds."""
    monkeypatch.setattr(LimitedConnection, "head_seconds", 0.3)
    monkeypatch.setattr(LimitedConnection, "body_seconds", 0.3)
    monkeypatch.setattr(LimitedConnection, "answer_seconds", 0.3)
    guard = Guard(_app, lambda token: "who" if token == "good" else None, 1024 * 1024)
    async with serve(guard, "127.0.0.1", 0) as port:
        yield Server(port)


@asynccontextmanager
async def dribbling(writer: asyncio.StreamWriter, piece: bytes) -> AsyncIterator[None]:
    """Send a piece now and then while the block lasts."""

    async def dribble() -> None:
        try:
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)  # as slow as it is; nothing is waited for here
        except ConnectionError:
            pass

    task = asyncio.create_task(dribble())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"G", GET[:-2], POST, POST + b"x" * 40_000, b"POST / HTTP/1.1\r\nHost: h\r\n"],
    ids=["nothing", "a line break", "a letter", "no end", "no body", "half a body", "half a head"],
)
async def test_who_stops_in_the_middle_is_left(server: Server, sent: bytes) -> None:
    reader, writer = await server.connect()
    writer.write(sent)
    assert await server.serves()
    async with asyncio.timeout(SOON):
        assert await _rest(reader) == b""
    writer.close()


@pytest.mark.parametrize(
    ("sent", "piece"),
    [
        (b"", b"\r\n"),
        (b"GET /", b"x"),
        (GET[:-2], b"a: b\r\n"),
        (POST, b"x"),
        (POST.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
        (POST.replace(TOKEN, b""), b"x"),  # answered with 401 already, and still sending
        (GET, b"\r\n"),  # answered already
    ],
    ids=["line breaks", "path", "headers", "body", "chunks", "stranger's body", "after an answer"],
)
async def test_who_dribbles_is_left_and_others_are_served(
    server: Server, sent: bytes, piece: bytes
) -> None:
    held = [await server.connect() for _ in range(20)]
    for _, writer in held:
        writer.write(sent)
    async with asyncio.timeout(SOON):
        async with dribbling(held[0][1], piece), dribbling(held[1][1], piece):
            assert await server.serves()
            for reader, _ in held[:2]:
                await _rest(reader)
        for reader, writer in held[2:]:
            if sent != GET:  # that rests, which it may for longer
                await _rest(reader)
            writer.close()


async def test_a_body_that_is_slow_but_comes_is_taken(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(POST.replace(b"100000", b"%d" % (20 * 1024)))
    for _ in range(20):  # a second, which is three times what a body has without coming
        writer.write(b"x" * 1024)
        await writer.drain()
        await asyncio.sleep(0.05)
    async with asyncio.timeout(SOON):
        assert b"200 OK" in await reader.readuntil(b"small")
    writer.close()


async def test_an_answer_that_nobody_reads_is_given_up(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(GET.replace(b"/small", b"/large"))
    assert await server.serves()
    await asyncio.sleep(1)  # not read: it is this that is tested
    async with asyncio.timeout(SOON):
        assert len(await _rest(reader)) < LARGE
    writer.close()


async def test_an_answer_that_is_read_slowly_arrives(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(GET.replace(b"/small", b"/large"))
    size = 0
    async with asyncio.timeout(SOON):
        while size < LARGE:
            chunk = await reader.read(4 * 1024 * 1024)
            assert chunk, f"it ended after {size} bytes"
            size += len(chunk)
            await asyncio.sleep(0.005)
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * HEAD_BYTES * 4,
        b"GET / HTTP/1.1\r\n" + b"x" * HEAD_BYTES * 4,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MOST + 1) + b"\r\n",
        b"\r\n" * HEAD_BYTES,
    ],
    ids=["path", "header", "header without end", "name without end", "many", "line breaks"],
)
async def test_a_head_that_is_too_large_is_refused(server: Server, head: bytes) -> None:
    answer = await server.said(head)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # a reset may overtake it
    assert await server.serves()


async def test_a_head_too_large_is_told_in_gatesyncs_form(server: Server) -> None:
    head = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_MOST + 1) + b"\r\n"
    answer = await server.said(head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"too-large"' in answer
    assert f"{HEADERS_MOST} headers".encode() in answer


async def test_a_head_as_large_as_allowed_is_taken(server: Server) -> None:
    more = b"".join(b"h%d: %b\r\n" % (n, b"x" * 620) for n in range(HEADERS_MOST - 3))
    asked = GET.replace(b"Host", b"Connection: close\r\nHost")[:-2] + more + b"\r\n"
    assert len(asked) > HEAD_BYTES * 0.9
    assert b"200 OK" in await server.said(asked)


async def test_many_requests_on_one_connection_are_one_after_the_other(server: Server) -> None:
    reader, writer = await server.connect()
    for sent in (GET * 500, POST.replace(b"100000", b"5") + b"hello" + GET[:10], GET[10:]):
        writer.write(sent)
        await writer.drain()
    async with asyncio.timeout(SOON):
        for _ in range(502):
            await reader.readuntil(b"small")
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"CONNECT host:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x00\x00",
        b"\x00" * 1000,
    ],
    ids=["TLS", "lengths", "both", "chunk", "connect", "url", "letters", "http2", "upgrade", "nul"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_is_no_request_ends_or_is_refused(server: Server, sent: bytes) -> None:
    answer = await server.said(sent)
    assert answer == b"" or answer.split()[1] in {b"400", b"401"}, answer
    assert await server.serves()
