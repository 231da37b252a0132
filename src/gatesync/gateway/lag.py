"""Telling a replica that lags from another history."""

from collections.abc import Callable
from typing import Final

from gatesync.artifacts.changes import Cursor, Head

__all__ = ["LAG_SECONDS", "Lag"]

LAG_SECONDS: Final = 60.0  # an older state that a replica shows for longer is another history


class Lag:
    """What publishers said of each label, next to what a store that may lag shows.

    Args:
        seconds: for how long an older state may be lag; 0 for a store that never lags.
        clock: the monotonic clock.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._heard: dict[str, Cursor] = {}
        self._since: dict[str, float] = {}

    def hear(self, label: str, cursor: Cursor) -> None:
        """A publisher says that the label is there."""
        before = self._heard.get(label)
        if before is None or before.epoch != cursor.epoch or before.revision < cursor.revision:
            self._heard[label] = cursor

    def settle(self, label: str, cursor: Cursor) -> None:
        """A publisher says that the label is there and no further."""
        self._heard[label] = cursor

    def explains(self, head: Head, known: Cursor | None) -> bool:
        """Whether the store shows less than what is known because it lags (promise 2)."""
        if known is None or head.epoch != known.epoch or head.revision >= known.revision:
            self._since.pop(head.label, None)
            return False
        return self._clock() - self._since.setdefault(head.label, self._clock()) < self._seconds

    def hides(self, head: Head) -> bool:
        """Whether a publisher told of more than the store shows: it proves nothing (promise 11)."""
        heard = self._heard.get(head.label)
        if not self._seconds or heard is None or heard.epoch != head.epoch:
            return False
        return heard.revision > head.revision
