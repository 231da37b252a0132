"""Finding each other: what a gateway that knows only a publisher's URL is told."""

import msgspec

from gatesync.artifacts.canonical import ARTIFACT_FORMAT
from gatesync.events.messages import EVENT_FORMAT, REPORT_FORMAT
from gatesync.stores.wire import WIRE_FORMAT

__all__ = ["FORMATS", "ClusterAnswer", "EventHubAddress"]

FORMATS = (ARTIFACT_FORMAT, EVENT_FORMAT, REPORT_FORMAT, WIRE_FORMAT)


class EventHubAddress(msgspec.Struct, frozen=True):
    """Where the broker is, and as whom a gateway connects to it."""

    endpoints: tuple[str, ...]
    username: str = ""
    password: str = ""


class ClusterAnswer(msgspec.Struct, frozen=True):
    """The cluster as a publisher knows it. `event_hub` is None where there is no broker."""

    publisher: str
    epoch: str
    heartbeat_ms: int
    event_hub: EventHubAddress | None
    formats: tuple[str, ...] = FORMATS
    format: str = WIRE_FORMAT
