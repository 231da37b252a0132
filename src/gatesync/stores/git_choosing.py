"""Of what people pushed at once: as much as can go live together. Pure."""

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["largest"]

_T = TypeVar("_T")


def largest(wanted: Sequence[_T], accepted: Callable[[Sequence[_T]], bool]) -> list[_T]:
    """As many of these as are accepted together, found by halves.

    The same for all who ask the same. It is not always the most that would be possible, but
    nothing is left out that could be added to it alone.
    """
    taken: list[_T] = []
    left = list(wanted)
    while left:
        before = len(taken)
        taken, left = _extended(taken, left, accepted)
        if len(taken) == before:
            break
    return taken


def _extended(
    taken: list[_T], wanted: list[_T], accepted: Callable[[Sequence[_T]], bool]
) -> tuple[list[_T], list[_T]]:
    """What is taken with as many of these as that, and those that were left."""
    if accepted([*taken, *wanted]):
        return [*taken, *wanted], []
    if len(wanted) == 1:
        return taken, wanted
    middle = len(wanted) // 2
    taken, first = _extended(taken, wanted[:middle], accepted)
    taken, second = _extended(taken, wanted[middle:], accepted)
    return taken, [*first, *second]
