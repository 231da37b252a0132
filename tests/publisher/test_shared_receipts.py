"""Two publishers on one database: what one of them heard, the other one answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.events.messages import LabelReport
from gatesync.publisher.fleet import Receipt, ReceiptStatus
from gatesync.publisher.service import Publisher
from gatesync.stores.sql import open_sql_store
from tests.publisher.test_fleet import EPOCH, at, refusal, report

pytestmark = pytest.mark.promise(9)

HEARTBEAT = 0.2


@asynccontextmanager
async def publisher(database: str, name: str) -> AsyncIterator[Publisher]:
    async with open_sql_store(database) as store, store.receipt_book() as book:
        made = Publisher(store, None, name, heartbeat=HEARTBEAT, book=book)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.wait([running])


def hear(one: Publisher, *labels: LabelReport, sequence: int = 1, leaving: bool = False) -> None:
    one.fleet.receive(report(*labels, sequence=sequence, leaving=leaving))


def receipt(one: Publisher, revision: int) -> Receipt | None:
    found = one.fleet.receipts("L", Cursor(EPOCH, revision), revision)
    return found[0] if found else None


async def learns(one: Publisher, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await one.fleet.change(one.fleet.version, HEARTBEAT)


async def test_what_one_heard_the_other_answers_and_so_does_who_starts_later(
    database: str,
) -> None:
    async with publisher(database, "one") as one, publisher(database, "other") as other:
        hear(one, at(7, took_us=900, exceptions=(refusal(5),)))
        await learns(other, lambda: receipt(other, 7) is not None)
        assert receipt(other, 7) == receipt(one, 7)
        failed = receipt(other, 5)
        assert failed is not None
        assert failed.status is ReceiptStatus.FAILED
        hear(other, at(8, took_us=70), sequence=2)
        await learns(one, lambda: receipt(one, 8) == receipt(other, 8))
    async with publisher(database, "later") as later:
        await learns(later, lambda: receipt(later, 8) is not None)
        found = receipt(later, 8)
        assert found is not None
        assert (found.status, found.took_us) == (ReceiptStatus.APPLIED, 70)


async def test_who_says_goodbye_to_one_is_gone_for_all(database: str) -> None:
    async with publisher(database, "one") as one, publisher(database, "other") as other:
        hear(one, at(7))
        await learns(other, lambda: len(other.fleet) == 1)
        hear(other, sequence=2, leaving=True)
        await learns(one, lambda: len(one.fleet) == 0)
    async with publisher(database, "later") as later, publisher(database, "last") as last:
        hear(later, at(1, label="M"))
        await learns(last, lambda: len(last.fleet) > 0)
        assert last.fleet.labels() == {"M"}
