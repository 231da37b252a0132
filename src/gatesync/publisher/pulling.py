"""Handing out full pulls: at most so many nodes at once, and a time to come back for the others.

A full pull is what a node does that has to read a label from its first page on: the manifest, and
then contents in large batches. It has a place from its first request until it rests, and all that
its node asks in between is answered at once. Who finds no place is told when it is its turn, by
how long the pulls of the last minutes took; those who are due go before those who are not.

Pure: the caller brings clock and random numbers, and tells of each request's begin and end. Heads
and changes are no business of this module: they are never limited.
"""

import time
from collections.abc import Callable

import msgspec

__all__ = ["PULLS_AT_ONCE", "FullPulls", "PullCounts"]

PULLS_AT_ONCE = 64
"""Nodes, by default: enough to keep one publisher busy, and at 3 batches of 8 MiB for each node
at most 1.5 GiB of contents that are different, which they are not where nodes are alike."""

WAIT_SECONDS = 60
"""Nobody is told to wait for longer; whose turn is later is told so again."""

_REST_SECONDS = 0.5  # a pull is over when its node asked for nothing for so long
_STUCK_SECONDS = 120.0  # an answer that takes longer is one that nobody reads
_HOLD_SECONDS = 2.0  # for so long a place is kept for someone who is due
_GIVEN_UP_SECONDS = 90.0  # who did not come back for so long will not
_FIRST_GUESS = 1.0  # seconds that a pull takes, before there was one
_WEIGHT = 0.1  # of the newest pull in what pulls take


class PullCounts(msgspec.Struct, frozen=True):
    """What metrics show."""

    under_way: int
    waiting: int
    deferred: int


class _Pull(msgspec.Struct):
    """One node's: how many of its requests are being answered, and since when it rests."""

    began: float
    asked: float
    requests: int = 0
    rests: float = 0.0

    def is_over(self, now: float) -> bool:
        if self.requests:
            return now - self.asked > _STUCK_SECONDS
        return now - self.rests > _REST_SECONDS


class FullPulls:
    """Who may pull now, and when the others may.

    Args:
        most: nodes that pull at once.
        clock: the monotonic clock, in seconds.
        random: a number from [0, 1).
    """

    def __init__(
        self,
        most: int = PULLS_AT_ONCE,
        *,
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._clock = clock
        self._random = random
        self._under_way: dict[str, _Pull] = {}
        self._waiting: dict[str, float] = {}  # when each is due, in the order in which they came
        self._seconds = _FIRST_GUESS
        self._deferred = 0

    def begin(self, node: str) -> int | None:
        """A node asks for a part of a full pull: None lets it; else the seconds to wait.

        Each `begin` that answers None needs an `end`.
        """
        now = self._clock()
        pull = self._under_way.get(node)
        if pull is None:
            self._clean_up(now)
            if not self._has_place_for(node, now):
                return self._defer(node, now)
            self._waiting.pop(node, None)
            pull = self._under_way[node] = _Pull(now, now)
        pull.requests += 1
        pull.asked = now
        return None

    def go_on(self, node: str) -> bool:
        """A node asks for a further page, which nobody refuses; whether an `end` is to follow."""
        return node in self._under_way and self.begin(node) is None

    def end(self, node: str) -> None:
        """The answer was sent, or will never be."""
        pull = self._under_way.get(node)
        if pull is not None:
            pull.requests -= 1
            pull.rests = self._clock()

    def counts(self) -> PullCounts:
        """How things stand."""
        self._clean_up(self._clock())
        return PullCounts(len(self._under_way), len(self._waiting), self._deferred)

    def _has_place_for(self, node: str, now: float) -> bool:
        """Whether a place is free that nobody who came before is due to take."""
        free = self._most - len(self._under_way)
        for each, due in self._waiting.items():
            if free <= 0 or each == node:
                break
            free -= due <= now <= due + _HOLD_SECONDS
        return free > 0

    def _defer(self, node: str, now: float) -> int:
        self._deferred += 1
        self._waiting.setdefault(node, now)
        ahead = next(n for n, each in enumerate(self._waiting) if each == node)
        turn = (ahead + 1) * self._seconds / self._most
        # Spread over a second, or a quarter of the wait: those who came together return one by one.
        wait = turn + max(1.0, turn / 4) * self._random()
        self._waiting[node] = now + max(1.0, wait)
        return max(1, min(round(wait), WAIT_SECONDS))

    def _clean_up(self, now: float) -> None:
        for node, pull in list(self._under_way.items()):
            if pull.is_over(now):
                del self._under_way[node]
                took = (pull.rests or now) - pull.began
                self._seconds += _WEIGHT * (took + _REST_SECONDS - self._seconds)
        late = now - _GIVEN_UP_SECONDS
        for node in [node for node, due in self._waiting.items() if due < late]:
            del self._waiting[node]
