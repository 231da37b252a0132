"""Signed heads for gateways that read the database: kept by each publisher, attached when read."""

import msgspec
import pytest
from sqlalchemy import text

from gatesync.artifacts.changes import Head
from gatesync.stores import sql_issues
from gatesync.stores.sql_retriever import open_sql_retriever
from tests.contracts.saves import asked, publish, saved
from tests.contracts.store_attesting import OTHER, SIGNER, TRUST
from tests.stores.reader_role import reader_of
from tests.stores.sql_bench import SqlBench, opened
from tests.stores.wso2_tables import engine_of, rows_of

pytestmark = pytest.mark.promise(8)

NOW = 1_700_000_000_000


async def signed(bench: SqlBench, at: int, publisher: str = "p1", labels: str = "AB") -> None:
    signer = {"p1": SIGNER, "p2": OTHER}[publisher]
    heads = (await bench.store.heads(list(labels))).values()
    issued = [signer.head(head, at) for head in heads]
    await bench.store.keep_issues(publisher, issued, at)


def issued_at(head: Head) -> int:
    return TRUST.verify_head(head)


async def test_the_newest_signature_that_fits_the_head_is_attached(database: str) -> None:
    async with opened(database) as bench, open_sql_retriever(database) as retriever:
        await saved(bench, asked(("A", "B"), publish("X")))
        assert (await retriever.heads(["A"]))["A"].issue is None
        await signed(bench, NOW)
        await signed(bench, NOW + 5, "p2", "A")
        found = await retriever.heads(["A", "B", "C"])
        assert [issued_at(found["A"]), issued_at(found["B"])] == [NOW + 5, NOW]
        assert found["C"].issue is None
        await signed(bench, NOW + 9)
        assert issued_at((await retriever.heads(["A"]))["A"]) == NOW + 9

        await saved(bench, asked("A", publish("Y")))  # a head that nobody has signed yet
        found = await retriever.heads(["A", "B"])
        assert (found["A"].issue, issued_at(found["B"])) == (None, NOW + 9)
        await signed(bench, NOW + 20)
        confirmation = await bench.store.confirm("A", "c", sign=SIGNER.confirmation)
        assert (await retriever.heads(["A"]))["A"].issue is None
        await signed(bench, NOW + 30)
        head = (await retriever.heads(["A"]))["A"]
        assert (issued_at(head), head.confirmation) == (NOW + 30, confirmation)


async def test_the_heads_of_a_publisher_that_is_gone_go_too(database: str) -> None:
    async with opened(database) as bench:
        await signed(bench, NOW, "p2")
        await signed(bench, NOW + sql_issues.GONE_MS)
        assert len(rows_of(database, "SELECT PUBLISHER FROM GS_ISSUED_HEADS")) == 2
        await signed(bench, NOW + sql_issues.GONE_MS + 1)
        assert [row[0] for row in rows_of(database, "SELECT PUBLISHER FROM GS_ISSUED_HEADS")] == [
            "p1"
        ]


async def test_many_labels_take_several_rows(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_issues, "PART_HEADS", 3)
    labels = [f"L{number}" for number in range(8)]
    async with opened(database) as bench, open_sql_retriever(database) as retriever:
        heads = (await bench.store.heads(labels)).values()
        await bench.store.keep_issues("p1", [SIGNER.head(each, NOW) for each in heads], NOW)
        assert len(rows_of(database, "SELECT PART FROM GS_ISSUED_HEADS")) == 3
        found = await retriever.heads(labels)
        assert {issued_at(found[label]) for label in labels} == {NOW}
        await bench.store.keep_issues("p1", [], NOW)
        assert rows_of(database, "SELECT PART FROM GS_ISSUED_HEADS") == []


async def test_what_is_no_signed_heads_is_passed_over(database: str) -> None:
    async with opened(database) as bench, open_sql_retriever(database) as retriever:
        await signed(bench, NOW)
        for number, blob in enumerate((b"", b"\xc1", msgspec.msgpack.encode([{"label": 3}]))):
            await bench.store.keep_issues(f"p{number + 3}", [], NOW + 1)
            engine = engine_of(database)
            with engine.begin() as connection:
                connection.execute(
                    text("INSERT INTO GS_ISSUED_HEADS VALUES (:name, 0, :at, :blob)"),
                    {"name": f"p{number + 3}", "at": NOW + 1, "blob": blob},
                )
            engine.dispose()
        assert issued_at((await retriever.heads(["A"]))["A"]) == NOW


async def test_who_may_not_read_them_reads_all_the_rest(database: str) -> None:
    if database.startswith("sqlite"):
        return  # it has no users
    async with opened(database) as bench:
        await saved(bench, asked("A", publish("X")))
        await signed(bench, NOW)
        with reader_of(database) as url:
            async with open_sql_retriever(url) as retriever:
                assert issued_at((await retriever.heads(["A"]))["A"]) == NOW
                revoke(database, url)
                head = (await retriever.heads(["A"]))["A"]
                assert (head.revision, head.issue) == (1, None)


def revoke(database: str, url: str) -> None:
    user = url.split("//")[1].split(":")[0]
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.execute(text(f"REVOKE SELECT ON GS_ISSUED_HEADS FROM {user}"))
    engine.dispose()
