import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatesync.stores.store import Refused, SaveOutcome
from tests.contracts.saves import asked, held, publish, remove, revision
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


async def test_what_is_overwritten_within_a_batch_can_be_fetched(bench: SqlBench) -> None:
    items = [publish("A", text) for text in ("1", "2", "1", "3")]
    await bench.store.save([asked("Shop", item) for item in items])
    found = await bench.store.contents({item.entry.digest for item in items})
    assert sorted(found.values()) == [b"1", b"2", b"3"]
    assert await revision(bench, "Shop") == 4
