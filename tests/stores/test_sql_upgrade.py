"""Tables of older formats, with rows, are brought to the one of now; nothing of them is lost."""

import pytest
from sqlalchemy import Connection, text

from gatesync.stores import schema
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_check import check_database
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_retriever import open_sql_retriever
from gatesync.stores.sql_upgrade import upgrade_tables
from gatesync.stores.store import StoreError
from tests.contracts.saves import asked, held, publish, remove, saved
from tests.contracts.store_attesting import SIGNER, proved
from tests.stores.sql_bench import opened
from tests.stores.wso2_tables import engine_of

OPTIONS = SqlOptions()


def make_format_4(connection: Connection) -> None:
    """What formats 5 and 6 added is taken out again."""
    for table in (schema.attestations, schema.issued_heads, schema.leases):
        connection.execute(text(f"DROP TABLE {table.name}"))
    for column in ("CONFIRMATION_KEY_ID", "CONFIRMATION_SIGNATURE"):
        connection.execute(text(f"ALTER TABLE GS_HEAD DROP COLUMN {column}"))
    connection.execute(text("UPDATE GS_STORE SET SCHEMA_FORMAT = 4"))


def said_of(database: str) -> list[str]:
    engine = engine_of(database)
    with engine.connect() as connection:
        found = check_database(connection).findings
    engine.dispose()
    return [f"{each.where}: {each.what}" for each in found if not each.where.startswith("the")]


async def test_format_4_becomes_format_6_with_all_that_is_in_it(database: str) -> None:
    async with opened(database) as bench:
        epoch = bench.store.epoch
        await saved(bench, asked("Shop", publish("A"), publish("B"), remove("A")))
        confirmation = await bench.store.confirm("Shop", "c-1")
        before = await bench.store.change_sets("Shop", 0, 10)
    engine = engine_of(database)
    with engine.begin() as connection:
        make_format_4(connection)
    engine.dispose()

    [finding] = said_of(database)
    assert finding.startswith("SCHEMA_FORMAT: is 4, and this version of gatesync reads 6")
    assert "gatesync db upgrade" in finding
    with pytest.raises(StoreError, match=r"format 4.*end all publishers.*gatesync db upgrade"):
        async with open_sql_store(database):
            raise AssertionError
    async with open_sql_retriever(database) as retriever:
        with pytest.raises(StoreError, match=r"format 4.*gatesync db upgrade"):
            await retriever.heads(["Shop"])

    assert await upgrade_tables(database, OPTIONS) == 4
    assert await upgrade_tables(database, OPTIONS) is None
    assert said_of(database) == []
    async with opened(database) as bench:
        assert bench.store.epoch == epoch
        assert await bench.store.change_sets("Shop", 0, 10) == before
        assert (await bench.store.heads(["Shop"]))["Shop"].confirmation == confirmation
        assert await held(bench, "Shop") == {"B": b"<api/>"}
        await saved(bench, asked("Shop", publish("B", "2")), sign=SIGNER.change_set)
        await proved(bench, "Shop")
        signed = await bench.store.confirm("Shop", "c-2", sign=SIGNER.confirmation)
        assert (await bench.store.heads(["Shop"]))["Shop"].confirmation == signed


async def test_format_5_becomes_format_6_which_has_leases(database: str) -> None:
    async with opened(database) as bench:
        await saved(bench, asked("Shop", publish("A")))
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE GS_LEASE"))
        connection.execute(text("UPDATE GS_STORE SET SCHEMA_FORMAT = 5"))
    engine.dispose()
    assert await upgrade_tables(database, OPTIONS) == 5
    assert said_of(database) == []
    async with opened(database) as bench:
        assert (await bench.store.acquire_lease("rsync", "a", 60)).holder == "a"
        assert await held(bench, "Shop") == {"A": b"<api/>"}


async def test_an_upgrade_that_a_crash_ended_is_ended_by_the_next(database: str) -> None:
    """MySQL commits each statement: some of what is new may be there already."""
    async with opened(database) as bench:
        await saved(bench, asked("Shop", publish("A")))
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE GS_ISSUED_HEADS"))
        connection.execute(text("ALTER TABLE GS_HEAD DROP COLUMN CONFIRMATION_SIGNATURE"))
        connection.execute(text("UPDATE GS_STORE SET SCHEMA_FORMAT = 4"))
    engine.dispose()
    assert await upgrade_tables(database, OPTIONS) == 4
    assert said_of(database) == []


async def test_where_there_is_nothing_to_upgrade_nothing_is_made(database: str) -> None:
    assert await upgrade_tables(database, OPTIONS) is None
    engine = engine_of(database)
    with engine.connect() as connection:
        assert len(check_database(connection).findings) > 5
    engine.dispose()
