"""Who is let through, without a server: the guard as plain ASGI."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.web.guard import Guard

pytestmark = pytest.mark.fast

TOKEN = "gst_träd"


async def asked(
    guard: Guard, header: bytes, path: str = "/v1/held", query: bytes = b"", length: int = 0
) -> int:
    """The status that a request with this Authorization is answered with."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * length, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers: Sequence[tuple[bytes, bytes]] = [(b"authorization", header)]
    scope = {"type": "http", "path": path, "query_string": query, "headers": headers}
    await guard(scope, receive, send)
    (status,) = statuses
    return status


def guard(**options: Any) -> Guard:
    async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        status = 200 if scope["user"] == "operator" else 299
        await send({"type": "http.response.start", "status": status, "headers": []})

    def authenticate(token: str) -> str | None:
        assert token, "nothing is no token"
        return "operator" if token == TOKEN else None

    return Guard(app, authenticate, 1024, **options)


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@given(st.text(alphabet="abc@ ", max_size=5))
async def test_a_token_is_taken_as_a_password_only_where_that_is_said(user: str) -> None:
    header = basic(f"{user}:{TOKEN}")
    assert await asked(guard(passwords=True), header) == 200
    assert await asked(guard(passwords=True), header.replace(b"Basic", b"bAsIc")) == 200
    assert await asked(guard(), header) == 401


async def test_all_that_stands_behind_the_first_colon_is_the_password() -> None:
    assert await asked(guard(passwords=True), basic(f"admin:x:{TOKEN}")) == 401
    assert await asked(guard(passwords=True), basic(f"admin:{TOKEN}:")) == 401
    assert await asked(guard(passwords=True), basic(TOKEN)) == 401
    assert await asked(guard(passwords=True), basic(f"{TOKEN}:")) == 401


@given(st.binary(max_size=40))
async def test_whatever_is_no_password_lets_nobody_in(sent: bytes) -> None:
    assert await asked(guard(passwords=True), b"Basic " + sent) == 401


async def test_an_open_path_is_that_path_only() -> None:
    open_to_all = guard(open_paths=("/api/startup",))
    assert await asked(open_to_all, b"", "/api/startup") == 299
    assert await asked(open_to_all, b"Bearer wrong", "/api/startup") == 299
    for path in ("/api/startup/", "/api", "/api/startup2", "/api/Startup", ""):
        assert await asked(open_to_all, b"", path) == 401
    assert await asked(guard(), b"", "/api/startup") == 401


@pytest.mark.parametrize(
    "query",
    [
        b"access_token=anything",
        b"label=a&token=anything",
        b"%74oken=anything",
        b"label=gs_0123456789ab_xyz",
        b"label=gs%5F0123456789ab%5Fxyz",
    ],
)
@pytest.mark.parametrize("path", ["/v1/held", "/health/live"])
async def test_a_token_in_a_url_is_refused_whoever_else_is_named(path: str, query: bytes) -> None:
    for header in (b"", b"Bearer " + TOKEN.encode("latin-1")):
        assert await asked(guard(), header, path, query) == 400


@pytest.mark.parametrize("query", [b"label=token", b"label=a&name=mytoken", b"tokens=1", b"gs_=1"])
async def test_what_is_no_token_may_be_in_a_url(query: bytes) -> None:
    assert await asked(guard(), b"Bearer " + TOKEN.encode("latin-1"), query=query) in {200, 299}


async def test_what_one_credential_has_on_the_way_is_limited_and_nobody_elses() -> None:
    """Four requests of the largest size, whose last piece does not come; each may come back."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def request(token: bytes, size: int, goes_on: asyncio.Event) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        pieces = [{"type": "http.request", "body": b"x" * size, "more_body": True}]

        async def receive() -> dict[str, Any]:
            if pieces:
                return pieces.pop()
            arrived.release()
            await goes_on.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        headers = [(b"authorization", b"Bearer " + token)]
        await limited({"type": "http", "path": "/", "headers": headers}, receive, send)
        return answers[0]

    limited = Guard(app, lambda token: token, 1024)
    arrived, late, now = asyncio.Semaphore(0), asyncio.Event(), asyncio.Event()
    now.set()
    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(request(b"one", 1024, late)) for _ in range(4)]
        for _ in slow:
            await arrived.acquire()
        refused = await request(b"one", 1, now)
        assert refused["status"] == 429
        assert (b"retry-after", b"1") in refused["headers"]
        assert (await request(b"other", 1024, now))["status"] == 200
        late.set()
    assert {task.result()["status"] for task in slow} == {200}
    assert (await request(b"one", 1024, now))["status"] == 200


async def test_who_may_send_less_is_told_how_much() -> None:
    limited = guard(own_limit=lambda who, path: 10 if path == "/small" else 10_000)
    header = b"Bearer " + TOKEN.encode("latin-1")
    for path, length, status in (
        ("/small", 10, 200),
        ("/small", 11, 413),
        ("/", 1024, 200),
        ("/", 1025, 413),  # of all together there is a limit, too
    ):
        assert await asked(limited, header, path, length=length) == status
