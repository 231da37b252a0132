"""Cutting what is sent or fetched into batches that fit one request and little memory."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["in_batches"]


class Sized(Protocol):
    """Something whose bytes a batch will hold."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...


_T = TypeVar("_T", bound=Sized)


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
