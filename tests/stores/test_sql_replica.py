"""Reading a real replica that lags: a PostgreSQL standby, whose replay is paused."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from gatesync.artifacts.changes import Head
from gatesync.stores.sql_retriever import SqlRetriever, open_sql_retriever
from gatesync.stores.store import Behind, SaveOutcome, StoreError, read_manifest
from tests.contracts.saves import asked, publish, remove
from tests.servers.gatesync import LABEL, Place, document, place, publishing, sequence_xml
from tests.servers.postgresql import PostgresqlProcess
from tests.servers.postgresql_standby import Standby, standby_of
from tests.stores.reader_role import reader_of
from tests.stores.sql_bench import SqlBench, opened


@pytest.fixture(scope="module")
def standby(postgresql: PostgresqlProcess) -> Iterator[Standby]:
    with standby_of(postgresql) as server:
        yield server


@pytest.fixture
def database(postgresql: PostgresqlProcess, standby: Standby) -> Iterator[str]:
    with postgresql.database() as url:
        yield url
        standby.resume()


class Pair(NamedTuple):
    """A store on the primary, and a gateway's retriever on the standby."""

    primary: SqlBench
    replica: SqlRetriever
    standby: Standby

    async def save(self, *items: object) -> Head:
        [outcome] = await self.primary.store.save([asked("Shop", items)])  # type: ignore[arg-type]
        assert isinstance(outcome, SaveOutcome), outcome
        return outcome.heads[0]

    async def shown(self) -> Head | None:
        try:
            return (await self.replica.heads(["Shop"]))["Shop"]
        except StoreError:  # not even the tables are there yet
            return None

    async def shows(self, head: Head) -> None:
        async with asyncio.timeout(20):
            while await self.shown() != head:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.02)


@pytest.fixture
async def pair(database: str, standby: Standby) -> AsyncIterator[Pair]:
    async with opened(database) as primary, AsyncExitStack() as stack:
        reader = stack.enter_context(reader_of(database))
        retriever = await stack.enter_async_context(open_sql_retriever(standby.here(reader)))
        yield Pair(primary, retriever, standby)


@pytest.mark.promise(2)
async def test_what_was_asked_for_is_answered_behind_until_the_replica_has_it(pair: Pair) -> None:
    first = publish("A", "1")
    old = await pair.save(first)
    await pair.shows(old)
    pair.standby.pause()
    second = publish("B", "2")
    new = await pair.save(remove("A"), second)
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: pair.replica.heads(["Shop"], {"Shop": new.cursor}),
        lambda: pair.replica.manifest("Shop", at_least=new.cursor),
        lambda: pair.replica.manifest("Shop", at=new.cursor),
        lambda: pair.replica.changes("Shop", new.cursor),
        lambda: read_manifest(pair.replica, "Shop", new.cursor),
    ]
    for question in questions:
        with pytest.raises(Behind) as caught:
            await question()
        assert caught.value.head == old
    assert await pair.shown() == old  # older, and it says so
    digests = [first.entry.digest, second.entry.digest]
    assert await pair.replica.contents(digests) == {first.entry.digest: b"1"}

    pair.standby.resume()
    await pair.shows(new)
    for question in questions:
        await question()
    head, entries = await read_manifest(pair.replica, "Shop", new.cursor)
    assert (head, [entry.name for entry in entries.values()]) == (new, ["B"])
    assert await pair.replica.contents(digests) == {
        first.entry.digest: b"1",
        second.entry.digest: b"2",
    }


@pytest.fixture
def places(tmp_path: Path, database: str, standby: Standby) -> Iterator[tuple[Place, Place]]:
    """Everything on the primary, and a gateway that reads the standby."""
    with (
        place(tmp_path / "control") as control,
        place(tmp_path / "node", node="gw2", publisher=control.publisher) as node,
    ):
        replica = f"read_url = {json.dumps(standby.here(database))}\n"
        for each, more in ((control, ""), (node, replica)):
            with each.config.open("a") as file:
                file.write(f"[database.sync_runtime_artifacts_db]\nurl = {json.dumps(database)}\n")
                file.write(more)
        yield control, node


@pytest.mark.promise(2)
def test_a_gateway_on_a_lagging_replica_goes_on_serving_what_events_brought(
    places: tuple[Place, Place], standby: Standby
) -> None:
    control, node = places
    control.role("up").start()
    control.give_token(node, LABEL)
    gateway = node.role("gateway").start()
    control.run("publish", write(control, "menu", "1"), "-l", LABEL, "--wait", "2")
    before = node.held()
    assert set(before) == {"menu"}

    standby.pause()
    body = publishing(document("menu", sequence_xml("menu", "2")), document("bread"))
    assert control.ask("/v1/changes", method="POST", body=body).status == 200
    gateway.wait_for(lambda: set(node.held()) == {"menu", "bread"}, "the event brings it")
    small = node.held()
    assert small["menu"] != before["menu"]
    large = sequence_xml("wine", os.urandom(400_000).hex())  # too large for an event
    body = publishing(document("wine", large))
    assert control.ask("/v1/changes", method="POST", body=body).status == 200
    ham = write(control, "ham", "1")
    waited = control.run("publish", ham, "-l", LABEL, "--wait", "2", "--timeout", "2s")
    assert "gw2" in waited.out
    assert node.held().items() >= small.items()
    assert "wine" not in node.held()

    standby.resume()
    gateway.wait_for(lambda: "wine" in node.held(), "the replica has it")
    gateway.wait_for(lambda: control.run("verify").code == 0, "it is in step")
    assert set(node.held()) == {"menu", "bread", "wine", "ham"}


def write(where: Place, name: str, text: str) -> Path:
    path = where.folder / f"{name}.xml"
    path.write_bytes(sequence_xml(name, text))
    return path
