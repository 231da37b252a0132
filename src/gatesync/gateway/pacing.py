"""How often a node reports while one change follows the other: at once, until there are too many.

A thousand nodes that each answer every one of a thousand changes would keep their publishers from
publishing. A report says everything since the last one, so that rarer ones lose nothing.
"""

from typing import Final

__all__ = ["BURST", "REPORTS_PER_SECOND", "Pace"]

BURST: Final = 100  # reports that may go out each at its change's heel
REPORTS_PER_SECOND: Final = 10.0  # after them, until it is quieter again


class Pace:
    """A bucket of `BURST` reports that fills again. Pure: it is told the time, in seconds."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._at = now

    def spares(self, now: float) -> bool:
        """Take one report's worth if there is one; else nothing, and `take` says how long."""
        if self._left + (now - self._at) * REPORTS_PER_SECOND < 1:
            return False
        self.take(now)
        return True

    def take(self, now: float) -> float:
        """Take one report's worth; answers with the seconds to wait before it is sent."""
        self._left = min(float(BURST), self._left + (now - self._at) * REPORTS_PER_SECOND) - 1
        self._at = now
        return max(0.0, -self._left / REPORTS_PER_SECOND)
