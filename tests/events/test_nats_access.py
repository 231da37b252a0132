"""Getting in at a real nats-server: tokens, keys, credentials files, TLS; and not getting in."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.events import nats
from gatesync.events.access import BrokerAccess
from gatesync.events.hub import EventHub, HubAddress, HubError
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_login import AccessError, read_login
from gatesync.secret import Secret
from tests.contracts.hub import connected, logged, lost, take
from tests.events.broker_keys import ACCOUNT, USER, Authority, Nkey, Operator
from tests.servers.nats import NatsProcess, nats_server

TOKEN = "t0ken-that-n0body-knows"


def open_with(url: str, **access: object) -> AbstractAsyncContextManager[EventHub]:
    return open_nats_hub(
        [url], user=None, password=None, name="test", access=BrokerAccess(**access)
    )  # fmt: skip


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


async def carries(hub: EventHub) -> None:
    await connected(hub)
    async with hub.announcements(["L"]) as listener:
        await hub.announce("L", b"news")
        assert await take(listener, 1) == [b"news"]


async def refused(hub: EventHub, logs: list[object], event: str, *words: str) -> None:
    """It is said by this name, in the log and in readiness; nothing secret is."""
    entry = await logged(logs, event)
    for word in words:
        assert word in entry["reason"]
        assert word in hub.trouble
    assert not hub.connected
    assert TOKEN not in str(logs)


async def test_a_token(tmp_path: Path) -> None:
    async with nats_server(tmp_path, f'authorization {{ token: "{TOKEN}" }}') as server:
        async with open_with(server.url, token=Secret(TOKEN)) as hub:
            await carries(hub)
        with capture_logs() as logs:
            async with open_with(server.url, token=Secret(TOKEN[::-1])) as hub:
                await refused(hub, logs, "broker.login_refused", "Authorization Violation")


async def test_an_nkey(tmp_path: Path) -> None:
    key = Nkey(USER)
    seed = private(tmp_path / "seed", key.seed + "\n")
    config = f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"
    async with nats_server(tmp_path, config) as server:
        async with open_with(server.url, nkey_file=seed) as hub:
            await carries(hub)
        private(seed, Nkey(USER).seed)
        with capture_logs() as logs:
            async with open_with(server.url, nkey_file=seed) as hub:
                await refused(hub, logs, "broker.login_refused")
                assert key.seed not in str(logs)


async def test_a_credentials_file_and_what_comes_when_its_user_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker ends the connection; a renewed file counts at the next attempt."""
    monkeypatch.setattr(nats, "RETRY_LOGIN", 0.2)
    operator = Operator()
    creds = private(tmp_path / "user.creds", operator.credentials(int(time.time()) + 2))
    async with nats_server(tmp_path, operator.config) as server:
        with capture_logs() as logs:
            async with open_with(server.url, creds_file=creds) as hub:
                await carries(hub)
                async with hub.announcements(["L"]) as listener:
                    entry = await logged(logs, "broker.login_expired")
                    assert "authentication expired" in entry["reason"].lower()
                    entry = await logged(logs, "broker.login_expired", 2)
                    assert f"{creds}: its user expired at" in entry["reason"]
                    assert str(creds) in hub.trouble
                    private(creds, operator.credentials(int(time.time()) + 600))
                    assert await lost(listener) == []
                    await connected(hub)
                    assert hub.trouble == ""
                await carries(hub)


async def test_tls_with_a_certificate_of_ones_own_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("broker", "127.0.0.1")
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'
    async with nats_server(tmp_path, config) as server:
        url = server.url.replace("nats:", "tls:")
        async with open_with(url, tls_ca=authority.file) as hub:
            await carries(hub)
        with capture_logs() as logs:
            async with open_with(url) as hub:
                await refused(hub, logs, "broker.tls_failed", "certificate is refused")


async def test_mutual_tls_reads_its_files_again_when_it_reconnects(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("broker", "broker.example")
    own_cert, own_key = authority.issue("gateway")
    config = (
        f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{authority.file}", '
        "verify: true }"
    )
    async with nats_server(tmp_path, config) as server:
        url = server.url.replace("nats:", "tls:")
        named = {"tls_ca": authority.file, "tls_server_name": "broker.example"}
        with capture_logs() as logs:
            async with open_with(url, **named) as hub:
                await refused(hub, logs, "broker.tls_failed")
        with capture_logs() as logs:
            async with open_with(
                url, tls_ca=authority.file, tls_cert=own_cert, tls_key=own_key
            ) as hub:
                await refused(hub, logs, "broker.tls_failed", "certificate is refused: ")
        async with open_with(url, **named, tls_cert=own_cert, tls_key=own_key) as hub:
            await carries(hub)
            async with hub.announcements(["L"]) as listener:
                newer = Authority(tmp_path)  # writes its own over the other's files
                newer.issue("broker", "broker.example")
                newer.issue("gateway")
                server.kill()
                await server.start()
                assert await lost(listener) == []
            await carries(hub)


@pytest.mark.parametrize("how", ["tls://", "tls_ca"])
async def test_nothing_is_said_to_a_broker_that_does_not_encrypt(tmp_path: Path, how: str) -> None:
    """Nobody on the way may strip TLS and be told the token."""
    heard = bytearray()

    async def eavesdrop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1000, "auth_required": true}\r\n')
        heard.extend(await reader.read())
        writer.close()

    spy = await asyncio.start_server(eavesdrop, "127.0.0.1", 0)
    address = f"127.0.0.1:{spy.sockets[0].getsockname()[1]}"
    more = {} if how == "tls://" else {"tls_ca": Authority(tmp_path).file}
    url = ("tls://" if how == "tls://" else "nats://") + address
    async with spy:
        with capture_logs() as logs:
            async with open_with(url, token=Secret(TOKEN), **more) as hub:
                await refused(hub, logs, "broker.tls_failed", "offers no TLS")
    assert not heard


