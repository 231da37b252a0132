"""The embedded broker's users change while it runs, and nodes change their tokens."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from gatesync.cli.broker_users import _AskedPublisher
from gatesync.events import nats_process, nats_server
from gatesync.events.access import BrokerAccess
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_credentials import BrokerError
from gatesync.events.nats_server import run_nats_server
from gatesync.publisher.cluster import BrokerUsersAnswer
from gatesync.web.client import HttpClient, Response, UnreachableError
from tests.contracts.hub import connected, logged, lost, take
from tests.events.nodes import Node, publishers_hub

RELOADED = "Reloaded server configuration"


async def test_a_node_with_another_token_logs_in_anew_for_what_it_may_hear_then(
    tmp_path: Path,
) -> None:
    old, new = Node("gw1", "A"), Node("gw1", "A", "B")
    shown = [old.token]
    async with run_nats_server(tmp_path, port=0, nodes=[old.user, new.user]) as server:
        url = server.connect_url
        access = BrokerAccess(node_token=lambda: shown[-1])
        async with (
            publishers_hub(url, server.credentials.publisher) as publisher,
            open_nats_hub([url], user=None, password=None, name="gw1", access=access) as hub,
        ):
            await connected(publisher)
            await connected(hub)
            async with hub.announcements(["A"]) as first:
                shown.append(new.token)
                async with hub.announcements(["A", "B"]) as second:
                    assert await lost(first) == []
                    assert await lost(second) == []
                    await publisher.announce("B", b"b")
                    await publisher.announce("A", b"a")
                    assert await take(second, 2) == [b"b", b"a"]
                    assert hub.trouble == ""


async def test_users_that_the_broker_does_not_take_are_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, comes = Node("stays", "L"), Node("comes", "L")
    async with run_nats_server(tmp_path, port=0, nodes=[stays.user]) as server:
        async with stays.hub(server.connect_url) as hub:
            await connected(hub)
            with monkeypatch.context() as patch:
                patch.setattr(nats_process, "users_config", lambda *_: "no: { users")
                with pytest.raises(BrokerError, match=r"did not take .*nats-server\.conf: "):
                    await server.allow([stays.user, comes.user])
            assert hub.connected
            assert await server.allow([stays.user, comes.user])
            assert not await server.allow([stays.user, comes.user])
            async with comes.hub(server.connect_url) as other:
                await connected(other)
            assert hub.connected


async def test_what_a_client_calls_itself_is_not_taken_for_the_brokers_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the same log, and might hide that a revocation was not taken."""
    monkeypatch.setattr(nats_server, "RELOAD_TIMEOUT", 0.5)
    async with run_nats_server(tmp_path, port=0) as server:
        files, reload = server._files, [f"[1] 2026/11/22 22:00:00.000001 [INF] {RELOADED}"]

        def said(mark: int) -> str:
            return "\n".join(reload)

        monkeypatch.setattr(files, "said", said)
        assert await server.allow([Node("gw1", "L").user])
        reload[0] = f'[1] 2026/11/22 22:00:00.000001 [ERR] authentication error - User "{RELOADED}"'
        with pytest.raises(BrokerError, match=r"did not read .* within 0\.5 s"):
            await server.allow([Node("gw2", "L").user])


async def test_a_broker_that_dies_meanwhile_starts_with_the_users_of_now(tmp_path: Path) -> None:
    gone, comes = Node("gone", "L"), Node("comes", "L")
    async with run_nats_server(tmp_path, port=0, nodes=[gone.user]) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.allow([comes.user])
        with capture_logs() as logs:
            async with comes.hub(server.connect_url) as hub, gone.hub(server.connect_url):
                await connected(hub)
                await logged(logs, "broker.login_refused")


class Publisher:
    """Answers once with what it is given, and is away then; or says that nothing changed."""

    url = "http://publisher"

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, str]] = []

    def renew(self, token: str) -> None:
        assert token == "gs_token"

    async def request(self, method: str, path: str, **more: Any) -> Response:
        assert (method, path) == ("GET", "/v1/broker/users")
        self.asked.append(more["headers"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.fast
async def test_what_a_publisher_said_last_holds_until_it_says_something_else(
    tmp_path: Path,
) -> None:
    token, kept = tmp_path / "token", tmp_path / "broker-users.json"
    token.write_text("gs_token")
    token.chmod(0o600)
    nodes = (Node("gw1", "L").user,)
    body = msgspec.json.encode(BrokerUsersAnswer(nodes))
    publisher = Publisher(
        Response(200, {"etag": '"1"'}, body),
        Response(304, {}, b""),
        UnreachableError("it is away"),
        Response(200, {}, body[:-9]),
        Response(200, {}, b'{"nodes": [{"node": ">"}]}'),
        Response(200, {}, msgspec.json.encode(BrokerUsersAnswer(()))),
    )
    asked = _AskedPublisher(cast(HttpClient, publisher), token, kept, 1.0)
    assert asked.known == ()
    assert await asked.read() == nodes
    assert await asked.read() == nodes
    assert publisher.asked == [{}, {"If-None-Match": '"1"'}]
    for _ in range(3):
        with pytest.raises(BrokerError, match="http://publisher did not tell the nodes: "):
            await asked.read()
        assert asked.known == nodes
    token.chmod(0o644)
    with pytest.raises(BrokerError, match="others can access it"):
        await asked.read()
    token.chmod(0o600)

    def started_again() -> _AskedPublisher:
        return _AskedPublisher(cast(HttpClient, publisher), token, kept, 1.0)

    assert started_again().known == nodes
    assert await asked.read() == ()
    assert started_again().known == ()
    kept.write_text("{")
    with capture_logs() as logs:
        assert started_again().known == ()
    assert logs[0]["event"] == "broker.users_lost"
