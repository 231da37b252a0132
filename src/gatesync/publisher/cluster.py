"""Finding each other: what a gateway that knows only a publisher's URL is told."""

from enum import StrEnum

import msgspec

from gatesync.artifacts.canonical import ARTIFACT_FORMAT
from gatesync.events.messages import EVENT_FORMAT, REPORT_FORMAT
from gatesync.events.nats_users import NodeUser
from gatesync.stores.wire import WIRE_FORMAT

__all__ = ["FORMATS", "BrokerLogin", "BrokerUsersAnswer", "ClusterAnswer", "EventHubAddress"]

FORMATS = (ARTIFACT_FORMAT, EVENT_FORMAT, REPORT_FORMAT, WIRE_FORMAT)


class BrokerLogin(StrEnum):
    """As whom a gateway connects to the broker."""

    NODE_KEY = "node-key"  # with the nkey that is made of its token
    OWN = "own"  # with what its own configuration says


class EventHubAddress(msgspec.Struct, frozen=True):
    """Where the broker is, and how a gateway logs in there. A login itself is told to nobody."""

    endpoints: tuple[str, ...]
    login: BrokerLogin


class BrokerUsersAnswer(msgspec.Struct, frozen=True):
    """The nodes that the broker shall let in, for a traffic manager on another machine."""

    nodes: tuple[NodeUser, ...]
    format: str = WIRE_FORMAT


class ClusterAnswer(msgspec.Struct, frozen=True):
    """The cluster as a publisher knows it. `event_hub` is None where there is no broker."""

    publisher: str
    epoch: str
    heartbeat_ms: int
    event_hub: EventHubAddress | None
    formats: tuple[str, ...] = FORMATS
    format: str = WIRE_FORMAT
