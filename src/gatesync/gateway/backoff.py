"""How long to wait before trying again: pure, the random number comes from the caller."""

import msgspec

__all__ = ["Backoff"]


class Backoff(msgspec.Struct, frozen=True):
    """Exponential waiting with full-range jitter of one half.

    Args:
        first: seconds before the second attempt.
        cap: no wait is longer, in seconds.
    """

    first: float = 1.0
    cap: float = 60.0

    def delay(self, failures: int, random: float) -> float:
        """Seconds to wait after this many failures in a row; `random` is from [0, 1)."""
        longest = min(self.cap, self.first * 2.0 ** min(max(failures - 1, 0), 30))
        return longest * (0.5 + random / 2)
