"""What a real nats-server refuses, or ends a connection for: by name."""

import asyncio
import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.artifacts.names import label_token
from gatesync.events import nats
from gatesync.events.access import BrokerAccess
from gatesync.events.hub import Lost
from gatesync.events.messages import (
    ChangeAnnounced,
    HeadsAnnounced,
    contents_of,
    decode_announcement,
)
from gatesync.events.nats import NatsHub, open_nats_hub
from gatesync.events.nats_trouble import refusal_of, trouble_of
from gatesync.publisher.announcing import Announcer
from gatesync.stores.memory import MemoryStore
from tests.contracts.hub import connected, logged, lost, take
from tests.contracts.saves import asked, publish
from tests.servers.nats import nats_server

open_hub = partial(open_nats_hub, user=None, password=None, name="test")


def allowed(*labels: str, publish: str = "gatesync.>") -> str:
    subjects = ", ".join(f'"gatesync.label.{label_token(label)}"' for label in labels)
    return (
        'authorization { users: [ { user: "u", password: "p", permissions: {'
        f' publish: {{ allow: ["{publish}"] }}, subscribe: {{ allow: [{subjects}] }} }} }} ] }}'
    )


async def test_a_refusal_names_the_label_and_is_no_reason_to_reconnect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is granted later is heard from then on, on the same connection."""
    monkeypatch.setattr(nats, "RETRY_REFUSED", 0.1)
    async with nats_server(tmp_path, allowed("Mine")) as server:
        with capture_logs() as logs:
            async with open_nats_hub(
                [server.url], user="u", password="p", name="test"
            ) as hub, hub.announcements(["Mine", "A B"]) as listener:  # fmt: skip
                await lost(listener)
                entry = await logged(logs, "broker.refused")
                assert entry["reason"].startswith("label 'A B': ")
                assert "label 'A B': " in hub.trouble
                await hub.announce("Mine", b"heard")
                assert await take(listener, 1) == [b"heard"]
                await server.reload(allowed("Mine", "A B"))
                assert "and did not before" in (await _next_lost(listener)).why
                await hub.announce("A B", b"granted")
                assert await take(listener, 1) == [b"granted"]
                assert hub.trouble == ""


async def _next_lost(listener: object) -> Lost:
    (message,) = await take(listener, 1)  # type: ignore[arg-type]
    assert isinstance(message, Lost)
    return message


async def test_an_announcement_that_is_not_allowed_is_told_by_its_label(tmp_path: Path) -> None:
    async with nats_server(tmp_path, allowed("Mine", publish="nothing")) as server:
        with capture_logs() as logs:
            async with open_nats_hub([server.url], user="u", password="p", name="test") as hub:
                await connected(hub)
                for _ in range(3):
                    await hub.announce("Mine", b"x")
                await logged(logs, "broker.refused")
                assert hub.trouble.startswith("label 'Mine': ")
                assert "publish to" in hub.trouble.lower()
                assert hub.connected
    assert len([e for e in logs if e["event"] == "broker.refused"]) == 1
    assert not [e for e in logs if e["event"] == "broker.lost"]


async def test_a_consumer_that_reads_too_slowly_is_dropped_and_told(tmp_path: Path) -> None:
    limits = 'max_payload: 64KB\nmax_pending: 256KB\nwrite_deadline: "200ms"'
    async with nats_server(tmp_path, limits) as server:
        with capture_logs() as logs:
            async with open_hub([server.url]) as slow, open_hub([server.url]) as fast:
                await connected(slow)
                await connected(fast)
                async with slow.announcements(["L"]) as listener:
                    _stop_reading(slow)
                    for _ in range(500):
                        await fast.announce("L", bytes(64_000))
                    async with asyncio.timeout(10):
                        while "Slow Consumer" not in server.said():  # noqa: ASYNC110
                            await asyncio.sleep(0.01)
                    _stop_reading(slow, resume=True)
                    await lost(listener)
                    await connected(slow)
                    await fast.announce("L", b"fresh")
                    assert await take(listener, 1) == [b"fresh"]
        (entry,) = [e for e in logs if e["event"] in {"broker.lost", "broker.slow_consumer"}]
        assert "read" in entry["reason"]
        assert "slow" in entry["reason"]


def _stop_reading(hub: object, *, resume: bool = False) -> None:
    assert isinstance(hub, NatsHub)
    assert hub._connection is not None
    transport = hub._connection._transport._io_writer.transport
    transport.resume_reading() if resume else transport.pause_reading()


async def test_an_event_that_is_too_large_goes_without_contents_else_as_heads(
    tmp_path: Path,
) -> None:
    """Promise 3: a broker's limit never keeps a change from being told."""
    async with nats_server(tmp_path, "max_payload: 4096") as server:
        async with open_hub([server.url]) as hub, hub.announcements(["L"]) as listener:
            await lost(listener)
            saver = MemoryStore()
            announcer = Announcer(saver, hub, "p")
            small = publish("small")
            large = publish("large", os.urandom(8_192).hex())
            many = [publish(f"api {number}") for number in range(60)]
            for items in ([small], [large], many):
                request = asked("L", [*items])
                (outcome,) = await saver.save([request])
                await announcer.saved(request, outcome)
            heard = [decode_announcement(each) for each in await take(listener, 3) if each]  # type: ignore[arg-type]
            first, second, third = heard
            assert isinstance(first, ChangeAnnounced)
            assert contents_of(first)
            assert isinstance(second, ChangeAnnounced)
            assert not contents_of(second)
            assert isinstance(third, HeadsAnnounced)
            (head,) = third.heads
            assert head == (await saver.heads(["L"]))["L"]
            assert announcer.failures == 0


