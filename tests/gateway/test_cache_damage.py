"""A cache that was damaged or tampered with: nothing wrong comes out of it, and it mends."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from gatesync.artifacts.digests import digest_of
from gatesync.gateway.cache import Remembered, open_cache
from gatesync.gateway.cache_rows import entry_row
from tests.contracts.saves import id_of
from tests.gateway.caching import Node, contents_in, digests_of, held, same
from tests.gateway.makers import OTHER, History, content, entry
from tests.stores.budget import BUDGET

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

NAMES = ["menu", "bread", "olives"]


async def filled(folder: Path) -> Node:
    """A node that serves what L and M hold, and has told its cache so."""
    history, second, other = History("L"), History("M"), History("M", epoch=OTHER)
    history.publish(*NAMES)
    second.publish("ham")
    async with open_cache(folder) as cache:
        node = Node(cache)
        node.take(history)
        node.take(second)
        node.take(other, continues=False)  # so that M retains ham
        node.apply("L", *NAMES)
        node.apply("M", "ham")
    return node


@contextmanager
def edited(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file as somebody with another program sees it."""
    with closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as db:
        yield db


async def test_contents_that_were_changed_are_not_given_out_and_can_be_kept_again(
    tmp_path: Path,
) -> None:
    node = await filled(tmp_path)
    with edited(tmp_path) as db:
        forged = content("menu") + b" forged"
        db.execute("UPDATE content SET body = ? WHERE body = ?", (forged, content("menu")))
    async with open_cache(tmp_path) as cache:
        await cache.load(["L", "M"])
        found = await cache.contents(digests_of(*NAMES))
        assert set(found.values()) == {content("bread"), content("olives")}
        assert (cache.counts.hits, cache.counts.misses, cache.counts.damaged) == (2, 1, 1)
        node.cache = cache
        node.apply("L", "menu")  # fetched again
        assert await cache.flush()
        node.undeploy("ham")
    async with open_cache(tmp_path) as cache:
        assert len(await cache.contents(digests_of(*NAMES))) == 3
        assert cache.counts.damaged == 0


async def test_contents_under_another_digest_are_not_given_out(tmp_path: Path) -> None:
    await filled(tmp_path)
    stranger = digest_of(b"stranger")
    with edited(tmp_path) as db:
        ours, theirs = bytes.fromhex(digests_of("menu")[0]), bytes.fromhex(stranger)
        db.execute("UPDATE content SET digest = ? WHERE digest = ?", (theirs, ours))
    async with open_cache(tmp_path) as cache:
        assert await cache.contents([stranger, *digests_of("menu")]) == {}
        assert (cache.counts.misses, cache.counts.damaged) == (2, 1)


async def test_contents_that_nothing_names_go_after_the_next_start(tmp_path: Path) -> None:
    node = await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute("UPDATE content SET digest = zeroblob(32) WHERE body = ?", (content("menu"),))
    async with open_cache(tmp_path) as cache:
        await cache.load(["L", "M"])
        node.cache = cache
        node.apply("L", "bread", version=2)
    left = {content("bread", 2), content("bread"), content("olives"), content("ham")}
    assert contents_in(tmp_path) == left


@pytest.mark.parametrize("value", ["text", 7, None, b""])
async def test_contents_that_are_no_bytes_are_not_given_out(tmp_path: Path, value: object) -> None:
    await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'body BLOB NOT NULL', 'body')")
    with edited(tmp_path) as db:
        db.execute("UPDATE content SET body = ?", (value,))
    async with open_cache(tmp_path) as cache:
        assert await cache.contents(digests_of(*NAMES)) == {}
        assert cache.counts.damaged == 3


