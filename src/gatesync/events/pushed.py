"""An event that a publisher pushes to a gateway by HTTP: where to, how large, and the answer.

The body is the message as the broker would carry it.
"""

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["EVENTS_PATH", "EVENT_MAX_BYTES", "EVENT_TYPE", "MadeOf", "PushAnswer"]

EVENTS_PATH: Final = "/v1/events"
EVENT_TYPE: Final = "application/x-msgpack"
EVENT_MAX_BYTES: Final = 8 * 1024 * 1024  # as our broker's; a larger one is told of by its head
_FORMAT: Final = "gatesync.push/1"


class MadeOf(StrEnum):
    """What a node made of an event."""

    TAKEN = "taken"  # it was news, and this node follows it from here
    KNOWN = "known"  # it came before, from here or elsewhere (promise 7)
    ASKING = "asking"  # it does not fit what the node knows; it asks the store
    NOT_MINE = "not mine"  # the node follows none of its labels
    WAITING = "waiting"  # the node is busy with others; this one's turn comes


class PushAnswer(msgspec.Struct, frozen=True):
    """A node's answer: who it is, which endpoints it is for, and what it made of the event."""

    node: str
    made: MadeOf
    type: str = "hybrid"
    format: str = _FORMAT

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format {self.format!r} is unknown; this version reads {_FORMAT!r}")
