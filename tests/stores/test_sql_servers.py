"""What only database servers do: several publishers at once, deadlocks, and lost connections.

Each time: nothing half-done, no error that trying again would mend, and the same store works
again when the trouble is over.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import OperationalError

from gatesync.stores import schema, sql_write
from gatesync.stores.sql import SqlOptions, SqlStore, open_sql_store
from gatesync.stores.store import Refused, SaveOutcome, StoreError, read_manifest
from tests.contracts.saves import asked, held, publish, revision
from tests.servers.database import PASSWORD, DatabaseProcess, Databases
from tests.servers.mariadb import mariadb_server
from tests.servers.postgresql import postgresql_server
from tests.stores.sql_bench import SqlBench, opened

MIB = 1024 * 1024


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[list[SqlStore]]:
    """As two publishers have them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_sql_store(url)) for _ in range(2)]


@pytest.mark.promise(3)
async def test_one_key_at_two_publishers_is_saved_once(database: str) -> None:
    async with two_stores(database) as stores:
        for number in range(12):
            request = asked(f"L{number % 3}", publish("A", f"{number}"))
            both = await asyncio.gather(*(store.save([request]) for store in stores))
            outcomes = [answer for answers in both for answer in answers]
            assert all(isinstance(each, SaveOutcome) for each in outcomes), outcomes
            assert sorted(getattr(each, "repeated", None) for each in outcomes) == [False, True]


@pytest.mark.promise(3)
async def test_one_key_for_two_labels_at_two_publishers_is_meant_once(database: str) -> None:
    """Their labels' locks do not meet: the key's row is the last word."""
    async with two_stores(database) as stores:
        for number in range(12):
            requests = [
                asked(label, publish("A", f"{number}"), key=f"k{number}") for label in ("X", "Y")
            ]
            both = await asyncio.gather(
                *(store.save([each]) for store, each in zip(stores, requests, strict=True))
            )
            answers = [answer for answers in both for answer in answers]
            assert {type(each) for each in answers} == {SaveOutcome, Refused}, answers
            assert all(each.key_used for each in answers if isinstance(each, Refused))
        revisions = await stores[0].heads(["X", "Y"])
        assert sum(head.revision for head in revisions.values()) == 12


async def test_a_new_artifact_in_two_labels_at_two_publishers_is_no_conflict(database: str) -> None:
    async with two_stores(database) as stores:
        for number in range(12):
            requests = [asked(label, publish(f"N{number}")) for label in ("X", "Y")]
            both = await asyncio.gather(
                *(store.save([each]) for store, each in zip(stores, requests, strict=True))
            )
            assert all(isinstance(answer, SaveOutcome) for [answer] in both), both
        for label in ("X", "Y"):
            head, _ = await read_manifest(stores[0], label)
            assert head.digest.count == 12


async def test_many_can_create_the_same_database_at_once(database: str) -> None:
    async def epoch() -> str:
        async with open_sql_store(database) as store:
            return store.epoch

    assert len(set(await asyncio.gather(*(epoch() for _ in range(6))))) == 1


@pytest.mark.parametrize("byte", [b"'", b"\0"], ids=["quote", "0"])
async def test_15_mib_of_the_worst_bytes_come_back(database: str, byte: bytes) -> None:
    """Escaped they are twice as long, and the server has its default limits."""
    items = [publish("Large", byte * (15 * MIB) + tail) for tail in (b"1", b"2", b"3")]
    async with opened(database) as bench:
        await bench.store.save([asked("Shop", items[0])])
        await bench.store.save([asked("Shop", *items[1:])])  # the second never lies in a label
        for item in items:
            found = await bench.store.contents([item.entry.digest])
            assert found[item.entry.digest] == item.content


class TestServers:
    """On a server that lives on: connections are lost, locks are held."""

    @pytest.fixture(params=["postgresql", "mariadb"])
    async def bench(self, request: pytest.FixtureRequest) -> AsyncIterator[SqlBench]:
        server: Databases = request.getfixturevalue(request.param)
        with server.database() as url:
            async with opened(url) as bench:
                yield bench

    async def test_labels_do_not_wait_for_each_other(self, bench: SqlBench) -> None:
        for label in ("A", "B", "C"):
            await bench.store.save([asked(label, publish("Menu"))])
        held_up, go_on = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(connection: Connection) -> None:
            sql_write.lock_heads(connection, "", ["B"])
            loop.call_soon_threadsafe(held_up.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

        async with opened(bench.url) as other:
            holding = asyncio.create_task(other.store._write(hold))
            await held_up.wait()
            waiting = asyncio.create_task(bench.store.heads(["B"]))  # readers never wait
            assert (await waiting)["B"].revision == 1
            await bench.store.save([asked(("A", "C"), publish("Menu", "2"))])
            assert await revision(bench, "C") == 2
            go_on.set()
            await holding

    async def test_a_deadlock_reaches_nobody(self, bench: SqlBench) -> None:
        labels = ["A", "B"]
        await bench.store.save([asked(labels, publish("Menu"))])
        met = [asyncio.Event(), asyncio.Event()]
        loop = asyncio.get_running_loop()
        tries: list[str] = []

        def lock(connection: Connection, first: str, then: str, mine: int) -> None:
            tries.append(first)
            for number, label in enumerate((first, then)):
                table = schema.heads
                connection.execute(
                    update(table)
                    .where(table.c.GATEWAY_LABEL == label)
                    .values(FLOOR=table.c.FLOOR + 1)
                )
                if number == 0:
                    loop.call_soon_threadsafe(met[mine].set)
                    asyncio.run_coroutine_threadsafe(met[1 - mine].wait(), loop).result(20)

        async with opened(bench.url) as other:
            async with asyncio.TaskGroup() as group:
                group.create_task(bench.store._write(lambda c: lock(c, "A", "B", 0)))
                group.create_task(other.store._write(lambda c: lock(c, "B", "A", 1)))
            floors = await bench.store._read(
                lambda c: [row.FLOOR for row in c.execute(schema.heads.select())]
            )
        assert floors == [2, 2]
        assert len(tries) > 2, "nobody met"

    async def test_connections_that_died_in_the_pool_are_replaced(self, bench: SqlBench) -> None:
        await bench.store.save([asked("Shop", publish("A"))])
        await held(bench, "Shop")
        await end_connections(bench.url)
        await bench.store.save([asked("Shop", publish("B"))])
        assert set(await held(bench, "Shop")) == {"A", "B"}

    async def test_reading_cannot_write(self, bench: SqlBench) -> None:
        with pytest.raises(StoreError, match=r"(?i)read.only"):
            await bench.store._read(lambda c: c.execute(schema.heads.delete()))


async def end_connections(url: str) -> None:
    """Throw everybody else out of the database."""
    options = SqlOptions(readers=1)

    def end(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            return
        others = text(
            "SELECT ID FROM information_schema.PROCESSLIST"
            " WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"
        )
        for number in connection.scalars(others).all():
            with suppress(OperationalError):  # it ended by itself meanwhile
                connection.execute(text(f"KILL {number}"))

    async with open_sql_store(url, options) as store:
        await store._write(end)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_server_that_dies_or_hangs_is_said_and_outlived(kind: str) -> None:
    """Its own server: frozen, then killed, each time at work and between two calls."""
    make = postgresql_server if kind == "postgresql" else mariadb_server
    options = SqlOptions(deadline=1.0, connect_timeout=2.0)
    with make() as server, server.database() as url:
        async with open_sql_store(url, options) as store:
            await store.save([asked("Shop", publish("First"))])
            await frozen(server, store)
            await killed(server, store)
            await store.save([asked("Shop", publish("Last"))])
            _, entries = await read_manifest(store, "Shop")
            assert {"First", "Last"} <= {entry.name for entry in entries.values()}
            log = await store.change_sets("Shop", 0, 100)
            assert [each.revision for each in log] == list(range(1, len(log) + 1))


async def frozen(server: DatabaseProcess, store: SqlStore) -> None:
    server.freeze()
    request = asked("Shop", publish("Second"))
    for _ in range(2):
        begun = time.monotonic()
        asking = [store.save([request]), store.heads(["Shop"]), store.heads(["Shop"])]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in answers] == [StoreError] * 3
        assert time.monotonic() - begun < 5
        assert PASSWORD not in str(answers)
    server.thaw()
    async with asyncio.timeout(20):
        while True:  # the server may still hold what it had before
            try:
                [answer] = await store.save([request])
            except StoreError:
                continue
            break
    assert isinstance(answer, SaveOutcome)
    assert [head.revision for head in answer.heads] == [2]


async def killed(server: DatabaseProcess, store: SqlStore) -> None:
    working = asyncio.create_task(save_until_it_fails(store))
    await asyncio.sleep(0.05)  # somewhere in its work
    server.kill()
    acknowledged = await working
    for _ in range(2):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
            await store.heads(["Shop"])
    server.start()
    _, entries = await read_manifest(store, "Shop")
    assert set(acknowledged) <= {entry.name for entry in entries.values()}


async def save_until_it_fails(store: SqlStore) -> list[str]:
    acknowledged: list[str] = []
    while True:
        name = f"W{len(acknowledged)}"
        try:
            await store.save([asked("Shop", publish(name))])
        except StoreError:
            return acknowledged
        acknowledged.append(name)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://u:secret@127.0.0.1:1/d", "psycopg", "postgresql"),
        ("mysql://u:secret@127.0.0.1:1/d", "pymysql", "mysql"),
    ],
)
async def test_a_missing_driver_is_said_with_what_to_install(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreError, match=rf"gatesync\[{extra}\]") as caught:
        async with open_sql_store(url):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.fast
@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
async def test_a_server_that_is_not_there_is_said_without_the_password(scheme: str) -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/") as caught:
        async with open_sql_store(f"{scheme}://u:secret@127.0.0.1:1/d?connect_timeout=2"):
            pass
    assert "secret" not in str(caught.value)
