"""Taking over a database that WSO2's script made: every row, on each database, once."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import structs

from gatesync.publisher.taking_over import publish_of_row
from gatesync.stores import schema
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_takeover import Converted, TakenRow, Takeover, take_over
from gatesync.stores.sql_wso2 import KEPT_NAMES, Wso2Row
from gatesync.stores.store import StoreError, read_manifest
from tests.contracts.saves import asked, publish
from tests.stores.wso2_tables import (
    FIRST,
    Row,
    document,
    engine_of,
    make_wso2_tables,
    row,
    rows_of,
)

ALL = "SELECT * FROM {} ORDER BY GATEWAY_LABEL, API_ID"
KEPT = ALL.format("GS_WSO2_API_ARTIFACTS")


async def taken(database: str, *rows: Row) -> Takeover:
    make_wso2_tables(database, rows)
    return await again(database)


async def again(database: str) -> Takeover:
    done = await take_over(database, SqlOptions(), publish_of_row)
    assert done is not None
    return done


def by_place(done: Takeover) -> Mapping[tuple[str, str], TakenRow]:
    return {(each.label, each.api_id): each for each in done.rows}


async def held(database: str, label: str) -> dict[str, str]:
    """What a label holds: names and versions by api_id."""
    async with open_sql_store(database) as store:
        _, entries = await read_manifest(store, label)
    return {api_id: f"{each.name} {each.version}" for api_id, each in entries.items()}


async def test_rows_of_several_labels_and_tenants_become_what_labels_hold(database: str) -> None:
    done = await taken(
        database,
        row("Production and Sandbox", "Pizza", minute=3),
        row("Grüße", "Pizza", minute=4),
        row("Production and Sandbox", "Orders", minute=1, tenant="acme.example"),
        row("Production and Sandbox", "Pizza", api_id="v2", version="2.0.0", minute=2),
    )
    assert {place: each.revision for place, each in by_place(done).items()} == {
        ("Production and Sandbox", "id-of-Orders"): 1,
        ("Production and Sandbox", "v2"): 2,
        ("Production and Sandbox", "id-of-Pizza"): 3,
        ("Grüße", "id-of-Pizza"): 1,
    }
    assert await held(database, "Grüße") == {"id-of-Pizza": "Pizza 1.0.0"}
    assert await held(database, "Production and Sandbox") == {
        "id-of-Orders": "Orders 1.0.0",
        "id-of-Pizza": "Pizza 1.0.0",
        "v2": "Pizza 2.0.0",
    }


async def test_the_order_of_lists_makes_no_difference(database: str) -> None:
    one, two = row("One", "Pizza"), row("Two", "Pizza")
    while one.document == two.document:
        two = row("Two", "Pizza")
    await taken(database, one, two)
    async with open_sql_store(database) as store:
        digests = {
            entry.digest
            for label in ("One", "Two")
            for entry in (await read_manifest(store, label))[1].values()
        }
    assert len(digests) == 1


async def test_what_was_removed_is_not_served_but_remembered(database: str) -> None:
    done = await taken(
        database,
        row("Shop", "Gone", minute=1, instruction="Remove"),
        row("Shop", "Pizza", minute=2),
    )
    assert [each.revision for each in done.rows] == [2, 3]
    assert await held(database, "Shop") == {"id-of-Pizza": "Pizza 1.0.0"}
    async with open_sql_store(database) as store:
        history = await store.history("Gone")
    assert [each.change.instruction for each in history.changes] == ["Remove", "Publish"]
    assert {each.author for each in history.changes} == {"WSO2"}
    assert {each.origin for each in history.changes} == {
        "WSO2's tables: removed at this time; when it was published is not known"
    }
    at = int(
        (FIRST.replace(minute=1) - FIRST.replace(year=1970, month=1, day=1, hour=0)).total_seconds()
    )
    assert {each.published_at for each in history.changes} == {at * 1000}


async def test_a_name_goes_to_who_came_after_it_was_given_back(database: str) -> None:
    await taken(
        database,
        row("Shop", "Pizza", api_id="old", minute=1, instruction="Remove"),
        row("Shop", "Pizza", api_id="new", minute=2),
    )
    assert await held(database, "Shop") == {"new": "Pizza 1.0.0"}


BROKEN = {
    "truncated": (b'{"name":"Pizza","apiDefin' + b"x" * 65_510, "cut off at 65535 bytes"),
    "no-json": (b"PK\x03\x04", "ARTIFACT cannot be read"),
    "empty": (b"", "ARTIFACT is empty"),
    "list": (b"[]", "ARTIFACT cannot be read"),
    "bad-xml": (
        document("Pizza", "bad-xml", apiDefinition="<api name='admin--Pizza'"),
        "apiDefinition",
    ),
    "someone-else": (document("Pizza", "another"), "apiId: is 'another', but the row's is"),
    "other-tenant": (document("Pizza", "other-tenant", tenant="b.example"), "tenantDomain: is"),
}


async def test_rows_that_cannot_be_taken_are_told_and_kept_byte_by_byte(database: str) -> None:
    rows = [
        Row("Shop", api_id, content, minute=number, name="Pizza")
        for number, (api_id, (content, _)) in enumerate(BROKEN.items())
    ]
    rows.append(row("Shop", "Good", minute=30))
    rows.append(row("Bad\nlabel", "Good", minute=31))
    rows.append(row("Shop", "Odd", minute=32, instruction="Undeploy"))
    make_wso2_tables(database, rows)
    before = rows_of(database, ALL.format("AM_GW_API_ARTIFACTS"))
    found = by_place(await again(database))
    for api_id, (_, reason) in BROKEN.items():
        assert found["Shop", api_id].revision == 0
        assert reason in found["Shop", api_id].notes[0]
    assert "control character" in found["Bad\nlabel", "id-of-Good"].notes[0]
    assert "'Undeploy', not Publish or Remove" in found["Shop", "id-of-Odd"].notes[0]
    assert await held(database, "Shop") == {"id-of-Good": "Good 1.0.0"}
    assert rows_of(database, KEPT) == before


async def test_a_row_that_the_database_refuses_takes_no_other_with_it(database: str) -> None:
    def too_long(row: Wso2Row, content: bytes) -> Converted:
        converted = publish_of_row(row, content)
        if row.api_id != "id-of-Long":
            return converted
        entry = structs.replace(converted.publish.entry, context="/" + "x" * 300)
        return Converted(structs.replace(converted.publish, entry=entry))

    make_wso2_tables(
        database,
        [row("Shop", "A"), row("Shop", "Long", minute=1), row("Shop", "B", minute=2)],
    )
    done = await take_over(database, SqlOptions(), too_long)
    assert done is not None
    if database.startswith("sqlite"):  # heeds no lengths
        assert [each.revision for each in done.rows] == [1, 2, 3]
        return
    assert [each.revision for each in done.rows] == [1, 0, 2]
    assert "database" in by_place(done)["Shop", "id-of-Long"].notes[0]
    assert set(await held(database, "Shop")) == {"id-of-A", "id-of-B"}


async def test_an_api_id_that_is_no_name_is_told(database: str) -> None:
    done = await taken(database, row("Shop", "Pizza", api_id="a\nb"))
    assert (done.rows[0].revision, "control character" in done.rows[0].notes[0]) == (0, True)


async def test_an_api_that_takes_the_context_of_another_is_left_out(database: str) -> None:
    done = await taken(
        database,
        row("Shop", "Pizza", minute=1),
        row("Shop", "Pizza", api_id="second", minute=2),
    )
    refused = by_place(done)["Shop", "second"]
    assert refused.revision == 0
    assert "belongs to api Pizza 1.0.0" in " ".join(refused.notes)


async def test_passwords_leave_the_artifact_and_are_told_by_their_alias(database: str) -> None:
    secret = {"credentialsToBeAdd": [{"alias": "backend", "password": "hunter2"}]}
    done = await taken(database, row("Shop", "Pizza", **secret))
    [note] = done.rows[0].notes
    assert "$secret{backend}" in note
    async with open_sql_store(database) as store:
        _, entries = await read_manifest(store, "Shop")
        contents = await store.contents({each.digest for each in entries.values()})
    assert b"hunter2" not in b"".join(contents.values())
    assert b"$secret{backend}" in b"".join(contents.values())
    assert "hunter2" not in str(rows_of(database, "SELECT NOTES FROM GS_TAKEN_OVER"))


async def test_a_reference_that_a_later_row_meets_is_no_matter(database: str) -> None:
    def calling(name: str, *, minute: int) -> Row:
        made = json.loads(row("Shop", name).document)
        made["apiDefinition"] = made["apiDefinition"].replace(
            "<inSequence>", '<inSequence><sequence key="shared"/>'
        )
        return Row("Shop", f"id-of-{name}", json.dumps(made).encode(), minute=minute, name=name)

    xml = '<sequence xmlns="http://ws.apache.org/ns/synapse" name="shared"/>'
    brings = {"sequenceToBeAdd": [{"name": "shared", "content": xml}]}
    done = await taken(
        database, calling("Pizza", minute=1), row("Shop", "Late", minute=2, **brings)
    )
    assert [each.notes for each in done.rows] == [(), ()]
    assert all(each.revision for each in done.rows)


async def test_a_second_run_changes_nothing(database: str) -> None:
    first = await taken(
        database, row("Shop", "Pizza"), row("Shop", "Gone", instruction="Remove", minute=1)
    )
    before = everything(database)
    second = await again(database)
    assert (first.before, second.before) == (False, True)
    assert second.rows == first.rows
    assert everything(database) == before


async def test_what_was_published_since_stays(database: str) -> None:
    await taken(database, row("Shop", "Pizza"))
    async with open_sql_store(database) as store:
        await store.save([asked("Shop", publish("Since"))])
    await again(database)
    assert sorted((await held(database, "Shop")).values()) == ["Pizza 1.0.0", "Since 1.0.0"]


async def test_no_publisher_opens_tables_that_are_not_taken_over(database: str) -> None:
    make_wso2_tables(database, [row("Shop", "Pizza")])
    with pytest.raises(StoreError, match=r"WSO2's script made.*gatesync db upgrade"):
        async with open_sql_store(database):
            raise AssertionError


async def test_no_publisher_opens_a_takeover_that_did_not_end(database: str) -> None:
    await taken(database, row("Shop", "Pizza"))
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE GS_STORE SET SCHEMA_FORMAT = 0")
    engine.dispose()
    with pytest.raises(StoreError, match=r"being taken over.*gatesync db upgrade"):
        async with open_sql_store(database):
            raise AssertionError


async def test_tables_of_another_version_are_refused(database: str) -> None:
    await taken(database, row("Shop", "Pizza"))
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE GS_STORE SET SCHEMA_FORMAT = 99")
    engine.dispose()
    with pytest.raises(StoreError, match="format 99"):
        await again(database)
    with pytest.raises(StoreError, match="format 99"):
        async with open_sql_store(database):
            raise AssertionError


async def test_without_tables_of_wso2s_there_is_nothing_to_do(database: str) -> None:
    assert await take_over(database, SqlOptions(), publish_of_row) is None
    async with open_sql_store(database) as store:
        await store.save([asked("Shop", publish("A"))])
    assert await take_over(database, SqlOptions(), publish_of_row) is None


async def test_tables_of_another_version_of_wso2s_are_refused(database: str) -> None:
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE AM_GW_API_ARTIFACTS (API_ID varchar(255), REVISION_ID varchar(255))"
        )
    engine.dispose()
    with pytest.raises(StoreError, match=r"not WSO2 3\.2's.*GATEWAY_LABEL"):
        await take_over(database, SqlOptions(), publish_of_row)


@pytest.mark.fast
async def test_rows_of_one_key_are_told(tmp_path: Path) -> None:
    """Only where somebody left out the primary key."""
    database = f"sqlite:///{tmp_path}/store.db"
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE AM_GW_API_ARTIFACTS (API_ID TEXT, ARTIFACT BLOB,"
            " GATEWAY_INSTRUCTION TEXT, GATEWAY_LABEL TEXT, TIME_STAMP TEXT)"
        )
        for at in ("2021-01-01", "yesterday"):
            connection.exec_driver_sql(
                "INSERT INTO AM_GW_API_ARTIFACTS VALUES (?, ?, 'Publish', 'Shop', ?)",
                ("id-of-Pizza", document("Pizza", "id-of-Pizza"), at),
            )
    engine.dispose()
    [found] = (await again(database)).rows
    assert found.notes == ("there are 2 rows of this label and API_ID",)


async def test_the_way_back_to_wso2(database: str) -> None:
    """As docs/databases.md says it; then it can be taken over anew."""
    make_wso2_tables(database, [row("Shop", "Pizza"), row("Shop", "Gone", instruction="Remove")])
    before = rows_of(database, ALL.format("AM_GW_API_ARTIFACTS"))
    await again(database)
    engine = engine_of(database)
    ours = [table.name for table in schema.metadata.sorted_tables if table.name.startswith("GS_")]
    with engine.begin() as connection:
        for name in (schema.artifacts.name, schema.details.name, "GS_TAKEN_OVER", *ours):
            connection.exec_driver_sql(f"DROP TABLE {name}")
        for name, kept in KEPT_NAMES.items():
            connection.exec_driver_sql(f"ALTER TABLE {kept} RENAME TO {name}")
    engine.dispose()
    assert rows_of(database, ALL.format("AM_GW_API_ARTIFACTS")) == before
    assert not (await again(database)).before


def everything(database: str) -> list[object]:
    tables = ("GS_STORE", "GS_HEAD", "GS_CHANGE_SET", "GS_CHANGE", "GS_CLAIM", "GS_TAKEN_OVER")
    tables += ("AM_GW_API_ARTIFACTS", "AM_GW_PUBLISHED_API_DETAILS", "GS_REQUEST")
    return [sorted(map(repr, rows_of(database, f"SELECT * FROM {each}"))) for each in tables]
