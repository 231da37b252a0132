"""How often each credential may ask: a token bucket for each, of which one number is kept.

That is the time at which its bucket is full again. Each request moves it on by what one request
costs; it may lie `burst` seconds ahead of now, and no further.
"""

import math
import time
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["BURST_SECONDS", "REQUESTS_PER_SECOND", "Rates"]

REQUESTS_PER_SECOND: Final = 1_000  # more than one process answers of most requests
BURST_SECONDS: Final = 10.0
_KEPT_MOST: Final = 4_096  # before those that are full, and so like new ones, are let go
_ROUNDING: Final = 1e-6  # seconds; a sum of many parts of a second is not exact


class Rates:
    """Counts the requests of each credential.

    Args:
        per_second: what each may ask for as long as it likes; 0: without limit.
        burst: seconds of that which it may ask at once.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        per_second: float = REQUESTS_PER_SECOND,
        *,
        burst: float = BURST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cost = 1 / per_second if per_second else 0.0
        self._burst = burst
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}

    def wait(self, who: Hashable) -> int:
        """Count a request: 0 where it may be answered, else the seconds until it may be.

        One that may not be answered costs nothing: who asks again in time is answered.
        """
        now = self._clock()
        full_at = max(now, self._full_at.get(who, now))
        over = full_at + self._cost - now - self._burst
        if self._cost and over > _ROUNDING:
            return math.ceil(over - _ROUNDING)
        self._full_at[who] = full_at + self._cost
        if len(self._full_at) > _KEPT_MOST:
            self._full_at = {each: at for each, at in self._full_at.items() if at > now}
        return 0
