"""What a role makes of its configuration before it connects."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatesync.cli import broker_login
from gatesync.cli.broker_login import checked_access, hub_opener, reading_again
from gatesync.config import ConfigError, Settings, load
from gatesync.events.hub import AskAgain, EventHub, HubAddress, HubError
from gatesync.events.in_process import InProcessHub
from gatesync.events.nats_credentials import ensure_credentials, read_credentials_file
from tests.events.broker_keys import Operator

pytestmark = pytest.mark.fast

TOKEN = f"gs_0123456789ab_{'x' * 43}"
LOCAL = HubAddress(("nats://127.0.0.1:4222",), "told", "told-password")


class Opened:
    """An adapter that notes with what it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.endpoints: Sequence[str] = ()
        self.given: dict[str, Any] = {}
        monkeypatch.setattr(broker_login, "load_adapter", lambda *_: self)

    @asynccontextmanager
    async def __call__(self, endpoints: Sequence[str], **given: Any) -> AsyncIterator[EventHub]:
        self.endpoints, self.given = endpoints, given
        yield InProcessHub()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


def settings(folder: Path, text: str = "") -> Settings:
    path = folder / "deployment.toml"
    path.write_text(text)
    return load(path).settings


def asking(address: HubAddress) -> AskAgain:
    async def ask() -> HubAddress:
        return address

    return ask


async def as_whom(opened: Opened, found: Settings, told: HubAddress = LOCAL) -> tuple[Any, Any]:
    """The user and password that it shows, and the token that it makes a key of."""
    async with hub_opener(found, "gateway n", lambda: TOKEN)(told, asking(told)):
        node_token = opened.given["access"].node_token
        user = (opened.given["user"], opened.given["password"])
        return user, node_token and node_token()


@pytest.mark.promise(8)
async def test_a_gateway_shows_the_key_of_its_token_whatever_a_publisher_tells(
    opened: Opened, tmp_path: Path
) -> None:
    assert await as_whom(opened, settings(tmp_path)) == ((None, None), TOKEN)
    assert opened.endpoints == LOCAL.endpoints
    assert opened.given["name"] == "gateway n"
    async with hub_opener(settings(tmp_path), "n", lambda: TOKEN)(LOCAL, asking(LOCAL)):
        again = await opened.given["ask_again"]()
    assert (again.endpoints, again.username, again.password) == (LOCAL.endpoints, "", "")


async def test_the_configurations_own_login_goes_before(opened: Opened, tmp_path: Path) -> None:
    own = settings(tmp_path, "[apim.event_hub]\nusername = 'mine'\npassword = 'my-password'")
    assert await as_whom(opened, own) == (("mine", "my-password"), None)
    own = settings(tmp_path, "gatesync.event_hub.token = 'for the broker'")
    assert await as_whom(opened, own) == ((None, None), None)


async def test_the_publishers_login_is_not_for_gateways(opened: Opened, tmp_path: Path) -> None:
    """Though it stands in the file of a machine that has both."""
    own = settings(tmp_path, "gatesync.event_hub.credentials_file = 'broker-credentials.json'")
    assert await as_whom(opened, own) == ((None, None), TOKEN)


async def test_new_credentials_count_when_a_publisher_asks_again(tmp_path: Path) -> None:
    path = tmp_path / "broker-credentials.json"
    again = reading_again(("nats://h",), path, lambda p: read_credentials_file(p).publisher)
    with pytest.raises(HubError, match="is missing"):
        await again()
    new = ensure_credentials(tmp_path).publisher
    assert await again() == HubAddress(("nats://h",), new.user, new.password)
    path.write_text("{}")
    with pytest.raises(HubError, match="is broken"):
        await again()


async def test_plain_text_beyond_this_machine_is_not_spoken_on_a_publishers_word(
    opened: Opened, tmp_path: Path
) -> None:
    far = HubAddress(("tls://broker.example", "nats://broker.example"), "told", "told-password")
    with pytest.raises(HubError, match=r"names nats://broker\.example, which is unencrypted"):
        await as_whom(opened, settings(tmp_path), far)
    await as_whom(opened, settings(tmp_path, "gatesync.allow_plaintext = true"), far)
    insists = settings(tmp_path, "gatesync.event_hub.tls_server_name = 'broker'")
    await as_whom(opened, insists, far)
    async with hub_opener(settings(tmp_path), "n", lambda: TOKEN)(LOCAL, asking(far)):
        with pytest.raises(HubError, match="unencrypted"):
            await opened.given["ask_again"]()


def test_a_file_that_is_missing_ends_the_start_by_its_key(tmp_path: Path) -> None:
    found = settings(tmp_path, "gatesync.event_hub.nkey_file = 'seed'")
    with pytest.raises(ConfigError) as refused:
        checked_access(found.event_hub)
    assert "gatesync.event_hub.nkey_file" in str(refused.value)
    assert str(tmp_path / "seed") in str(refused.value)


def test_credentials_that_expired_do_not_keep_a_node_from_starting(tmp_path: Path) -> None:
    """Promise 10: it serves what it has; the file may be renewed meanwhile."""
    path = tmp_path / "user.creds"
    path.write_text(Operator().credentials(expires=1))
    path.chmod(0o600)
    found = settings(tmp_path, "gatesync.event_hub.creds_file = 'user.creds'")
    assert checked_access(found.event_hub).creds_file == path
