"""A receipt book in a file, for one publisher whose store has no room for one."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from gatesync.private_file import write_private_file
from gatesync.stores.receipts import MemoryReceiptBook, NodeRecord
from gatesync.stores.store import StoreError

__all__ = ["FileReceiptBook"]

_log = structlog.get_logger("gatesync.publisher")


class _Document(msgspec.Struct, frozen=True):
    records: tuple[NodeRecord, ...]
    format: Literal["gatesync.receipt-book/1"] = "gatesync.receipt-book/1"


_decoder: Final = msgspec.msgpack.Decoder(_Document)


class FileReceiptBook(MemoryReceiptBook):
    """Held in memory, and written whole after each change. See `ReceiptBook`.

    A file that cannot be read is told of, and begun anew.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_records_in(path))
        self._path = path
        self._lock = asyncio.Lock()

    async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
        """See `ReceiptBook.write`."""
        written = await super().write(records, seen)
        await self._keep()
        return written

    async def remove(self, seen: Mapping[str, int]) -> None:
        """See `ReceiptBook.remove`."""
        await super().remove(seen)
        await self._keep()

    async def forget(self, before: int) -> None:
        """See `ReceiptBook.forget`."""
        known = len(self._records)
        await super().forget(before)
        if len(self._records) != known:
            await self._keep()

    async def _keep(self) -> None:
        async with self._lock:
            content = msgspec.msgpack.encode(_Document(tuple(self._records.values())))
            try:
                await asyncio.to_thread(write_private_file, self._path, content)
            except OSError as error:
                raise StoreError(f"{self._path} cannot be written: {error.strerror}") from error


def _records_in(path: Path) -> tuple[NodeRecord, ...]:
    try:
        return _decoder.decode(path.read_bytes()).records
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("earlier receipts cannot be read and are gone", file=path, reason=str(error))
        return ()
