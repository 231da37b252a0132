import os
import stat
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from gatesync.artifacts.planning import Publish, Remove
from gatesync.stores import schema, sql_compact
from gatesync.stores.store import Refused, SaveOutcome
from tests.contracts.saves import asked, held, publish, remove, revision, saved
from tests.contracts.store import StoreContract
from tests.stores.sql_bench import SqlBench, opened


@pytest.fixture
async def bench(database: str) -> AsyncIterator[SqlBench]:
    async with opened(database) as bench:
        yield bench


class TestSqlStore(StoreContract):
    """The whole contract, on each database."""


@pytest.mark.fast
async def test_the_file_is_private(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/store.db") as bench:
        await bench.store.save([asked("Shop", publish("A"))])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in os.scandir(tmp_path)}
        assert modes == {"store.db": 0o600, "store.db-shm": 0o600, "store.db-wal": 0o600}


async def test_64_requests_with_one_invalid_are_63_outcomes_in_one_commit(
    bench: SqlBench,
) -> None:
    batch = [asked("Shop", publish(f"N{number}")) for number in range(64)]
    batch[40] = asked("Shop", publish("Bad"), remove("Nobody"))
    before = bench.store.commits
    answers = await bench.store.save(batch)
    assert bench.store.commits == before + 1
    outcomes = [answer for answer in answers if isinstance(answer, SaveOutcome)]
    revisions = [each.revision for outcome in outcomes for each in outcome.change_sets]
    assert revisions == list(range(1, 64))
    assert isinstance(answers[40], Refused)
    assert set(await held(bench, "Shop")) == {f"N{n}" for n in range(64) if n != 40}


async def test_old_contents_that_came_back_are_not_kept_twice(bench: SqlBench) -> None:
    items = [publish("A", text) for text in ("1", "2", "1")]
    await saved(bench, *(asked("Shop", item) for item in items[:2]))
    await saved(bench, asked("Shop", items[2]))
    assert await old_contents(bench) == {items[0].entry.digest, items[1].entry.digest}
    await bench.store.compact("Shop", keep=1)
    assert await old_contents(bench) == {items[1].entry.digest}
    await bench.store.compact("Shop", keep=0)
    assert await old_contents(bench) == set()
    assert await held(bench, "Shop") == {"A": b"1"}


async def test_compaction_goes_in_steps(bench: SqlBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_compact, "STEP", 3)
    await saved(bench, *(asked("Shop", publish("A", f"{number}")) for number in range(10)))
    assert await bench.store.compact("Shop", keep=2) == 8
    assert len(await old_contents(bench)) == 2
    assert await held(bench, "Shop") == {"A": b"9"}


async def test_compaction_of_a_large_young_label_does_not_read_it_for_each_change(
    bench: SqlBench,
) -> None:
    """Databases that know no sizes yet chose plans that read all of the label for each change."""
    count = 5_000
    names = [f"N{number}" for number in range(count)]
    started = time.perf_counter()
    for first in range(0, count, 1_000):
        some = names[first : first + 1_000]
        await saved(bench, asked("Shop", [publish(name) for name in some]))
    filled = time.perf_counter() - started
    await saved(bench, *(asked("Shop", publish(name, "2")) for name in names[:20]))
    started = time.perf_counter()
    assert await bench.store.compact("Shop", keep=5) == 20
    assert time.perf_counter() - started < filled


async def old_contents(bench: SqlBench) -> set[str]:
    query = select(schema.old_contents.c.DIGEST)
    return await bench.store._read(lambda c: set(c.scalars(query)))


async def test_the_time_of_a_row_moves_with_every_change(bench: SqlBench) -> None:
    table = schema.artifacts

    async def moved(*items: Publish | Remove) -> bool:
        long_ago = update(table).values(TIME_STAMP=datetime(2001, 1, 1))
        await bench.store._write(lambda c: c.execute(long_ago))
        await saved(bench, asked("Shop", *items))
        [when] = await bench.store._read(lambda c: c.scalars(select(table.c.TIME_STAMP)).all())
        assert isinstance(when, datetime)
        return when.year > 2001

    await saved(bench, asked("Shop", publish("A", "1")))
    assert await moved(publish("A", "2"))
    assert await moved(remove("A"))
    assert await moved(publish("A", "2"))


async def test_what_is_overwritten_within_a_batch_can_be_fetched(bench: SqlBench) -> None:
    items = [publish("A", text) for text in ("1", "2", "1", "3")]
    await bench.store.save([asked("Shop", item) for item in items])
    found = await bench.store.contents({item.entry.digest for item in items})
    assert sorted(found.values()) == [b"1", b"2", b"3"]
    assert await revision(bench, "Shop") == 4
