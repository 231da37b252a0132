"""A gateway that reads slowly: what it holds in memory, and what it holds up in the database."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

from gatesync.stores.sql_retriever import open_sql_retriever
from tests.contracts.saves import asked, publish
from tests.stores.sql_bench import SqlBench, opened

MIB = 1024 * 1024
OPEN_TRANSACTIONS = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    ),
    "mariadb": (
        "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        " ON p.id = t.trx_mysql_thread_id WHERE p.db = database() AND p.id <> connection_id()"
    ),
}


def open_transactions(url: str) -> int:
    """How many transactions of others are open in the database."""
    backend = make_url(url).get_backend_name()
    driver = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}.get(
        backend, "mariadb+pymysql"
    )
    engine = create_engine(make_url(url).set(drivername=driver), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if backend == "sqlite":
            # The WAL cannot be reset while anybody reads from it.
            connection.execute(text("PRAGMA busy_timeout = 0"))
            busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).first()
            found: Any = busy and busy[0]
        else:
            found = connection.scalar(text(OPEN_TRANSACTIONS[backend]))
    engine.dispose()
    return int(found)


async def test_between_two_pages_no_transaction_is_open(database: str) -> None:
    async with opened(database) as bench, open_sql_retriever(database) as retriever:
        items = [publish(f"N{number}", f"content {number}") for number in range(100)]
        await bench.store.save([asked("Shop", items)])
        page = await retriever.manifest("Shop", limit=30)
        pages = 1
        while page.after is not None:
            assert open_transactions(database) == 0
            page = await retriever.manifest("Shop", at=page.head.cursor, after=page.after, limit=30)
            pages += 1
        assert pages == 4
        for start in range(0, 100, 25):
            wanted = [each.entry.digest for each in items[start : start + 25]]
            assert len(await retriever.contents(wanted)) == 25
            assert open_transactions(database) == 0


async def test_the_count_of_open_transactions_can_fail(database: str) -> None:
    async with opened(database) as bench, open_sql_retriever(database) as retriever:
        await bench.store.save([asked("Shop", publish("A"))])
        seen = await retriever._read(lambda _connection, _epoch: open_transactions(database))
        assert seen == 1


async def test_memory_does_not_grow_with_what_is_fetched(database: str) -> None:
    async with opened(database) as bench:
        await fill(bench, count=24, size=8 * MIB - 1024)
        read = await_reader(database)
    assert (read["artifacts"], read["contents"]) == (24, 24)
    assert read["bytes"] > 190 * MIB
    # One batch is 8 MiB. PostgreSQL sends it as text, twice as long, and there are copies.
    assert read["rss_peak"] - read["rss_at_first"] < 128 * MIB


async def fill(bench: SqlBench, *, count: int, size: int) -> None:
    for number in range(count):
        await bench.store.save([asked("Shop", publish(f"N{number}", os.urandom(size)))])


def await_reader(url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.streaming_reader", url, "Shop"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
