"""The receipt books: in memory, in a file, in a database."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from gatesync.stores.receipts import KeepsReceipts, MemoryReceiptBook, ReceiptBook
from gatesync.stores.receipts_file import FileReceiptBook
from gatesync.stores.store import StoreError
from tests.contracts.receipts import ReceiptBookContract, held, record, seen
from tests.stores.sql_bench import SqlBench, opened


@pytest.mark.fast
class TestMemoryReceiptBook(ReceiptBookContract):
    @pytest.fixture
    def book(self) -> ReceiptBook:
        return MemoryReceiptBook()


@pytest.mark.fast
class TestFileReceiptBook(ReceiptBookContract):
    @pytest.fixture
    def book(self, tmp_path: Path) -> ReceiptBook:
        return FileReceiptBook(tmp_path / "receipts")


@pytest.fixture
async def bench(database: str) -> AsyncIterator[SqlBench]:
    async with opened(database) as bench:
        yield bench


class TestSqlReceiptBook(ReceiptBookContract):
    @pytest.fixture
    async def book(self, bench: SqlBench) -> AsyncIterator[ReceiptBook]:
        async with bench.store.receipt_book() as book:
            yield book


@pytest.mark.fast
async def test_a_file_is_found_again_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    first, second = record("gw1", b"one"), record("gw2", b"two")
    await FileReceiptBook(path).write([first, second], {})
    again = FileReceiptBook(path)
    assert await held(again) == {"gw1": b"one", "gw2": b"two"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await again.remove(seen(first))
    await FileReceiptBook(path).forget(second.heard_at + 1)
    assert await FileReceiptBook(path).editions() == {}


@pytest.mark.fast
@pytest.mark.parametrize("content", [b"", b"\xc1 broken", b"\x80"])
def test_a_file_that_cannot_be_read_is_told_of_and_begun_anew(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "receipts"
    path.write_bytes(content)
    with capture_logs() as logs:
        FileReceiptBook(path)
    assert [(each["log_level"], each["file"]) for each in logs] == [("warning", path)]


@pytest.mark.fast
async def test_a_folder_that_is_gone_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    book = FileReceiptBook(tmp_path / "gone" / "receipts")
    with pytest.raises(StoreError, match=r"gone/receipts.* cannot be written: No such file"):
        await book.write([record("gw1")], {})


async def test_the_book_of_a_database_outlives_its_store(bench: SqlBench) -> None:
    assert isinstance(bench.store, KeepsReceipts)
    async with bench.store.receipt_book() as book:
        await book.write([record("gw1", b"kept")], {})
    await bench.reopen()
    async with bench.store.receipt_book() as book:
        assert await held(book) == {"gw1": b"kept"}


async def test_a_store_without_the_table_gets_it(bench: SqlBench) -> None:
    await bench.store._write(lambda c: c.execute(text("DROP TABLE IF EXISTS GS_RECEIPT")))
    async with bench.store.receipt_book() as book, bench.store.receipt_book() as other:
        assert await book.editions() == {}
        await other.write([record("gw1")], {})
        assert set(await book.editions()) == {"gw1"}


async def test_a_table_that_was_dropped_meanwhile_is_made_again(bench: SqlBench) -> None:
    async with bench.store.receipt_book() as book:
        await book.write([record("gw1")], {})
        await bench.store._write(lambda c: c.execute(text("DROP TABLE GS_RECEIPT")))
        with pytest.raises(StoreError):
            await book.write([record("gw1")], {})
        assert await book.write([record("gw1")], {}) == {"gw1"}
