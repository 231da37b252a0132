"""The Git store passes what every store must pass that never forgets anything."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.genuine import publish
from tests.contracts.saves import asked, nth, saved
from tests.contracts.store import KeepingContract
from tests.stores.git.bench import GitBench, made_repository, opened, source_of

pytestmark = pytest.mark.fast


class TestGitStore(KeepingContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[GitBench]:
        url = made_repository(tmp_path / "server.git")
        async with opened(source_of(url, tmp_path / "clone")) as bench:
            yield bench

    async def test_compaction_forgets_nothing(self, bench: GitBench) -> None:
        one, two = publish("A", "1"), publish("A", "2")
        [outcome] = await saved(bench, asked("Shop", one, two))
        assert await bench.store.compact("Shop", keep=0) == 0
        assert await bench.store.contents([one.entry.digest]) == {one.entry.digest: one.content}
        cursor = outcome.change_sets[0].head.cursor
        delta = await bench.store.changes("Shop", cursor)
        assert delta.head.revision == await nth(bench, "Shop", 2)
