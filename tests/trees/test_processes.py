"""The saved tree among processes: one that reads all the time, and one that is killed."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gatesync.artifacts.model import Artifact
from gatesync.engines.memory import MemoryEngine
from gatesync.engines.saving import SavingEngine
from gatesync.trees.opening import open_tree
from tests.servers.small_disk import can_mount, small_disk
from tests.stores.budget import BUDGET
from tests.trees.deployer import random_state
from tests.trees.making import CONFIGS, artifact, deployable, files_in, files_wanted, menu, part
from tests.trees.reader import signed
from tests.trees.states import become, check_exact, check_whole, lay_foreign_files, prune

pytestmark = pytest.mark.fast

REDEPLOYS: Final = round(1000 * min(BUDGET, 20))
KILLS: Final = max(3, round(8 * BUDGET))
ROOT: Final = Path(__file__).parents[2]


def needing(name: str, number: int) -> Artifact:
    """Version after version has other bytes, and every third one sequences of its own."""
    sequence = f"sequences/{name}--v1--{number % 3}.xml"
    endpoint = f"endpoints/{name}--v1_{number % 2}.xml"
    needs = " ".join(f'needs="{CONFIGS}/{path}"' for path in (sequence, endpoint))
    return artifact(
        name,
        part(f"api/{name}.xml", signed(f"<api {needs}>{number} {'x' * 20_000}</api>")),
        part(sequence, signed(f"<sequence>{number} {'y' * 20_000}</sequence>")),
        part(endpoint, signed(f"<endpoint>{number}</endpoint>")),
    )


@pytest.mark.promise(5)
async def test_a_reader_never_meets_half_a_file_nor_an_api_without_what_it_needs(
    folder: Path,
) -> None:
    (folder / "repository").mkdir()
    reader = subprocess.Popen(  # noqa: ASYNC220 - started in a moment, and read in a thread
        [sys.executable, "-m", "tests.trees.reader", str(folder / "repository")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        with open_tree(folder, folder / "data") as tree:
            engine = SavingEngine(MemoryEngine(), tree)
            gone = ""
            for number in range(REDEPLOYS // 2):  # of two APIs each, and a third comes and goes
                made = [needing("one", number), needing("two", number + 1)]
                third = needing("three", number)
                if number % 5:
                    made.append(third)
                gone = "" if number % 5 else third.api_id
                offered = [deployable(each) for each in made]
                assert await engine.apply(offered, [gone] if gone else []) == {}
                assert engine.error == ""
            assert files_in(folder / "repository") == files_wanted(*made)
    finally:
        out, _ = await asyncio.to_thread(reader.communicate)
    seen = json.loads(out)
    assert (seen["torn"], seen["lacking"]) == ([], [])
    assert seen["versions"] > min(20, REDEPLOYS // 10), seen


@pytest.mark.promise(10)
def test_killed_at_random_moments_the_next_start_ends_with_the_exact_tree(tmp_path: Path) -> None:
    lay_foreign_files(tmp_path)
    chosen = random.Random(7)
    begun = []
    for kill in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.trees.deployer", str(tmp_path), str(kill)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            assert child.stdout.readline()  # it is at work
            with pytest.raises(subprocess.TimeoutExpired):  # else it ended by itself
                child.wait(chosen.uniform(0.0, 0.3))
        finally:
            child.kill()
            lines = child.stdout.read().split()
            child.wait()
            child.stdout.close()
        last = int(lines[-1]) if lines else 0
        begun.append(last)
        states = [random_state(f"{kill}-{number}") for number in range(max(0, last - 1), last + 1)]
        if last:  # the first state replaces whatever the kill before left
            check_whole(tmp_path, *states)
        with open_tree(tmp_path, tmp_path / "data") as tree:
            become(tree, {}, states[-1])
            prune(tree, states[-1])
            check_exact(tmp_path, states[-1])
            assert tree.drift() == ([], "")
    assert sum(begun) > KILLS, "it was always killed before it had done anything"


@pytest.mark.skipif(not can_mount(), reason="only root can mount a small file system")
async def test_a_full_disk_refuses_changes_nothing_and_is_over_when_there_is_room() -> None:
    large = menu("x" * 500_000)
    with small_disk() as disk:
        with open_tree(disk.folder, disk.folder / "data") as tree:
            engine = SavingEngine(MemoryEngine(), tree)
            kept, gone = menu(name="Kept"), menu(name="Gone")
            offered = [deployable(each) for each in (menu("1"), kept, gone)]
            assert await engine.apply(offered, ()) == {}
            with disk.full():
                refused = await engine.apply([deployable(large)], [gone.api_id])
                assert "No space left on device" in refused[large.api_id]
                assert "Menu" in refused[large.api_id]
                assert files_in(disk.folder / "repository") == files_wanted(menu("1"), kept)
                assert engine.content(large.api_id) == deployable(menu("1")).content
                assert engine.content(gone.api_id) is None
            assert await engine.apply([deployable(large)], ()) == {}
            assert await engine.check() == []
            assert engine.error == ""
            assert files_in(disk.folder / "repository") == files_wanted(large, kept)
