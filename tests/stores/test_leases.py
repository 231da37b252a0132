"""Leases: in memory, in a database; and what two processes on one database see."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from gatesync.stores.leases import KeepsLeases, LeaseRecord, MemoryLeases, taken
from gatesync.stores.memory import MemoryStore
from gatesync.stores.sql import SqlStore, open_sql_store
from tests.contracts.leases import LONG, LeaseBench, LeaseContract


class MemoryBench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryLeases(lambda: self.now)

    async def let_run_out(self, name: str) -> None:
        self.now += LONG


@pytest.mark.fast
class TestMemoryLeases(LeaseContract):
    @pytest.fixture
    def bench(self) -> LeaseBench:
        return MemoryBench()


class SqlLeaseBench:
    def __init__(self, store: SqlStore) -> None:
        self.store = store

    async def let_run_out(self, name: str) -> None:
        change = text(
            "UPDATE GS_LEASE SET RENEWED_AT = RENEWED_AT - :long WHERE LEASE_NAME = :name"
        )
        values = {"long": int(LONG * 1000), "name": name}
        await self.store._write(lambda c: c.execute(change, values))


@pytest.fixture
async def sql_bench(database: str) -> AsyncIterator[SqlLeaseBench]:
    async with open_sql_store(database) as store:
        yield SqlLeaseBench(store)


class TestSqlLeases(LeaseContract):
    @pytest.fixture
    def bench(self, sql_bench: SqlLeaseBench) -> LeaseBench:
        return sql_bench


async def test_stores_on_one_database_at_once_give_it_to_one(database: str) -> None:
    async with (
        open_sql_store(database) as one,
        open_sql_store(database) as two,
        open_sql_store(database) as three,
    ):
        stores = {"one": one, "two": two, "three": three}
        for number in range(5):
            asked = (s.acquire_lease(f"l{number}", name, LONG) for name, s in stores.items())
            [lease] = set(await asyncio.gather(*asked))
            renewed = [await store.renew_lease(lease, LONG) for store in stores.values()]
            assert renewed == [True, True, True]
        assert (await two.acquire_lease("l0", "two", LONG)).term == 1


async def test_the_database_judges_the_time(sql_bench: SqlLeaseBench) -> None:
    mine = await sql_bench.store.acquire_lease("rsync", "a", 0.2)
    async with asyncio.timeout(60):
        holder = "a"
        while holder == "a":
            await asyncio.sleep(0.05)
            holder = (await sql_bench.store.acquire_lease("rsync", "b", LONG)).holder
    assert not await sql_bench.store.renew_lease(mine, LONG)


@pytest.mark.fast
def test_which_stores_keep_leases() -> None:
    assert isinstance(MemoryLeases(), KeepsLeases)
    assert not isinstance(MemoryStore(), KeepsLeases)
    assert issubclass(SqlStore, KeepsLeases)


@pytest.mark.fast
@given(st.integers(-10_000, 10_000), st.integers(0, 5_000), st.sampled_from(["a", "b"]))
def test_only_what_ran_out_or_was_given_up_changes_hands(
    passed: int, length: int, asker: str
) -> None:
    before = LeaseRecord("a", 7, 100_000, length)
    after = taken(before, asker, 2.0, 100_000 + passed)
    over = length == 0 or abs(passed) >= length
    if asker == "a" and length:
        assert after == LeaseRecord("a", 7, 100_000 + passed, 2_000)
    elif over:
        assert after == LeaseRecord(asker, 8, 100_000 + passed, 2_000)
    else:
        assert after is before