async def test_a_label_whose_entries_do_not_add_up_is_not_known(tmp_path: Path) -> None:
    node = await filled(tmp_path)
    forged = entry("menu", "forged")
    with edited(tmp_path) as db:  # with a checksum that comes out: somebody meant it
        row = entry_row("L", forged, retained=False)
        db.execute("REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)", row)
    async with open_cache(tmp_path) as cache:
        remembered = await cache.load(["L", "M"])
        assert remembered.labels.keys() == {"M"}
        assert remembered.applied == node.applied
        assert cache.counts.damaged == 1
        history = History("L", revision=7)
        history.publish("menu", "bread")
        node.cache, node.logs = cache, dict(remembered.labels)
        node.take(history)  # as if for the first time
    assert same((await held(tmp_path, "LM")).labels["L"], node.logs["L"])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entry SET body = CAST(replace(body, '/menu', '/mend') AS BLOB)"
        " WHERE label = CAST('L' AS BLOB)",
        "UPDATE entry SET sum = sum + 1 WHERE label = CAST('L' AS BLOB)",
        "UPDATE entry SET api_id = api_id || CAST('x' AS BLOB) WHERE label = CAST('L' AS BLOB)",
        "UPDATE entry SET retained = 1 WHERE label = CAST('L' AS BLOB)",
        "UPDATE entry SET retained = 7 WHERE label = CAST('L' AS BLOB)",
        "UPDATE entry SET body = 'text' WHERE label = CAST('L' AS BLOB)",
        "DELETE FROM entry WHERE api_id = (SELECT min(api_id) FROM entry WHERE label = x'4c')",
        "UPDATE label SET state = substr(state, 2) WHERE name = CAST('L' AS BLOB)",
        "UPDATE label SET name = x'ff' WHERE name = CAST('L' AS BLOB)",
        "UPDATE label SET name = CAST('N' AS BLOB) WHERE name = CAST('L' AS BLOB)",
    ],
)
async def test_a_label_with_a_damaged_row_is_not_known(tmp_path: Path, damage: str) -> None:
    await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute(damage)
        assert db.execute("SELECT changes()").fetchone() != (0,)
    async with open_cache(tmp_path) as cache:
        remembered = await cache.load(["L", "M", "N"])
        assert remembered.labels.keys() == {"M"}
        assert cache.counts.damaged == 1
        assert len(remembered.applied) == 4
        cache.forget("N")  # any change: what was not believed goes with it
    assert (await held(tmp_path, "LMN")).labels.keys() == {"M"}
    async with open_cache(tmp_path) as cache:
        await cache.load(["L", "M", "N"])
        assert cache.counts.damaged == 0


async def test_what_a_lost_label_had_applied_does_not_come_back_later(tmp_path: Path) -> None:
    await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute("DELETE FROM label WHERE name = x'4c'")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        remembered = await cache.load(["L", "M"])
        assert len(remembered.applied) == 4
        history = History()
        history.publish("bread")
        node.take(history)
        node.apply("L", "bread")  # the store names no more than this
    assert (await held(tmp_path, "LM")).applied == node.applied
    assert contents_in(tmp_path) == {content("bread"), content("ham")}  # which M retains


@pytest.mark.promise(6)
async def test_a_label_that_lost_what_it_retains_is_not_known(tmp_path: Path) -> None:
    await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute("DELETE FROM entry WHERE retained")
    assert (await held(tmp_path, "LM")).labels.keys() == {"L"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE applied SET label = CAST('M' AS BLOB) WHERE api_id = ?",
        "UPDATE applied SET label = x'ff' WHERE api_id = ?",
        "UPDATE applied SET sum = 'x' WHERE api_id = ?",
        "UPDATE applied SET body = x'80' WHERE api_id = ?",
        "UPDATE applied SET api_id = api_id || x'00' WHERE api_id = ?",
        "UPDATE applied SET body = (SELECT body FROM applied WHERE label = x'4d') WHERE api_id = ?",
    ],
)
async def test_an_applied_artifact_that_was_damaged_is_not_remembered(
    tmp_path: Path, damage: str
) -> None:
    node = await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute(damage, (id_of("menu").encode(),))
    async with open_cache(tmp_path) as cache:
        remembered = await cache.load(["L", "M"])
        assert remembered.labels.keys() == {"L", "M"}
        assert remembered.applied.keys() == {id_of(name) for name in ("bread", "olives", "ham")}
        assert cache.counts.damaged == 1
        node.cache = cache
        node.apply("L", "menu")
    assert (await held(tmp_path, "LM")).applied == node.applied


