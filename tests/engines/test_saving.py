"""An engine whose artifacts lie on disk, too."""

import asyncio
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.engines.engine import Deployable, Engine, EngineError
from gatesync.engines.memory import MemoryEngine
from gatesync.engines.saving import SavingEngine
from gatesync.trees.errors import TreeError
from gatesync.trees.opening import open_tree
from tests.contracts import engine as contract
from tests.contracts.saves import id_of
from tests.gateway.cluster import WatchedEngine
from tests.gateway.virtual_time import until
from tests.trees.making import (
    CONFIGS,
    Killer,
    artifact,
    deployable,
    files_in,
    files_wanted,
    menu,
    opened,
    part,
)

pytestmark = pytest.mark.fast

API = f"{CONFIGS}/api/admin--Menu_v1.0.0.xml"
SEQUENCE = f"{CONFIGS}/sequences/Menu--v1.0.0--In.xml"


def of_any_bytes(api_id: str, content: bytes) -> Artifact:
    """The contract suite deploys bytes that are no artifact: one file each."""
    identity = Identity(SUPER_TENANT, "api", api_id, "")
    return Artifact(identity, api_id, (Part("api", api_id, f"api/{api_id}.xml", content),))


class TestSavingEngine(contract.EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[SavingEngine]:
        with opened(tmp_path) as tree:
            yield SavingEngine(MemoryEngine(), tree, of_any_bytes)

    @pytest.fixture
    def refused(self) -> None:
        return None


class TestSavingEngineOverOneThatRefuses(contract.EngineContract):
    inner: WatchedEngine

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[SavingEngine]:
        self.inner = WatchedEngine()
        with opened(tmp_path) as tree:
            yield SavingEngine(self.inner, tree, of_any_bytes)

    @pytest.fixture
    def refused(self, engine: SavingEngine) -> Deployable:
        bad = contract.deployable("menu", "bad")
        self.inner.refuses_digests[bad.entry.digest] = "bad endpoint"
        return bad


class TestSavingEngineOnADiskThatRefuses(contract.EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[SavingEngine]:
        with opened(tmp_path) as tree:
            yield SavingEngine(MemoryEngine(), tree, self.read)

    @pytest.fixture
    def refused(self) -> Deployable:
        return contract.deployable("menu", "bad")

    @staticmethod
    def read(api_id: str, content: bytes) -> Artifact:
        if content != b"bad":
            return of_any_bytes(api_id, content)
        skipped = Part("sequence", "fault", "sequences/fault.xml", content)
        return Artifact(Identity(SUPER_TENANT, "api", api_id, ""), api_id, (skipped,))


@contextmanager
def saving(
    folder: Path, inner: Engine | None = None, *, restore: bool = True, killer: Killer | None = None
) -> Iterator[SavingEngine]:
    with opened(folder, killer or Killer(), restore=restore) as tree:
        yield SavingEngine(inner or MemoryEngine(), tree)


async def deploy(engine: Engine, *made: Artifact, undeploy: tuple[str, ...] = ()) -> None:
    assert await engine.apply([deployable(each) for each in made], undeploy) == {}


def tree_of(folder: Path) -> dict[str, bytes]:
    return files_in(folder / "repository")


# Both or neither ------------------------------------------------------------------------------


@pytest.mark.promise(4)
async def test_what_the_engine_refuses_is_not_in_the_tree(tmp_path: Path) -> None:
    inner = WatchedEngine()
    with saving(tmp_path, inner) as engine:
        await deploy(engine, menu("1"))
        inner.refuses[menu().api_id] = "bad endpoint"
        answer = await engine.apply([deployable(menu("2")), deployable(menu(name="Other"))], ())
        assert answer == {menu().api_id: "bad endpoint"}
        assert tree_of(tmp_path) == files_wanted(menu("1"), menu(name="Other"))


@pytest.mark.promise(4)
async def test_what_the_tree_refuses_is_not_in_the_engine(tmp_path: Path) -> None:
    base = artifact("fault", part("sequences/fault.xml"), kind="sequence")
    with saving(tmp_path) as engine:
        answer = await engine.apply([deployable(base), deployable(menu())], ())
        assert "belongs to a server's installation" in answer[base.api_id]
        assert list(engine.api_ids()) == [menu().api_id]
        assert tree_of(tmp_path) == files_wanted(menu())


async def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with saving(tmp_path) as engine:
        answer = await engine.apply([contract.deployable("menu", "{}")], ())
        assert "it cannot be saved: this is not an artifact document" in answer[id_of("menu")]
        assert tree_of(tmp_path) == {}


async def test_an_engine_that_cannot_work_leaves_the_tree_as_it_was(tmp_path: Path) -> None:
    inner = WatchedEngine()
    with saving(tmp_path, inner) as engine:
        await deploy(engine, menu("1"))
        inner.broken = "out of order"
        with pytest.raises(EngineError, match="out of order"):
            await engine.apply([deployable(menu("2"))], [menu().api_id])
        assert tree_of(tmp_path) == files_wanted(menu("1"))
        inner.broken = ""
        await deploy(engine, menu("2"))
        assert tree_of(tmp_path) == files_wanted(menu("2"))


async def test_a_cancelled_apply_leaves_nothing_unfinished_behind(tmp_path: Path) -> None:
    class Stuck(MemoryEngine):
        async def apply(
            self, deploy: Sequence[Deployable], undeploy: Collection[str]
        ) -> Mapping[str, str]:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

    reached = asyncio.Event()
    with saving(tmp_path, Stuck()) as engine:
        applying = asyncio.create_task(engine.apply([deployable(menu())], ()))
        await reached.wait()
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
        assert tree_of(tmp_path) == {}


async def test_a_cancellation_waits_until_the_thread_is_done(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def step(what: str) -> None:
        if what.startswith("put") and not entered.is_set():
            entered.set()
            leave.wait(10)

    with opened(tmp_path, step) as tree:
        engine = SavingEngine(MemoryEngine(), tree)
        applying = asyncio.create_task(engine.apply([deployable(menu())], ()))
        await asyncio.to_thread(entered.wait, 10)
        applying.cancel()
        await asyncio.sleep(0)
        applying.cancel()
        assert not applying.done()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await applying
        await deploy(engine, menu("2"))
        assert tree_of(tmp_path) == files_wanted(menu("2"))


# After a start --------------------------------------------------------------------------------


@pytest.mark.promise(6)
async def test_what_was_saved_before_stays_until_it_is_known_to_be_unwanted(
    tmp_path: Path,
) -> None:
    gone, failing = menu(name="Gone"), menu(name="Failing")
    inner = WatchedEngine()
    inner.refuses[failing.api_id] = "bad endpoint"
    with saving(tmp_path) as engine:
        await deploy(engine, menu("1"), gone, failing)
    with saving(tmp_path, inner) as engine:
        assert set(engine.api_ids()) == {menu().api_id, gone.api_id, failing.api_id}
        assert engine.content(menu().api_id) is None
        await engine.apply([deployable(menu("2")), deployable(failing)], ())
        assert tree_of(tmp_path) == files_wanted(menu("2"), gone, failing)
        wanted = {menu().api_id, failing.api_id}
        assert await engine.apply((), set(engine.api_ids()) - wanted) == {}
        assert tree_of(tmp_path) == files_wanted(menu("2"), failing)
        assert set(engine.api_ids()) == wanted
        assert engine.saved_files == 8


async def test_what_was_saved_before_can_be_undeployed_by_name(tmp_path: Path) -> None:
    with saving(tmp_path) as engine:
        await deploy(engine, menu())
    with saving(tmp_path) as engine:
        await deploy(engine, undeploy=(menu().api_id,))
        assert list(engine.api_ids()) == []
        assert tree_of(tmp_path) == {}


# Drift ----------------------------------------------------------------------------------------


async def test_what_people_did_is_found_told_and_undone(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    with saving(tmp_path) as engine:
        await deploy(engine, menu(), menu(name="Other"))
        assert await engine.check() == []
        (root / API).write_bytes(b"mine")
        (root / SEQUENCE).unlink()
        assert [each.what for each in await engine.drift()] == ["edited", "missing"]
        assert engine.drifted == 2
        assert await engine.check() == []
        assert (engine.drifted, engine.restored, engine.error) == (0, 2, "")
        assert tree_of(tmp_path) == files_wanted(menu(), menu(name="Other"))


async def test_what_people_did_is_only_told_where_that_is_configured(tmp_path: Path) -> None:
    path = tmp_path / "repository" / API
    with saving(tmp_path, restore=False) as engine:
        await deploy(engine, menu())
        path.write_bytes(b"mine")
        assert [(each.path, each.what) for each in await engine.check()] == [(API, "edited")]
        assert (engine.drifted, engine.restored) == (1, 0)
        assert path.read_bytes() == b"mine"
        await deploy(engine, menu("2"))
        assert await engine.check() == []
        assert tree_of(tmp_path) == files_wanted(menu("2"))


async def test_what_stands_in_a_files_place_is_left_alone_and_told(tmp_path: Path) -> None:
    path = tmp_path / "repository" / SEQUENCE
    with saving(tmp_path) as engine:
        await deploy(engine, menu())
        path.unlink()
        path.mkdir()
        assert [each.what for each in await engine.check()] == ["replaced"]
        assert f"{SEQUENCE} is no regular file" in engine.error
        assert engine.drifted == 1
        path.rmdir()
        assert await engine.check() == []
        assert engine.error == ""
        assert tree_of(tmp_path) == files_wanted(menu())


async def test_a_file_in_the_last_moment_is_an_error_until_it_is_moved_away(
    tmp_path: Path,
) -> None:
    path = tmp_path / "repository" / SEQUENCE

    class Racing(MemoryEngine):
        async def apply(
            self, deploy: Sequence[Deployable], undeploy: Collection[str]
        ) -> Mapping[str, str]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"foreign")
            return await super().apply(deploy, undeploy)

    with saving(tmp_path, Racing()) as engine:
        await deploy(engine, menu())
        assert "was changed by somebody else meanwhile" in engine.error
        assert path.read_bytes() == b"foreign"
        assert API not in tree_of(tmp_path)
        await engine.check()
        assert "gatesync did not write this file" in engine.error
        path.unlink()
        await engine.check()
        assert engine.error == ""
        assert tree_of(tmp_path) == files_wanted(menu())


async def test_it_is_checked_at_each_interval(tmp_path: Path) -> None:
    path = tmp_path / "repository" / API
    with saving(tmp_path) as engine:
        await deploy(engine, menu())
        watching = asyncio.create_task(engine.watch(0.01))
        path.write_bytes(b"mine")
        await until(lambda: engine.restored == 1, within=10)
        watching.cancel()
        assert tree_of(tmp_path) == files_wanted(menu())


async def test_more_files_than_are_looked_at_in_one_go(tmp_path: Path) -> None:
    parts = [part(f"sequences/s{number:04}.xml") for number in range(1003)]
    made = [artifact("many", *parts, kind="sequence")]
    with saving(tmp_path) as engine:
        await deploy(engine, *made)
        for number in (0, 999, 1000, 1002):
            (tmp_path / "repository" / CONFIGS / f"sequences/s{number:04}.xml").unlink()
        assert len(await engine.drift()) == 4
        assert await engine.check() == []
        assert engine.restored == 4


# Opening --------------------------------------------------------------------------------------


def test_a_second_writer_of_one_home_or_one_data_folder_is_refused(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(open_tree(tmp_path / "home", tmp_path / "data"))
        for home, data in (("home", "other"), ("other", "data")):
            with (
                pytest.raises(TreeError, match="another gateway saves its artifacts there"),
                open_tree(tmp_path / home, tmp_path / data),
            ):
                pass
    with open_tree(tmp_path / "home", tmp_path / "data"):
        pass


def test_the_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    with open_tree(tmp_path / "home", tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["folder", "record"])
def test_what_cannot_be_used_is_told(tmp_path: Path, damage: str) -> None:
    if damage == "folder":
        (tmp_path / "repository").write_text("a file")
    else:
        (tmp_path / "data/saved-tree").mkdir(parents=True)
        (tmp_path / "data/saved-tree/files.db").write_bytes(b"no database" * 100)
    with pytest.raises(TreeError, match=f"{tmp_path}/"), open_tree(tmp_path, tmp_path / "data"):
        pass
