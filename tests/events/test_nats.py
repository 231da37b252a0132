"""The NATS adapter against a real nats-server; what is not of every hub comes after the suite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gatesync.events import nats, nats_connection
from gatesync.events.hub import EventHub, HubError, Reported
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_connection import parse_endpoint
from tests.contracts.hub import PATIENCE, BrokerContract, OpenHub, connected, logged, lost, take
from tests.servers.nats import NatsProcess, nats_server

SECRET = "s3cret-Passw0rd"
USERS = """
authorization { users = [
  {user: "publisher", password: "s3cret-Passw0rd", permissions: {
     publish: {allow: ["gatesync.label.>"]}, subscribe: {allow: ["gatesync.report.>"]}}},
  {user: "gateway", password: "s3cret-Passw0rd", permissions: {
     publish: {allow: ["gatesync.report.>"]}, subscribe: {allow: ["gatesync.label.>"]}}},
] }
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[NatsProcess]:
    async with nats_server(tmp_path, USERS) as server:
        yield server


@pytest.fixture
def open_hub(server: NatsProcess) -> OpenHub:
    return partial(open_nats_hub, [server.url], user=None, password=None, name="test")


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[EventHub]:
    async with open_hub() as hub:
        await connected(hub)
        yield hub


class TestNatsHub(BrokerContract):
    pass


