"""How long changes took to get here, counted by buckets: what the histogram in metrics shows.

It is counted here and not by Prometheus' own client, which a gateway loads when it is first asked
for metrics: to load it takes as long as to deploy a thousand artifacts.
"""

from bisect import bisect_left
from typing import Final

__all__ = ["BUCKETS", "Delays"]

# From an event that brought its contents to a start with thousands of artifacts.
BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Delays:
    """Seconds from the commit of a change set, by the publisher's clock, to its end here.

    Attributes:
        counts: of each bucket by itself, and of what took longer than the last.
        total: seconds of all together.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def applied(self, seconds: float) -> None:
        """A change set is applied, so many seconds after it was published.

        Clocks of two machines differ: less than nothing counts as nothing.
        """
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds
