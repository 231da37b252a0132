import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from gatesync.artifacts.changes import Entry
from gatesync.engines.engine import Deployable
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.crash_guard import cautious
from tests.gateway.makers import content, entry

pytestmark = pytest.mark.fast


class Crash(BaseException):
    """The process ends."""


class Crashing(MemoryEngine):
    """Ends the process at some artifacts, as a bug in a parser does."""

    def __init__(self, *fatal: Entry) -> None:
        super().__init__()
        self.fatal = {each.digest for each in fatal}
        self.batches: list[int] = []

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        self.batches.append(len(deploy))
        if any(each.entry.digest in self.fatal for each in deploy):
            raise Crash
        return await super().apply(deploy, undeploy)


async def start(path: Path, engine: Crashing, *deploy: Entry) -> Mapping[str, str] | None:
    """One life of a process; None if it ended before its time."""
    batch = [Deployable(each, content(each.name, 1)) for each in deploy]
    with cautious(engine, path) as guarded:
        try:
            return await guarded.apply(batch, ())
        except Crash:
            return None


async def test_the_third_start_goes_on_without_what_ended_the_first_two(tmp_path: Path) -> None:
    path, all_three = tmp_path / "deploying", [entry("menu"), entry("bread"), entry("ham")]
    assert await start(path, Crashing(entry("bread")), *all_three) is None
    engine = Crashing(entry("bread"))
    assert await start(path, engine, *all_three) is None
    assert set(engine.batches) == {0, 1}, "each alone"
    engine = Crashing(entry("bread"))
    refused = await start(path, engine, *all_three)
    assert refused is not None
    assert refused.keys() == {entry("bread").api_id}
    assert "ended 2 times" in refused[entry("bread").api_id]
    assert set(engine.api_ids()) == {entry("menu").api_id, entry("ham").api_id}
    for _ in range(3):  # and so does each later one
        refused = await start(path, Crashing(entry("bread")), *all_three)
        assert refused is not None
        assert refused.keys() == {entry("bread").api_id}


async def test_a_new_version_of_what_was_left_out_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "deploying"
    for _ in range(2):
        assert await start(path, Crashing(entry("bread")), entry("bread")) is None
    assert await start(path, Crashing(entry("bread")), entry("bread"))
    newer = entry("bread", 2)
    engine = Crashing(entry("bread"))
    with cautious(engine, path) as guarded:
        assert await guarded.apply([Deployable(newer, content("bread", 2))], ()) == {}
    assert engine.snapshot()[newer.api_id] == content("bread", 2)


async def test_the_version_before_which_each_start_serves_first_clears_the_new_one_of_nothing(
    tmp_path: Path,
) -> None:
    path, before, fatal = tmp_path / "deploying", entry("bread"), entry("bread", 2)
    for _ in range(3):
        engine = Crashing(fatal)
        with cautious(engine, path) as guarded:
            assert await guarded.apply([Deployable(before, content("bread", 1))], ()) == {}
            try:
                refused = await guarded.apply([Deployable(fatal, content("bread", 2))], ())
            except Crash:
                refused = {}
    assert refused.keys() == {fatal.api_id}
    assert engine.snapshot()[before.api_id] == content("bread", 1)


async def test_what_an_operator_redeploys_is_tried(tmp_path: Path) -> None:
    path, bread = tmp_path / "deploying", entry("bread")
    for _ in range(2):
        assert await start(path, Crashing(bread), bread) is None
    engine = Crashing()
    with cautious(engine, path) as guarded:
        assert await guarded.apply([Deployable(bread, content("bread", 1))], ())
        guarded.forgive([bread.api_id])
        assert await guarded.apply([Deployable(bread, content("bread", 1))], ()) == {}
    assert await start(path, engine, bread) == {}


async def test_an_end_for_another_reason_accuses_nobody_for_long(tmp_path: Path) -> None:
    path, menu, bread = tmp_path / "deploying", entry("menu"), entry("bread")
    assert await start(path, Crashing(bread), menu, bread) is None  # menu was only there
    assert await start(path, Crashing(), menu, bread) == {}
    assert await start(path, Crashing(menu), menu) is None
    assert await start(path, Crashing(), menu, bread) == {}, "its first end, not its second"


async def test_ends_among_others_do_not_tell_who_it_was(tmp_path: Path) -> None:
    path, menu, bread = tmp_path / "deploying", entry("menu"), entry("bread")
    for _ in range(3):
        under_way = {each.api_id: each.digest for each in (menu, bread)}
        path.write_text(json.dumps({"under_way": under_way, "ends": {}}))
        assert await start(path, Crashing(), menu, bread) == {}


async def test_half_a_file_is_as_good_as_none(tmp_path: Path) -> None:
    path, menu = tmp_path / "deploying", entry("menu")
    path.write_text('{"under_way":{"')
    assert await start(path, Crashing(), menu) == {}
    assert path.stat().st_size < 100
