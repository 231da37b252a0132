"""As whom a role connects to the broker, and how: from the configuration, checked once at start.

A gateway logs in with the key that is made of its token, and needs nothing else. Where the broker
is one's own and knows no nodes, its configuration has another login, which goes before that.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from gatesync.config import ConfigError, Settings, load_adapter
from gatesync.config.plaintext import is_plain
from gatesync.config.problems import ConfigProblem
from gatesync.config.settings import EventHubSettings
from gatesync.config.tls import broker_access
from gatesync.events.access import BrokerAccess
from gatesync.events.hub import AskAgain, EventHub, HubAddress, HubError
from gatesync.events.nats_credentials import BrokerError, BrokerUser
from gatesync.events.nats_login import AccessError, read_login
from gatesync.gateway.agent import HubOpener

__all__ = ["checked_access", "hub_opener", "reading_again"]


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


def hub_opener(settings: Settings, name: str, node_token: Callable[[], str]) -> HubOpener:
    """What opens a gateway's hub on an address that a publisher, or the configuration, gives.

    `node_token` is this node's access token as it is now. It is not used where the configuration
    has another login for the broker.
    """
    hub = settings.event_hub
    open_hub = load_adapter("gatesync.events", hub.adapter, "gatesync.event_hub.adapter")
    access = checked_access(hub)
    user = hub.username
    password = hub.password.reveal() if hub.password and user else None
    if user is None and not access.logs_in:
        access = msgspec.structs.replace(access, node_token=node_token)

    def ours(told: HubAddress) -> HubAddress:
        plain = [url for url in told.endpoints if is_plain(url)]
        if plain and not settings.allow_plaintext and not access.encrypts:
            raise HubError(
                f"the publisher names {plain[0]}, which is unencrypted beyond this machine; have "
                "it name tls://, or set allow_plaintext = true in [gatesync]"
            )
        return HubAddress(told.endpoints, user or "", password or "")

    def opened(told: HubAddress, ask_again: AskAgain) -> AbstractAsyncContextManager[EventHub]:
        async def ask() -> HubAddress:
            return ours(await ask_again())

        endpoints = ours(told).endpoints
        hub: AbstractAsyncContextManager[EventHub] = open_hub(
            endpoints,
            user=user,
            password=password,
            name=name,
            access=broker_access(access, settings.tls, endpoints),
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
