"""Counts and times of a gateway's main loop, which status and metrics show."""

from collections import Counter

import msgspec

__all__ = ["Pulse"]


class Pulse(msgspec.Struct):
    """Times are on the monotonic clock."""

    events: int = 0
    pushed: int = 0
    refused_events: int = 0
    lost: int = 0
    pulls: int = 0
    lists: int = 0
    head_queries: int = 0
    turns_waited: int = 0
    store_failures: int = 0
    why: Counter[str] = msgspec.field(default_factory=Counter)  # of pulls and lists
    store_error: str = ""
    heard: float = float("-inf")
    turn: float = float("-inf")  # when a publisher that was busy has time for this node
