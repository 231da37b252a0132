"""`db check`: each thing that is wrong with a database is found, and what it prints mends it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.stores import schema
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_check import Checked, check_database
from gatesync.stores.sql_opening import make_reading_engine
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked, publish
from tests.servers.mariadb import MariadbProcess
from tests.servers.postgresql import PostgresqlProcess
from tests.stores.wso2_tables import engine_of, make_wso2_tables, row, rows_of

MARIADB = {
    "ALTER TABLE AM_GW_API_ARTIFACTS MODIFY ARTIFACT BLOB NOT NULL": (
        "AM_GW_API_ARTIFACTS.ARTIFACT: is blob, which holds 64 KiB at most"
    ),
    "ALTER TABLE GS_OLD_CONTENT MODIFY ARTIFACT MEDIUMBLOB": (
        "GS_OLD_CONTENT.ARTIFACT: may be NULL"
    ),
    "ALTER TABLE GS_HEAD MODIFY GATEWAY_LABEL VARCHAR(255) CHARACTER SET latin1 NOT NULL": (
        "GS_HEAD.GATEWAY_LABEL: has collation latin1_swedish_ci (not every letter"
    ),
    "ALTER TABLE GS_HEAD MODIFY GATEWAY_LABEL VARCHAR(255)"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL": "(case and accents do not count)",
    "ALTER TABLE GS_HEAD MODIFY GATEWAY_LABEL VARCHAR(255)"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL": "(spaces at the end do not count)",
    "ALTER TABLE GS_HEAD CONVERT TO CHARACTER SET utf8mb3": "GS_HEAD.DIGEST: has collation utf8mb3",
    "ALTER TABLE GS_CHANGE MODIFY CONTEXT VARCHAR(99)"
    " CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL": (
        "GS_CHANGE.CONTEXT: holds 99 characters; 255 are needed"
    ),
    "ALTER TABLE GS_CHANGE MODIFY REVISION INTEGER NOT NULL": "GS_CHANGE.REVISION: is int; bigint",
    "ALTER TABLE GS_CHANGE DROP PRIMARY KEY": "GS_CHANGE: has no primary key",
    "ALTER TABLE GS_CLAIM DROP PRIMARY KEY, ADD PRIMARY KEY (CLAIM)": (
        "GS_CLAIM: has the primary key (CLAIM); (GATEWAY_LABEL, CLAIM) is needed"
    ),
    "DROP INDEX GS_CHANGE_ARTIFACT ON GS_CHANGE": "GS_CHANGE: has no index GS_CHANGE_ARTIFACT",
    "ALTER TABLE GS_REQUEST DROP COLUMN SAVED_AT": "GS_REQUEST.SAVED_AT: is missing",
    "ALTER TABLE GS_STORE ENGINE = MyISAM": "GS_STORE: is a table of MyISAM",
}
POSTGRESQL = {
    'ALTER TABLE GS_HEAD ALTER COLUMN GATEWAY_LABEL TYPE VARCHAR(255) COLLATE "default"': (
        "GS_HEAD.GATEWAY_LABEL: has the database's own collation"
    ),
    'ALTER TABLE GS_CHANGE ALTER COLUMN CONTEXT TYPE VARCHAR(99) COLLATE "C"': "holds 99",
    "ALTER TABLE GS_CHANGE ALTER COLUMN REVISION TYPE INTEGER": "GS_CHANGE.REVISION: is integer",
    "ALTER TABLE GS_CHANGE ALTER COLUMN DIGEST DROP NOT NULL": "GS_CHANGE.DIGEST: may be NULL",
    "ALTER TABLE GS_CHANGE DROP CONSTRAINT gs_change_pkey": "GS_CHANGE: has no primary key",
    "ALTER TABLE GS_CLAIM DROP CONSTRAINT gs_claim_pkey, ADD PRIMARY KEY (CLAIM)": (
        "GS_CLAIM: has the primary key (CLAIM); (GATEWAY_LABEL, CLAIM) is needed"
    ),
    "DROP INDEX GS_CHANGE_ARTIFACT": "GS_CHANGE: has no index GS_CHANGE_ARTIFACT",
    "ALTER TABLE GS_REQUEST DROP COLUMN SAVED_AT": "GS_REQUEST.SAVED_AT: is missing",
}


def checked(database: str) -> Checked:
    engine = make_reading_engine(database, SqlOptions())
    try:
        with engine.connect() as connection:
            return check_database(connection)
    finally:
        engine.dispose()


def told(database: str) -> str:
    return "\n".join(f"{each.where}: {each.what}" for each in checked(database).findings)


def execute(database: str, *statements: str) -> None:
    engine = engine_of(database)
    with engine.begin() as connection:
        for each in statements:
            connection.exec_driver_sql(each)
    engine.dispose()


async def publish_to(database: str, name: str) -> None:
    async with open_sql_store(database) as store:
        [answer] = await store.save([asked("Shop", publish(name))])
    assert isinstance(answer, SaveOutcome)


def breaks_and_is_mended(database: str, statement: str, finding: str) -> None:
    execute(database, statement)
    assert finding in told(database)
    statements = checked(database).statements
    execute(database, *statements)
    assert checked(database) == Checked(())


async def test_what_the_store_made_is_good(database: str) -> None:
    await publish_to(database, "A")
    assert checked(database) == Checked(())


@pytest.fixture
def on_mariadb(mariadb: MariadbProcess) -> Iterator[str]:
    with mariadb.database() as url:
        asyncio.run(publish_to(url, "A"))
        execute(url, "DELETE FROM GS_REQUEST")
        yield url


@pytest.fixture
def on_postgresql(postgresql: PostgresqlProcess) -> Iterator[str]:
    with postgresql.database() as url:
        asyncio.run(publish_to(url, "A"))
        execute(url, "DELETE FROM GS_REQUEST")
        yield url


def test_what_is_wrong_on_mariadb_is_found_and_mended(on_mariadb: str) -> None:
    for statement, finding in MARIADB.items():
        breaks_and_is_mended(on_mariadb, statement, finding)
    asyncio.run(publish_to(on_mariadb, "Then"))


def test_what_is_wrong_on_postgresql_is_found_and_mended(on_postgresql: str) -> None:
    for statement, finding in POSTGRESQL.items():
        breaks_and_is_mended(on_postgresql, statement, finding)
    asyncio.run(publish_to(on_postgresql, "Then"))


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [("max_allowed_packet", 4 * 1024 * 1024), ("innodb_flush_log_at_trx_commit", 2)],
)
def test_a_setting_of_mariadb_that_breaks_a_promise_is_told(
    on_mariadb: str, setting: str, wrong: int
) -> None:
    [(before,)] = rows_of(on_mariadb, f"SELECT @@GLOBAL.{setting}")
    execute(on_mariadb, f"SET GLOBAL {setting} = {wrong}")
    try:
        assert f"{setting}: is {wrong}" in told(on_mariadb)
    finally:
        execute(on_mariadb, f"SET GLOBAL {setting} = {before}")


def test_a_setting_of_postgresql_that_breaks_a_promise_is_told(on_postgresql: str) -> None:
    name = on_postgresql.rpartition("/")[2]
    execute(on_postgresql, f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert "synchronous_commit: is off" in told(on_postgresql)


async def test_an_empty_database_lacks_every_table(database: str) -> None:
    if database.startswith("sqlite"):
        execute(database, "CREATE TABLE OTHER (ID INTEGER)")
    assert told(database).count("is missing; run: gatesync db create") == 14


@pytest.mark.parametrize(
    ("value", "says"), [(0, "being taken over"), (99, "is 99, and this version of gatesync reads")]
)
async def test_another_format_is_told(database: str, value: int, says: str) -> None:
    await publish_to(database, "A")
    execute(database, f"UPDATE GS_STORE SET SCHEMA_FORMAT = {value}")
    assert f"SCHEMA_FORMAT: {says}" in told(database).replace("the database is ", "")


async def test_tables_without_the_row_of_the_store_are_told(database: str) -> None:
    await publish_to(database, "A")
    execute(database, "DELETE FROM GS_STORE")
    assert told(database).startswith("GS_STORE: has no row yet")


async def test_an_index_that_a_crash_left_out_is_made_at_the_next_start(database: str) -> None:
    await publish_to(database, "A")
    table = " ON GS_CHANGE" if database.startswith("mariadb") else ""
    execute(database, f"DROP INDEX GS_CHANGE_ARTIFACT{table}", "DELETE FROM GS_STORE")
    assert "GS_CHANGE: has no index GS_CHANGE_ARTIFACT" in told(database)
    async with open_sql_store(database):
        pass
    assert checked(database) == Checked(())


async def test_tables_of_wso2s_are_told(database: str) -> None:
    make_wso2_tables(database, [row("Shop", "Pizza")])
    found = checked(database)
    assert found.upgrade
    assert found.findings[0].what == "was made by WSO2's script; run: gatesync db upgrade"
    columns = {each.where for each in found.findings[1:]}
    if not database.startswith("mariadb"):
        assert columns == set()
        assert found.statements == ()
        return
    assert "AM_GW_API_ARTIFACTS.ARTIFACT" in columns
    assert "AM_GW_PUBLISHED_API_DETAILS.API_NAME" in columns
    before = rows_of(database, "SELECT * FROM AM_GW_API_ARTIFACTS")
    execute(database, *found.statements)
    assert len(checked(database).findings) == 1
    assert rows_of(database, "SELECT * FROM AM_GW_API_ARTIFACTS") == before


@pytest.mark.fast
@pytest.mark.parametrize("collation", ["NOCASE", "RTRIM"])
def test_a_collation_of_sqlites_is_told(tmp_path: Path, collation: str) -> None:
    database = f"sqlite:///{tmp_path}/store.db"
    execute(
        database,
        "CREATE TABLE GS_STORE (\n ID INTEGER NOT NULL,\n EPOCH VARCHAR(36) NOT NULL"
        f" COLLATE {collation},\n SCHEMA_FORMAT INTEGER NOT NULL,\n PRIMARY KEY (ID)\n)",
        f"INSERT INTO GS_STORE VALUES (1, 'epoch', {schema.SCHEMA_FORMAT})",
    )
    # SQLite cannot change a column: nothing is said that would.
    assert checked(database).statements == ()
    where = [each.where for each in checked(database).findings]
    assert "GS_STORE.EPOCH" in where
