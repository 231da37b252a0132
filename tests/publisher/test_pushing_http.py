"""How an event travels to an environment's URL, and what is made of each answer."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gatesync.events.pushed import EVENTS_PATH, MadeOf, PushAnswer
from gatesync.publisher.pushing import Environment, PushError, open_http_post
from gatesync.secret import Secret
from gatesync.web.guard import problem_body
from gatesync.web.server import serve
from tests.servers.gatesync import free_ports

pytestmark = pytest.mark.fast

TAKEN = msgspec.json.encode(PushAnswer("gw1", MadeOf.TAKEN, "sandbox"))


class Server:
    """Answers every request with `status` and `body`; remembers the last."""

    def __init__(self) -> None:
        self.status = 200
        self.body = TAKEN
        self.url = ""
        self.asked: tuple[str, str, bytes] | None = None
        self.headers: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.asked = scope["method"], scope["path"], message["body"]
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serve(made, "127.0.0.1", 0) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made


async def push(server: Server, username: str | None = None, password: str | None = None) -> Any:
    secret = None if password is None else Secret(password)
    environment = Environment("E", server.url, ("L",), "hybrid", username, secret)
    async with open_http_post(environment) as post:
        return await post(b"event")


@pytest.mark.parametrize(
    ("username", "password", "authorization"),
    [
        ("admin", "p:ä", f"Basic {base64.b64encode('admin:p:ä'.encode()).decode()}"),
        ("admin", "", f"Basic {base64.b64encode(b'admin:').decode()}"),
        (None, "token", "Bearer token"),
        (None, None, None),
    ],
)
async def test_the_event_is_posted_as_it_is_with_the_environments_credentials(
    server: Server, username: str | None, password: str | None, authorization: str | None
) -> None:
    assert await push(server, username, password) == PushAnswer("gw1", MadeOf.TAKEN, "sandbox")
    assert server.asked == ("POST", EVENTS_PATH, b"event")
    assert server.headers.get("authorization") == authorization


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, problem_body("unauthorized", "a valid token is needed"), "a valid token is needed"),
        (503, problem_body("busy", "too many events"), "too many events"),
        (302, b"", "HTTP status 302"),
        (200, b"<html>It works!</html>", "is not a gateway of gatesync"),
        (200, b'{"node":"gw1","made":"eaten"}', "is not a gateway of gatesync"),
        (200, b'{"node":"gw1","made":"taken","format":"other/2"}', "format 'other/2' is unknown"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_with_its_reason(
    server: Server, status: int, body: bytes, reason: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(PushError) as raised:
        await push(server, "admin", "hidden-password")
    assert reason in str(raised.value)
    assert server.url in str(raised.value)
    assert "hidden-password" not in str(raised.value)


async def test_nobody_there_is_a_failure_that_names_the_url(server: Server) -> None:
    (port,) = free_ports(1)
    server.url = f"http://127.0.0.1:{port}"
    with pytest.raises(PushError, match=f"{server.url} cannot be reached"):
        await push(server)
