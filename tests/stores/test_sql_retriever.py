"""The store as a gateway reads it from the database, as a user who may only read."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

from gatesync.artifacts.changes import Cursor
from gatesync.secret import Secret
from gatesync.stores import schema
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_retriever import READ_TABLES, SqlRetriever, open_sql_retriever
from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource
from gatesync.stores.store import StoreError, TooOld
from tests.contracts.saves import asked, held, publish
from tests.contracts.store import StoreContract
from tests.servers.postgresql import PostgresqlProcess
from tests.stores.reader_role import reader_of, statements
from tests.stores.reading_through import ReadThrough
from tests.stores.sql_bench import SqlBench, opened


class ReadingBench:
    """A store on a database, and a gateway's retriever on the same database."""

    def __init__(self, inner: SqlBench, retriever: SqlRetriever) -> None:
        self.inner = inner
        self.retriever = retriever
        self.store = ReadThrough(lambda: inner.store, retriever)

    async def catch_up(self) -> None:
        """Nothing lags: readers see each commit."""

    async def reopen(self) -> None:
        await self.inner.reopen()


@pytest.fixture
async def bench(database: str) -> AsyncIterator[ReadingBench]:
    async with opened(database) as inner, AsyncExitStack() as stack:
        url = stack.enter_context(reader_of(database))
        retriever = await stack.enter_async_context(open_sql_retriever(url))
        yield ReadingBench(inner, retriever)


class TestSqlRetriever(StoreContract):
    """The whole contract, with every question of a gateway asked by SQL, on each database."""


def change(url: str, statement: str, **values: object) -> None:
    """Change the database behind everyone's back."""
    parsed = make_url(url)
    driver = {"sqlite": "", "postgresql": "+psycopg"}.get(parsed.get_backend_name(), "+pymysql")
    engine = create_engine(parsed.set(drivername=parsed.get_backend_name() + driver))
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def files_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def test_before_a_publisher_made_the_tables_it_says_so_and_makes_nothing(
    database: str, tmp_path: Path
) -> None:
    async with open_sql_retriever(database) as retriever:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no tables of gatesync yet|unable to open"):
                await retriever.heads(["Shop"])
        assert files_in(tmp_path) == []
        async with opened(database) as bench:
            [outcome] = await bench.store.save([asked("Shop", publish("A"))])
            assert (await retriever.heads(["Shop"]))["Shop"] in getattr(outcome, "heads", ())


async def test_tables_of_another_version_are_told(bench: ReadingBench) -> None:
    change(bench.inner.url, "UPDATE GS_STORE SET SCHEMA_FORMAT = 77")
    with pytest.raises(StoreError, match=r"format 77; this version reads format \d"):
        await bench.store.heads(["Shop"])
    ours = schema.SCHEMA_FORMAT
    change(bench.inner.url, "UPDATE GS_STORE SET SCHEMA_FORMAT = :ours", ours=ours)
    assert await bench.store.heads(["Shop"])


@pytest.mark.promise(6)
async def test_another_history_in_the_same_place_is_seen(bench: ReadingBench) -> None:
    await bench.store.save([asked("Shop", publish("A"))])
    before = (await bench.store.heads(["Shop"]))["Shop"]
    other = "00000000-0000-4000-8000-000000000000"
    change(bench.inner.url, "UPDATE GS_STORE SET EPOCH = :other", other=other)
    assert (await bench.store.heads(["Shop"]))["Shop"].epoch == other
    assert await bench.store.digest_at("Shop", before.cursor) is None
    with pytest.raises(TooOld):
        await bench.store.changes("Shop", Cursor(before.epoch, 1))


@pytest.mark.promise(8)
async def test_bytes_that_do_not_match_their_digest_count_as_not_there(
    bench: ReadingBench,
) -> None:
    good, bad = publish("Good", "good"), publish("Bad", "bad")
    await bench.store.save([asked("Shop", good, bad)])
    rotten = "UPDATE AM_GW_API_ARTIFACTS SET ARTIFACT = :body WHERE DIGEST = :digest"
    change(bench.inner.url, rotten, body=b"b\xe4d", digest=bad.entry.digest)
    wanted = [good.entry.digest, bad.entry.digest]
    assert await bench.store.contents(wanted) == {good.entry.digest: b"good"}


async def test_it_cannot_write_even_as_a_user_who_may(bench: ReadingBench) -> None:
    await bench.store.save([asked("Shop", publish("A"))])

    def write(connection: Connection, _epoch: str) -> None:
        connection.execute(schema.heads.delete())

    async with open_sql_retriever(bench.inner.url) as retriever:
        with pytest.raises(StoreError, match=r"(?i)read.?only"):
            await retriever._read(write)
    assert set(await held(bench, "Shop")) == {"A"}


def test_the_documented_user_may_read_what_is_read_and_nothing_else() -> None:
    for backend in ("postgresql", "mysql"):
        granted = " ".join(each for each in statements(backend) if each.startswith("GRANT"))
        for table in schema.metadata.sorted_tables:
            assert (f" {table.name}" in granted.replace(",", " ")) is (table in READ_TABLES)


async def test_of_several_hosts_the_primary_serves_a_user_who_may_not_write(
    postgresql: PostgresqlProcess,
) -> None:
    hosts = (DatabaseHost("127.0.0.1", 1), DatabaseHost("127.0.0.1", postgresql.port))
    with postgresql.database() as url:
        async with opened(url) as bench, AsyncExitStack() as stack:
            await bench.store.save([asked("Shop", publish("A"))])
            user = make_url(stack.enter_context(reader_of(url)))
            source = SqlSource(
                dialect=Dialect.POSTGRESQL,
                database=str(user.database),
                hosts=hosts,
                username=user.username,
                password=Secret(str(user.password)),
                libpq={"target_session_attrs": "read-write"},  # what several hosts get
            )
            retriever = await stack.enter_async_context(open_sql_retriever(source))
            assert (await retriever.heads(["Shop"]))["Shop"].revision == 1


async def test_a_server_that_is_not_there_is_one_error_and_asked_again() -> None:
    url = "postgresql://reader:s3cret@127.0.0.1:1/gatesync"
    async with open_sql_retriever(url, SqlOptions(connect_timeout=1.0)) as retriever:
        for _ in range(2):
            with pytest.raises(StoreError, match="refused") as caught:
                await retriever.heads(["Shop"])
            assert "s3cret" not in str(caught.value)
