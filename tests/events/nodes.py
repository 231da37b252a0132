"""A node with a token of its own, as a broker of ours knows it."""

import secrets
from contextlib import AbstractAsyncContextManager

from gatesync.events.access import BrokerAccess
from gatesync.events.hub import EventHub
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_credentials import BrokerUser
from gatesync.events.nats_users import node_user
from gatesync.events.nkeys import key_of_token


class Node:
    """Reads `labels`, or all where there are none."""

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self.token = f"gs_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        self.user = node_user(name, key_of_token(self.token).public, labels or None)
        self.access = BrokerAccess(node_token=lambda: self.token)

    def hub(self, url: str) -> AbstractAsyncContextManager[EventHub]:
        """The node's way to the broker there."""
        return open_nats_hub([url], user=None, password=None, name=self.name, access=self.access)


def publishers_hub(url: str, who: BrokerUser) -> AbstractAsyncContextManager[EventHub]:
    """A publisher's."""
    return open_nats_hub([url], user=who.user, password=who.password, name="publisher")
