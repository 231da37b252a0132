"""As whom a role connects to the broker, and how: from the configuration, checked once at start."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gatesync.config import ConfigError, Settings, load_adapter
from gatesync.config.plaintext import is_plain
from gatesync.config.problems import ConfigProblem
from gatesync.config.settings import EventHubSettings
from gatesync.config.tls import broker_access
from gatesync.events.access import BrokerAccess
from gatesync.events.hub import AskAgain, EventHub, HubAddress, HubError
from gatesync.events.nats_credentials import BrokerError, BrokerUser, read_credentials_file
from gatesync.events.nats_login import AccessError, read_login
from gatesync.gateway.agent import HubOpener

__all__ = ["checked_access", "given_login", "hub_opener", "reading_again"]


def checked_access(hub: EventHubSettings) -> BrokerAccess:
    """The access as configured. Raises `ConfigError` where a file of it cannot be used.

    One that has expired is no reason not to start: it may be renewed, and gateways serve without.
    """
    try:
        read_login(hub.access)
    except AccessError as error:
        if not error.expired:
            problem = ConfigProblem(str(error), f"gatesync.event_hub.{error.key}")
            raise ConfigError([problem]) from None
    return hub.access


def given_login(hub: EventHubSettings) -> BrokerUser | None:
    """The user that a gateway's configuration gives. Raises `BrokerError` for a broken file."""
    if hub.credentials_file is not None:
        return read_credentials_file(hub.credentials_file).gateway
    if hub.username is None:
        return None
    return BrokerUser(hub.username, hub.password.reveal() if hub.password else "")


def hub_opener(settings: Settings, name: str) -> HubOpener:
    """What opens a gateway's hub on an address that a publisher, or the configuration, gives.

    The gateway's own login, where it has one, goes before what the publisher tells.
    """
    hub = settings.event_hub
    open_hub = load_adapter("gatesync.events", hub.adapter, "gatesync.event_hub.adapter")
    access = checked_access(hub)
    given_login(hub)  # one that cannot be read is told of now

    def ours(told: HubAddress) -> HubAddress:
        plain = [url for url in told.endpoints if is_plain(url)]
        if plain and not settings.allow_plaintext and not access.encrypts:
            raise HubError(
                f"the publisher names {plain[0]}, which is unencrypted beyond this machine; have "
                "it name tls://, or set allow_plaintext = true in [gatesync]"
            )
        try:
            login = given_login(hub)
        except BrokerError as error:
            raise HubError(str(error)) from None
        return told if login is None else HubAddress(told.endpoints, login.user, login.password)

    def opened(told: HubAddress, ask_again: AskAgain) -> AbstractAsyncContextManager[EventHub]:
        async def ask() -> HubAddress:
            return ours(await ask_again())

        address = ours(told)
        hub: AbstractAsyncContextManager[EventHub] = open_hub(
            address.endpoints,
            user=address.username or None,
            password=address.password or None,
            name=name,
            access=broker_access(access, settings.tls, address.endpoints),
            ask_again=ask,
        )
        return hub

    return opened


def reading_again(
    endpoints: tuple[str, ...], path: Path, whose: Callable[[Path], BrokerUser]
) -> Callable[[], Awaitable[HubAddress]]:
    """An `AskAgain` that reads a credentials file anew: the broker may have got other users."""

    async def ask() -> HubAddress:
        try:
            user = whose(path)
        except BrokerError as error:
            raise HubError(str(error)) from None
        return HubAddress(endpoints, user.user, user.password)

    return ask