async def test_a_row_with_a_good_checksum_and_no_entry_in_it_is_not_believed(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    begins = crc32(b"L", 3)
    with edited(tmp_path) as db:
        for body in (b"", b"\xc1", msgspec.msgpack.encode({"api_id": 7})):
            row = (b"x" + body, b"L", bytes(32), body, crc32(body, begins))
            db.execute("INSERT INTO applied VALUES (?, ?, ?, ?, ?)", row)
    async with open_cache(tmp_path) as cache:
        assert len((await cache.load(["L", "M"])).applied) == 4
        assert cache.counts.damaged == 3


@pytest.mark.parametrize(
    "garbage",
    [b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["garbage", "no more than a header"],
)
async def test_garbage_is_thrown_away(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "cache.db").write_bytes(garbage)
    async with open_cache(tmp_path) as cache:
        assert await cache.load(["L"]) == Remembered({}, {})
        assert cache.counts.damaged == 1
        node = Node(cache)
        node.take(History())
        node.apply("L", "menu")
        assert await cache.flush()
        assert cache.counts.error == ""
    remembered = await held(tmp_path)
    assert same(remembered.labels["L"], node.logs["L"])
    assert remembered.applied == node.applied


@pytest.mark.parametrize(
    "statement", ["PRAGMA user_version = 99", "PRAGMA user_version = 0", "DROP TABLE applied"]
)
async def test_a_file_of_another_format_is_thrown_away(tmp_path: Path, statement: str) -> None:
    node = await filled(tmp_path)
    with edited(tmp_path) as db:
        db.execute(statement)
    async with open_cache(tmp_path) as cache:
        assert await cache.load(["L", "M"]) == Remembered({}, {})
        assert cache.counts.damaged == 1
        node.cache = cache
        node.apply("L", *NAMES)
        assert await cache.flush()
    assert (await held(tmp_path, "LM")).applied == node.applied


async def test_a_file_that_goes_bad_while_it_is_used_is_begun_anew(tmp_path: Path) -> None:
    history = History()
    async with open_cache(tmp_path, served=lambda api_id: node.serves[api_id]) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", *NAMES)
        assert await cache.flush()
        with edited(tmp_path) as db:
            db.execute("DROP TABLE content")
        node.apply("L", "menu", version=2)
        assert await cache.flush(), "a file that was thrown away is written anew at once"
        assert cache.counts.damaged == 1
    assert contents_in(tmp_path) == {content("menu", 2), content("bread"), content("olives")}
    assert same((await held(tmp_path)).labels["L"], node.logs["L"])


async def test_after_any_damage_only_truth_comes_out_and_the_file_mends(tmp_path: Path) -> None:
    """Bytes overwritten and ends cut off, anywhere in the file."""
    whole, folder = tmp_path / "whole", tmp_path / "cache"
    node = await filled(whole)
    size = (whole / "cache.db").stat().st_size
    chance = random.Random(5)
    truth = {content(name) for name in (*NAMES, "ham")}
    for _ in range(round(60 * BUDGET)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        with (folder / "cache.db").open("r+b") as file:
            for _ in range(chance.choice([1, 8, 64])):
                file.seek(chance.randrange(size))
                file.write(chance.randbytes(chance.choice([1, 4, 100])))
            if chance.random() < 0.3:
                file.truncate(chance.randrange(size))
        async with open_cache(folder, served=lambda api_id: node.serves[api_id]) as cache:
            remembered = await cache.load(["L", "M"])
            for label, log in remembered.labels.items():
                assert same(log, node.logs[label])
            assert remembered.applied.items() <= node.applied.items()
            found = await cache.contents(digests_of(*NAMES, "ham"))
            assert set(found.values()) <= truth
            node.cache = cache
            for log in node.logs.values():
                cache.follow(log, log.entries)
            node.apply("L", *NAMES)
            node.apply("M", "ham")
            assert await cache.flush(), cache.counts.error
        async with open_cache(folder) as cache:
            remembered = await cache.load(["L", "M"])
            assert same(remembered.labels["L"], node.logs["L"])
            assert same(remembered.labels["M"], node.logs["M"])
            assert remembered.applied == node.applied
            assert set((await cache.contents(digests_of(*NAMES, "ham"))).values()) == truth