async def test_a_wrong_password_is_a_clear_log_and_error_and_no_crash(
    guarded: NatsProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs:
        async with open_nats_hub(
            [guarded.url], user="gateway", password="wr0ng-Secret", name="test"
        ) as hub:
            entry = await logged(logs, "broker.login_refused")
            assert entry["log_level"] == "warning"
            assert entry["endpoint"] == guarded.url
            assert "Authorization Violation" in hub.trouble
            assert "Authorization Violation" in entry["reason"]
            assert not hub.connected
            with pytest.raises(HubError, match="Authorization Violation") as refused:
                await hub.announce("L", b"x")
            async with hub.announcements(["L"]):
                await asyncio.sleep(0.3)  # some more attempts
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 1, "the same reason is a warning once"
    assert "wr0ng-Secret" not in str(logs) + str(refused.value)
    assert capfd.readouterr() == ("", "")


async def test_a_gateway_may_not_announce_nor_read_reports(guarded: NatsProcess) -> None:
    open_as = partial(open_nats_hub, [guarded.url], password=SECRET, name="test")
    with capture_logs() as logs:
        async with open_as(user="gateway") as gateway, open_as(user="publisher") as publisher:
            await connected(gateway)
            await connected(publisher)
            async with (
                gateway.announcements(["L"]) as news,
                publisher.reports() as reports,
                gateway.reports(),
            ):
                await gateway.announce("L", b"forged")
                await gateway.announce("L", b"forged")
                await gateway.report("node-1", b"mine")
                assert await take(reports, 1) == [Reported("node-1", b"mine")]
                await publisher.announce("L", b"true")
                assert await take(news, 1) == [b"true"]
    refused = [entry["reason"] for entry in logs if entry["event"] == "broker.refused"]
    assert len(refused) == 2, "each once, however often it is tried"
    assert "subscription to" in refused[0].lower()
    assert "gatesync.report.>" in refused[0]
    assert "label 'L': " in refused[1]
    assert "publish to" in refused[1].lower()
    assert "gatesync.label." in refused[1]


async def test_credentials_in_an_endpoint_are_used_and_never_shown(guarded: NatsProcess) -> None:
    url = guarded.url.replace("//", f"//gateway:{SECRET}@")
    with capture_logs() as logs:
        async with open_nats_hub([url], user=None, password=None, name="test") as hub:
            await connected(hub)
            await logged(logs, "broker.connected")
            guarded.kill()
            await logged(logs, "broker.unreachable")
            with pytest.raises(HubError) as refused:
                await hub.announce("L", b"x")
            shown = str(logs) + repr(refused.value) + repr(parse_endpoint(url, None, None))
    assert guarded.url in shown
    assert SECRET not in shown


@pytest.mark.parametrize("rest", ["h:99999", "h:0", "h:x", "", "h/path", "[::1"])
@pytest.mark.parametrize("start", ["nats://", "", "http://"])
async def test_an_endpoint_that_is_none_is_refused_at_once(start: str, rest: str) -> None:
    if start == "http://" and rest == "":
        rest = "h:1"
    text = f"{start}someone:{SECRET}@{rest}"
    with pytest.raises(HubError, match="broker endpoint") as refused:
        async with open_nats_hub([text], user=None, password=None, name="test"):
            pass
    assert SECRET not in str(refused.value)


async def test_no_endpoint_at_all_is_refused() -> None:
    with pytest.raises(HubError, match="at least one endpoint"):
        async with open_nats_hub([], user=None, password=None, name="test"):
            pass


def test_endpoints_take_the_forms_that_people_write() -> None:
    def url(text: str) -> str:
        return parse_endpoint(text, None, None).url

    assert url("broker") == url("nats://broker") == url("nats://broker:4222/")
    assert url("broker:4223") == "nats://broker:4223"
    assert url("tls://[::1]:4223") == "tls://[::1]:4223"
    endpoint = parse_endpoint("nats://a%40b:p%3Aw@broker", None, None)
    assert (endpoint.user, endpoint.password) == ("a@b", "p:w")
    endpoint = parse_endpoint("nats://a:b@broker", "user", "given")
    assert (endpoint.user, endpoint.password) == ("user", "given")


async def test_the_next_endpoint_is_tried_when_one_is_dead(
    server: NatsProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with nats_server(tmp_path_factory.mktemp("second")) as second:
        both = [server.url, second.url]
        async with open_nats_hub(
            both, user=None, password=None, name="test", jitter=lambda: 0.0
        ) as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                server.kill()
                assert await lost(listener) == []
                await hub.announce("L", b"over the second")
                assert await take(listener, 1) == [b"over the second"]


async def test_a_frozen_broker_does_not_hold_up_who_enters(
    hub: EventHub, server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "FLUSH_TIMEOUT", 0.1)
    server.freeze()
    async with asyncio.timeout(PATIENCE), hub.announcements(["L"]) as listener:
        server.thaw()
        assert await lost(listener) == []
        await hub.announce("L", b"thawed")
        assert await take(listener, 1) == [b"thawed"]


async def test_to_a_frozen_broker_nothing_piles_up(
    hub: EventHub, server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "FLUSH_TIMEOUT", 0.1)
    server.freeze()
    accepted = 0

    async def announce_without_end() -> None:
        nonlocal accepted
        while accepted < 200:
            await hub.announce("L", bytes(1_000_000))
            accepted += 1

    with pytest.raises(HubError):
        await announce_without_end()
    assert accepted < 30  # 8 MiB here, and what the sockets hold
    server.thaw()


async def test_a_hub_closes_though_its_broker_is_frozen(
    open_hub: OpenHub, server: NatsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "CLOSE_TIMEOUT", 0.1)
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE), open_hub() as hub:
        await connected(hub)
        server.freeze()
        for _ in range(8):
            await hub.announce("L", bytes(1_000_000))
        await asyncio.sleep(0.05)  # some of it is written, and some is not
    assert asyncio.all_tasks() == before


async def test_a_cancellation_that_comes_just_when_the_login_succeeds_counts(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.wait_for of Python 3.11, which nats-py waits with, swallows it."""
    connecting = asyncio.Event()
    connect = nats_connection.NatsConnection.connect

    async def swallow(self: nats_connection.NatsConnection, *args: Any, **options: Any) -> None:
        await connect(self, *args, **options)
        connecting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)

    monkeypatch.setattr(nats_connection.NatsConnection, "connect", swallow)

    async def stay() -> None:
        async with open_hub() as hub:
            await connected(hub)
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    async with asyncio.timeout(PATIENCE):
        await connecting.wait()
        staying.cancel()
        await asyncio.wait([staying])
    assert staying.cancelled()


async def test_entering_that_is_cancelled_does_not_break_the_connection(
    hub: EventHub, server: NatsProcess
) -> None:
    """nats-py by itself stops reading when the PONG of a cancelled flush arrives."""
    async with hub.announcements(["L"]) as listener:
        server.freeze()
        entering = asyncio.create_task(hub.announcements(["M"]).__aenter__())
        await asyncio.sleep(0.05)
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        server.thaw()
        await hub.announce("L", b"still the same connection")
        assert await take(listener, 1) == [b"still the same connection"]


async def test_the_ping_that_proves_a_subscription_follows_it() -> None:
    """nats-py's own PING overtakes the subscriptions before it."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1000}\r\n')
        while line := await reader.readline():
            heard.append(line.partition(b" ")[0].strip())
            if heard[-1] == b"PING":
                writer.write(b"PONG\r\n")
        writer.close()

    broker = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{broker.sockets[0].getsockname()[1]}"
    async with broker, open_nats_hub([url], user=None, password=None, name="test") as hub:
        await connected(hub)
        async with hub.announcements(["L"]):
            assert b"SUB" in heard[: _last(heard, b"PING")]


def _last(heard: list[bytes], word: bytes) -> int:
    return len(heard) - heard[::-1].index(word)


async def test_many_subscriptions_are_in_place_when_entering_returns(
    open_hub: OpenHub, hub: EventHub
) -> None:
    labels = [f"label {number}" for number in range(300)]
    async with open_hub() as other:
        await connected(other)
        for _ in range(5):
            async with hub.announcements(labels) as listener:
                await other.announce(labels[-1], b"last")
                assert await take(listener, 1) == [b"last"]


async def test_what_was_announced_before_the_hub_closes_still_goes_out(
    open_hub: OpenHub, hub: EventHub
) -> None:
    async with hub.announcements(["L"]) as listener:
        async with open_hub() as other:
            await connected(other)
            await other.announce("L", b"last words")
        assert await take(listener, 1) == [b"last words"]


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n", b"INFO []\r\n", b"\x00" * 100_000],
)
async def test_something_that_is_no_broker_is_reported(greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(greeting)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    no_broker = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{no_broker.sockets[0].getsockname()[1]}"
    async with no_broker:
        with capture_logs() as logs:
            async with open_nats_hub([url], user=None, password=None, name="test") as hub:
                entry = await logged(logs, "broker.unreachable")
                assert entry["reason"]
                assert not hub.connected


async def test_nothing_is_printed_by_the_library(
    open_hub: OpenHub, server: NatsProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs():
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                server.kill()
                await server.start()
                await lost(listener)
    assert capfd.readouterr() == ("", "")