async def test_a_broker_where_tls_is_an_offer_is_taken_at_its_word(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("broker", "127.0.0.1")
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\nallow_non_tls: true'
    async with nats_server(tmp_path, config) as server:
        url = server.url.replace("nats:", "tls:")
        with capture_logs() as logs:
            async with open_with(url) as hub:  # it does encrypt: the certificate is looked at
                await refused(hub, logs, "broker.tls_failed", "certificate is refused")
        async with open_with(url, tls_ca=authority.file) as hub:
            await carries(hub)


class Files:
    """Good files of each kind, to be spoiled one at a time."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.tls_ca = authority.file
        self.tls_cert, self.tls_key = authority.issue("gateway")
        self.other_key = authority.issue("other")[1]
        self.nkey_file = private(folder / "seed", Nkey(USER).seed)
        self.creds_file = private(folder / "creds", Operator().credentials())

    def read(self, key: str) -> None:
        given = {key: getattr(self, key)}
        if key in {"tls_cert", "tls_key"}:
            given = {"tls_cert": self.tls_cert, "tls_key": self.tls_key}
        read_login(BrokerAccess(**given))


KEYS = ("nkey_file", "creds_file", "tls_ca", "tls_cert", "tls_key")


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def open_to_others(path: Path) -> None:
    path.chmod(0o640)


def another_kind(path: Path) -> None:
    path.write_text("hello")


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def cut_short(path: Path) -> None:
    path.write_text(path.read_text()[:-60])


@pytest.mark.fast
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "spoil", [missing, folder, open_to_others, another_kind, not_text, cut_short]
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, key: str, spoil: Callable[[Path], None]
) -> None:
    files = Files(tmp_path)
    files.read(key)
    path = getattr(files, key)
    content = path.read_text()
    spoil(path)
    if spoil is open_to_others and key in {"tls_ca", "tls_cert"}:
        files.read(key)  # those are for everyone
        return
    with pytest.raises(AccessError) as refused:
        files.read(key)
    assert str(path) in str(refused.value)
    assert refused.value.key in {key, "tls_key"}
    assert not any(len(line) > 20 and line in str(refused.value) for line in content.splitlines())


@pytest.mark.fast
def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.tls_key = files.other_key
    with pytest.raises(AccessError, match=r"other\.key: is no key of the certificate"):
        files.read("tls_key")


@pytest.mark.fast
def test_a_key_of_an_account_is_no_login(tmp_path: Path) -> None:
    seed = private(tmp_path / "seed", Nkey(ACCOUNT).seed)
    with pytest.raises(AccessError, match="no user's nkey seed"):
        read_login(BrokerAccess(nkey_file=seed))


@pytest.mark.fast
def test_a_login_shows_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path)
    login = read_login(BrokerAccess(creds_file=files.creds_file, token=Secret(TOKEN)))
    assert repr(login) == "Login(***)"
    assert TOKEN not in repr(BrokerAccess(token=Secret(TOKEN)))
    assert "pa55" not in repr(HubAddress(("nats://h",), "u", "pa55"))


async def test_a_file_that_comes_later_is_used_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "RETRY_LOGIN", 0.1)
    key = Nkey(USER)
    config = f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"
    async with nats_server(tmp_path, config) as server:
        with capture_logs() as logs:
            async with open_with(server.url, nkey_file=tmp_path / "seed") as hub:
                await refused(hub, logs, "broker.login_unusable", "No such file")
                new = private(tmp_path / "new", key.seed)
                os.replace(new, tmp_path / "seed")  # noqa: PTH105
                await carries(hub)


async def test_a_broker_that_moved_is_asked_for_and_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another password, too; a wrong answer meanwhile changes nothing."""
    monkeypatch.setattr(nats, "ASK_SECONDS", 0.05)
    answers: list[HubAddress | HubError] = []

    async def ask_again() -> HubAddress:
        answer = answers.pop(0) if answers else HubError("nobody knows")
        if isinstance(answer, HubError):
            raise answer
        return answer

    def users(password: str) -> str:
        return f'authorization {{ user: "u", password: "{password}" }}'

    old = NatsProcess(tmp_path_factory.mktemp("old"), users("one"))
    await old.start()
    try:
        async with (
            nats_server(tmp_path_factory.mktemp("new"), users("two")) as new,
            open_nats_hub(
                [old.url], user="u", password="one", name="t", ask_again=ask_again
            ) as hub,
        ):
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                old.kill()
                answers += [
                    HubError("away"),
                    HubAddress((), "u", "two"),
                    HubAddress(("amqp://h",), "u", "two"),
                    HubAddress((old.url,), "u", "one"),
                    HubAddress((new.url,), "u", "two"),
                ]
                assert await lost(listener) == []
                await hub.announce("L", b"there")
                assert await take(listener, 1) == [b"there"]
            assert not answers
    finally:
        old.kill()
