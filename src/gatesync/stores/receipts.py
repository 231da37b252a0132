"""Where publishers keep what the gateways reported: an optional power of a store, beside `Saver`.

A **receipt book** has one record a node. What is in a record is its writer's business. Several
publishers write the same book: each write names the edition of the record that it replaces, and
one that somebody else replaced meanwhile is left alone, so that its writer looks and comes again.

The book is no part of promise 3. Losing it, or its last second, loses dates and nothing else: the
nodes say the rest again each heartbeat. Every adapter must pass `tests/contracts/receipts.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["KeepsReceipts", "MemoryReceiptBook", "NodeRecord", "ReceiptBook"]


class NodeRecord(msgspec.Struct, frozen=True, gc=False):
    """What a book keeps of a node.

    `edition` is a number that its writer made up for this write: no two have the same.
    `heard_at` is in milliseconds since 1970, by the writer's clock.
    """

    node: str
    edition: int
    heard_at: int
    state: bytes


class ReceiptBook(Protocol):
    """Each method raises `StoreError` when the book cannot be reached or refuses."""

    async def editions(self) -> dict[str, int]:
        """Every node in the book, with its record's edition. Asked often, and small."""
        ...

    async def read(self, nodes: Collection[str]) -> list[NodeRecord]:
        """The records of these nodes; one that is not there is left out."""
        ...

    async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
        """Write these records, at most one a node, and answer with the nodes that were written.

        Left alone is a node whose record has not the edition in `seen`; one that is not in `seen`
        must not be in the book.
        """
        ...

    async def remove(self, seen: Mapping[str, int]) -> None:
        """Remove the records of these nodes, where they still have these editions."""
        ...

    async def forget(self, before: int) -> None:
        """Remove the records of every node that was last heard before this moment."""
        ...


@runtime_checkable
class KeepsReceipts(Protocol):
    """What a store is that has room for a receipt book."""

    def receipt_book(self) -> AbstractAsyncContextManager[ReceiptBook]:
        """Open the book. Its work must not hold up what the store does besides.

        Raises `StoreError` when the store is not there at all.
        """
        ...


class MemoryReceiptBook:
    """A book in memory: for tests, and to read what the contract means."""

    def __init__(self, records: Sequence[NodeRecord] = ()) -> None:
        self._records = {each.node: each for each in records}

    async def editions(self) -> dict[str, int]:
        """See `ReceiptBook.editions`."""
        return {node: each.edition for node, each in self._records.items()}

    async def read(self, nodes: Collection[str]) -> list[NodeRecord]:
        """See `ReceiptBook.read`."""
        return [self._records[node] for node in nodes if node in self._records]

    async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
        """See `ReceiptBook.write`."""
        fresh = [each for each in records if self._edition(each.node) == seen.get(each.node)]
        self._records.update((each.node, each) for each in fresh)
        return {each.node for each in fresh}

    async def remove(self, seen: Mapping[str, int]) -> None:
        """See `ReceiptBook.remove`."""
        for node, edition in seen.items():
            if self._edition(node) == edition:
                self._records.pop(node, None)

    async def forget(self, before: int) -> None:
        """See `ReceiptBook.forget`."""
        self._records = {k: each for k, each in self._records.items() if each.heard_at >= before}

    def _edition(self, node: str) -> int | None:
        found = self._records.get(node)
        return found.edition if found else None