async def test_a_silent_broker_is_given_up_within_two_pings(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        access = BrokerAccess(ping_seconds=0.3)
        with capture_logs() as logs:
            async with open_hub([server.url], access=access) as hub:
                async with hub.announcements(["L"]) as listener:
                    await lost(listener)
                    loop = asyncio.get_running_loop()
                    server.freeze()
                    began = loop.time()
                    entry = await logged(logs, "broker.silent")
                    assert 0.2 < loop.time() - began < 0.3 * 2 + 0.5
                    assert "no answer to two pings" in entry["reason"]
                    server.thaw()
                    assert await lost(listener) == []


async def test_a_broker_that_is_about_to_end_is_left_for_another(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Lame duck mode: an administrator empties a server before it is stopped."""
    lame = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "10s"'
    async with (
        nats_server(tmp_path_factory.mktemp("first"), lame) as first,
        nats_server(tmp_path_factory.mktemp("second")) as second,
    ):
        with capture_logs() as logs:
            urls = [first.url, second.url]
            async with open_hub(urls, jitter=lambda: 0.0) as hub:
                async with hub.announcements(["L"]) as listener:
                    await lost(listener)
                    os.kill(first.pid, signal.SIGUSR2)
                    assert await lost(listener) == []
                    assert (await logged(logs, "broker.connected", 2))["endpoint"] == second.url
                    await logged(logs, "broker.closing")


async def test_a_broker_that_is_full_is_named(tmp_path: Path) -> None:
    async with nats_server(tmp_path, "max_connections: 1") as server:
        with capture_logs() as logs:
            async with open_hub([server.url]) as first:
                await connected(first)
                async with open_hub([server.url]) as second:
                    entry = await logged(logs, "broker.full")
                    assert "max_connections" in entry["reason"]
                    assert "maximum connections exceeded" in second.trouble.lower()


async def test_clients_share_out_over_the_brokers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with (
        nats_server(tmp_path_factory.mktemp("first")) as first,
        nats_server(tmp_path_factory.mktemp("second")) as second,
    ):
        with capture_logs() as logs:
            for count, chance in enumerate((0.1, 0.9), start=1):
                urls = [first.url, second.url]
                async with open_hub(urls, jitter=lambda chance=chance: chance):
                    await logged(logs, "broker.connected", count)
        found = [e["endpoint"] for e in logs if e["event"] == "broker.connected"]
        assert found == [first.url, second.url]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("said", "event"),
    [
        ("Authorization Violation", "broker.login_refused"),
        ("user authentication expired", "broker.login_expired"),
        ("account authentication expired", "broker.login_expired"),
        ("user authentication revoked", "broker.login_expired"),
        ("authentication timeout", "broker.login_refused"),
        ("slow consumer", "broker.slow_consumer"),
        ("maximum connections exceeded", "broker.full"),
        ("maximum account active connections exceeded", "broker.full"),
        ("maximum payload violation", "broker.message_refused"),
        ("nats: stale connection", "broker.silent"),
        ("the broker did not answer within 5 s", "broker.silent"),
        ("nats: unexpected EOF", "otherwise"),
        ("[Errno 111] Connect call failed", "otherwise"),
    ],
)
def test_each_reason_has_its_name(said: str, event: str) -> None:
    trouble = trouble_of(said, "otherwise")
    assert trouble.event == event
    assert said in trouble.reason
    assert refusal_of(said) is None


@pytest.mark.fast
def test_what_is_refused_is_no_end_of_the_connection() -> None:
    found = refusal_of("'permissions violation for publish to \"gatesync.label.ab\"'")
    assert found is not None
    assert (found.subject, found.subscribing) == ("gatesync.label.ab", False)
    for said in ("permissions violation", "maximum subscriptions exceeded"):
        assert refusal_of(said) is not None


@pytest.mark.fast
def test_the_page_has_every_name() -> None:
    root = Path(__file__).parents[2]
    ours = root / "src" / "gatesync"
    files = [*(ours / "events").glob("nats*.py"), ours / "cli" / "broker_users.py"]
    sources = [path.read_text() for path in files]
    names = {name for text in sources for name in re.findall(r'"(broker\.[a-z_]+)"', text)}
    quiet = {"broker.connected", "broker.moved", "broker.not_found", "broker.close_failed"}
    embedded = {"broker.listening", "broker.login"}
    page = (root / "docs" / "traffic-manager.md").read_text()
    assert set(re.findall(r"^\| `(broker\.[a-z_]+)` \|", page, re.MULTILINE)) == (
        names - quiet - embedded
    )
