"""Cutting what is sent or fetched into batches that fit one request and little memory."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeVar

__all__ = ["in_batches", "in_shared_batches"]

# A batch may end behind one digest of 128, by the digest's last bits. It ends there if it has
# 64 by then; with at most 180 to a batch, batches have 140 on average.
_ENDS: Final = frozenset(("00", "80"))
_LEAST: Final = 64


class Sized(Protocol):
    """Something whose bytes a batch will hold."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...


class Content(Sized, Protocol):
    """Something that is named by the digest of its bytes."""

    @property
    def digest(self) -> str:
        """64 hex digits."""
        ...


_T = TypeVar("_T", bound=Sized)
_C = TypeVar("_C", bound=Content)


def in_batches(items: Iterable[_T], most_bytes: int, most_items: int) -> Iterator[list[_T]]:
    """Cut in the order given. One item that is larger than a batch is a batch of its own."""
    batch: list[_T] = []
    size = 0
    for item in items:
        if batch and (size + item.size > most_bytes or len(batch) == most_items):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


def in_shared_batches(items: Iterable[_C], most_bytes: int, most_items: int) -> Iterator[list[_C]]:
    """Cut what is sorted by digest where the digests say so, not by counting.

    Whoever wants nearly the same cuts nearly the same batches: one artifact more or less makes
    another batch of those around it, and leaves the following ones as they are. So nodes that
    start while changes are published ask for the same things, which one cache can answer.
    """
    batch: list[_C] = []
    size = 0
    for item in items:
        if batch and (size + item.size > most_bytes or len(batch) == most_items):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
        if item.digest[-2:] in _ENDS and len(batch) >= _LEAST:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
