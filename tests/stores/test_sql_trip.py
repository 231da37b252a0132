"""Several statements in one trip, on each database: what they answer, and what an error leaves."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from gatesync.stores import schema, sql_trip
from gatesync.stores.sql_opening import make_engines, prepare
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_rows import Among
from gatesync.stores.sql_trip import Trip
from gatesync.stores.store import Refused, SaveOutcome
from tests.contracts.saves import asked, held, publish, remove, saved
from tests.stores.sql_bench import opened

TABLE = schema.old_contents
FOUND = Among(select(TABLE.c.API_ID, TABLE.c.ARTIFACT), TABLE.c.API_ID)
HEADS = schema.heads
OF_LABEL = Among(select(HEADS), HEADS.c.GATEWAY_LABEL)
ODD = ["'", "\\", '"; DROP', "%s %(a)s ?", "a;b", "é🙂 ", "E'\\0"]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    writing, reading = make_engines(database, SqlOptions())
    with writing.connect() as connection:
        with connection.begin():
            prepare(connection, database)
        yield connection
    for engine in (writing, reading):
        engine.dispose()


def content(name: str, data: bytes) -> dict[str, object]:
    return dict(API_ID=name, DIGEST="0" * 64, CONTENT_SIZE=len(data), ARTIFACT=data)


def head(label: str, revision: int = 0) -> dict[str, object]:
    return dict(GATEWAY_LABEL=label, REVISION=revision, DIGEST="0" * 64, ARTIFACT_COUNT=0, FLOOR=0)


def test_what_is_written_is_found_in_the_same_trip(connection: Connection) -> None:
    data = bytes(range(256)) * 3
    with connection.begin():
        trip = Trip(connection)
        before = trip.ask(FOUND, ODD)
        trip.insert(TABLE, [content(name, name.encode() + data) for name in ODD])
        trip.insert(HEADS, [head("Shop"), head("shop")])
        trip.update(HEADS, [dict(GATEWAY_LABEL="Shop", REVISION=7)])
        after = trip.ask(FOUND, [*ODD, "nobody"])
        heads = trip.ask(OF_LABEL, ["Shop", "shop"])
        trip.run()
    assert before == []
    assert {row.API_ID: bytes(row.ARTIFACT) for row in after} == {
        name: name.encode() + data for name in ODD
    }
    assert {row.GATEWAY_LABEL: row.REVISION for row in heads} == {"Shop": 7, "shop": 0}


def test_more_goes_in_a_trip_than_in_one_text(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_trip, "_TEXT_CHARACTERS", 500)
    names = [f"N{number}" for number in range(20)]
    with connection.begin():
        trip = Trip(connection)
        trip.insert(TABLE, [content(name, name.encode() * 50) for name in names])
        trip.insert(HEADS, [head(name) for name in names])
        found = trip.ask(FOUND, names)
        trip.run()
    assert {row.API_ID: bytes(row.ARTIFACT) for row in found} == {
        name: name.encode() * 50 for name in names
    }


@pytest.mark.parametrize("characters", [1, 100_000])
def test_an_error_in_the_middle_ends_the_trip_and_nothing_of_it_stays(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, characters: int
) -> None:
    monkeypatch.setattr(sql_trip, "_TEXT_CHARACTERS", characters)
    trip = Trip(connection)
    trip.insert(TABLE, [content("A", b"1")])
    trip.insert(HEADS, [head("Shop"), head("Shop")])
    trip.insert(TABLE, [content("B", b"2")])
    with pytest.raises(IntegrityError), connection.begin():
        trip.run()
    with connection.begin():
        trip = Trip(connection)
        found = trip.ask(FOUND, ["A", "B"])
        heads = trip.ask(OF_LABEL, ["Shop"])
        trip.run()
    assert found == heads == []


async def test_a_name_that_is_taken_refuses_one_request_of_a_batch(database: str) -> None:
    """A batch takes names for free until the database says otherwise."""
    async with opened(database) as bench:
        await saved(bench, asked("Shop", publish("A", claims=["/x"])))
        before = bench.store.commits
        batch = [
            asked("Shop", publish("B")),
            asked("Shop", publish("C", claims=["/x"])),
            asked("Shop", publish("D")),
        ]
        first, second, third = await bench.store.save(batch)
        assert bench.store.commits == before + 1
        assert isinstance(second, Refused)
        assert "A" in second.reasons[0]
        assert isinstance(first, SaveOutcome)
        assert isinstance(third, SaveOutcome)
        sets = (*first.change_sets, *third.change_sets)
        assert [each.revision for each in sets] == [2, 3]


def test_what_is_lost_on_the_way_leaves_no_answers_to_whoever_comes_next(
    connection: Connection,
) -> None:
    transaction = connection.begin()
    trip = Trip(connection)
    trip.insert(HEADS, [head("Shop")])
    trip.start()
    trip.give_up()
    transaction.rollback()
    with connection.begin():
        trip = Trip(connection)
        heads = trip.ask(OF_LABEL, ["Shop"])
        trip.run()
    assert heads == []


async def test_a_large_batch_is_one_commit_whatever_moves_within_it(database: str) -> None:
    """It is planned in parts while the database works: names go from one part to another."""
    async with opened(database) as bench:
        await saved(bench, asked("Shop", publish("A", claims=["/x"])))
        others = [asked("Shop", publish(f"N{number}")) for number in range(60)]
        moved = asked("Shop", publish("A", "2")), asked("Shop", publish("B", claims=["/x"]))
        before = bench.store.commits
        outcomes = await saved(
            bench, *others[:10], moved[0], *others[10:50], moved[1], *others[50:]
        )
        assert bench.store.commits == before + 1
        sets = [each.revision for outcome in outcomes for each in outcome.change_sets]
        assert sets == list(range(2, 64))
        assert set(await held(bench, "Shop")) == {"A", "B", *(f"N{n}" for n in range(60))}
        [refused] = await bench.store.save([asked("Shop", publish("C", claims=["/x"]))])
        assert isinstance(refused, Refused)
        assert "B" in refused.reasons[0]


async def test_a_key_that_was_used_is_answered_in_a_batch_of_new_ones(database: str) -> None:
    async with opened(database) as bench:
        gone = [asked("Shop", publish("A")), asked("Shop", publish("B"))]
        await saved(bench, *gone)
        removal = asked("Shop", remove("A"))
        await saved(bench, removal)
        answers = await bench.store.save([removal, asked("Shop", publish("C")), gone[0]])
        outcomes = [each for each in answers if isinstance(each, SaveOutcome)]
        assert [each.repeated for each in outcomes] == [True, False, True]
