"""How a gateway starts: when it is ready, and how patiently it tries again until then.

    sync   not ready before all of the first lists was processed; what fails is tried again
           `retries` times with the same wait between tries, and then the node starts without it
    async  ready at once; waits are doubled from the first try on, to at most an hour

Pure: the caller brings clock and random numbers. The words are those of WSO2's documentation.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from gatesync.gateway.backoff import Backoff

__all__ = ["RETRY_SECONDS_MAX", "Mode", "StartUp"]

RETRY_SECONDS_MAX: Final = 3_600.0  # "bounded with 1 hr", the documentation says

Mode: TypeAlias = Literal["sync", "async"]


class StartUp:
    """The start of one gateway process.

    Args:
        mode: see the module.
        retries: sync: how often what fails is tried again before the node starts without it.
        wait: seconds before the first retry.
        cap: no wait is longer, in seconds.
        from_cache: serve from the node's own disk at once, before the store has answered.

    Attributes:
        ready: whether the start is over. It stays so.
    """

    def __init__(
        self,
        mode: Mode = "sync",
        *,
        retries: int = 10,
        wait: float = 15.0,
        cap: float = RETRY_SECONDS_MAX,
        from_cache: bool = False,
    ) -> None:
        self.mode = mode
        self.from_cache = from_cache or mode == "async"
        self.ready = mode == "async"
        self._retries = retries
        self._wait = wait
        self._backoff = Backoff(wait, max(wait, cap))
        self._failing: dict[str, float] = {}

    def delay(self, failures: int, random: float) -> float:
        """Seconds until what failed so many times in a row is tried again."""
        return self._backoff.delay(failures, random) if self.ready else self._wait

    def failed(self, what: str, now: float) -> None:
        """A label, or the contents, could not be read from the store."""
        self._failing.setdefault(what, now)

    def answered(self, what: str) -> None:
        """The store answered."""
        self._failing.pop(what, None)

    def gave_up_on(self, what: str, now: float) -> bool:
        """Whether that failed for as long as all retries take: a try in between changes nothing."""
        since = self._failing.get(what)
        return since is not None and now - since >= self._retries * self._wait

    def look(self, unread: Iterable[str], attempts: Iterable[int], now: float) -> bool:
        """Whether the start is over just now, and was not before.

        Args:
            unread: what was not read from the store yet: labels, or the contents.
            attempts: how often each artifact that is refused was tried.
            now: seconds on the monotonic clock.
        """
        if self.ready or any(not self.gave_up_on(each, now) for each in unread):
            return False
        self.ready = all(attempt > self._retries for attempt in attempts)
        return self.ready
