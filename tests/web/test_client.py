"""The HTTP client against servers that are not what they should be."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpcore
import msgspec
import pytest

from gatesync.web.client import AnsweredError, UnreachableError, open_client

pytestmark = pytest.mark.fast


class Answer(msgspec.Struct):
    good: bool


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[str]:
    """Answers everything with these bytes and hangs up; with None it never answers."""
    ended = asyncio.Event()
    asked_about_tls: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if ended.is_set():
            asked_about_tls.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()
            return
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening, asyncio.timeout(30):
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await ended.wait()
        if asked_about_tls:
            await asyncio.wait(asked_about_tls)


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_silence_ends_with_the_time_limit() -> None:
    async with server(None) as url, open_client(url, timeout=0.2) as client:
        with pytest.raises(UnreachableError, match=r"did not answer in 0\.2 s"):
            await client.get("/v1/x", Answer)


async def test_a_host_that_takes_no_connection_is_not_waited_for_as_long() -> None:
    with socket.socket() as deaf, socket.socket() as filler, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # its queue is full after these, and more are dropped
        for each in (filler, second):
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with open_client(url, timeout=0.2) as client:
            with pytest.raises(UnreachableError, match=r"no connection within 0\.2 s"):
                await client.get("/v1/x", Answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"INFO {} nats\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
        (http("200 OK", b'{"good": true}')[:-4], "cannot be reached"),
        (http("200 OK", b"<html>"), "an answer that gatesync cannot read"),
        (http("200 OK", b'{"good": "\xff"}'), "an answer that gatesync cannot read"),
        (http("200 OK", b'{"good": 1}'), "an answer that gatesync cannot read"),
        (http("200 OK", b'{"x":' + b"[" * 100_000), "an answer that gatesync cannot read"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, message: str) -> None:
    async with server(answer) as url, open_client(url) as client:
        with pytest.raises(UnreachableError, match=message):
            await client.get("/v1/x", Answer)


@pytest.mark.parametrize(
    ("body", "code", "reasons"),
    [
        (b'{"code": "behind", "reasons": ["so"]}', "behind", ("so",)),
        (b"<html>a proxy</html>", "", ("HTTP status 502",)),
        (b"", "", ("HTTP status 502",)),
        (b"[]", "", ("HTTP status 502",)),
        (b'{"x":' + b"[" * 100_000, "", ("HTTP status 502",)),
    ],
)
async def test_an_answer_that_says_no(body: bytes, code: str, reasons: tuple[str, ...]) -> None:
    async with server(http("502 Bad Gateway", body)) as url, open_client(url) as client:
        with pytest.raises(AnsweredError) as caught:
            await client.get("/v1/x", Answer)
    assert (caught.value.status, caught.value.code, caught.value.reasons) == (502, code, reasons)


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX: y", "é", "a\0"])
async def test_a_token_that_no_header_carries_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="the token holds a line break or a letter") as caught:
        async with open_client("http://127.0.0.1:1", token):
            pass
    assert token not in str(caught.value)


async def test_a_connection_that_ends_while_it_is_made_is_a_publisher_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """anyio looks at the socket of a transport that was closed a moment before."""

    async def closed(*_: object, **__: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    monkeypatch.setattr(httpcore.AsyncConnectionPool, "request", closed)
    async with open_client("http://127.0.0.1:1") as client:
        with pytest.raises(UnreachableError, match="while it was being made") as caught:
            await client.request("GET", "/health/live")
    assert caught.value.unsure
