import pytest

from gatesync.engines.engine import Deployable
from gatesync.engines.memory import MemoryEngine, open_memory_engine
from tests.contracts.engine import EngineContract, deploy, deployable
from tests.contracts.saves import id_of
from tests.gateway.cluster import WatchedEngine

pytestmark = pytest.mark.fast


class TestMemoryEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine()

    @pytest.fixture
    def refused(self) -> None:
        return None


class TestEngineOfTheTests(EngineContract):
    """So that the suite's own part about refusals is tested, and the double keeps the contract."""

    @pytest.fixture
    def engine(self) -> WatchedEngine:
        return WatchedEngine()

    @pytest.fixture
    def refused(self, engine: WatchedEngine) -> Deployable:
        bad = deployable("menu", "bad")
        engine.refuses_digests[bad.entry.digest] = "bad endpoint"
        return bad


@pytest.mark.promise(5)
async def test_a_snapshot_is_whole_and_stays_as_it_is() -> None:
    engine = MemoryEngine()
    await deploy(engine, deployable("menu", "1"), deployable("bread"))
    snapshot = engine.snapshot()
    await deploy(engine, deployable("menu", "2"), undeploy=(id_of("bread"),))
    assert dict(snapshot) == {id_of("menu"): b"1", id_of("bread"): b"1"}
    assert dict(engine.snapshot()) == {id_of("menu"): b"2"}


async def test_it_opens_empty_like_any_other_adapter() -> None:
    async with open_memory_engine(None) as engine:
        assert list(engine.api_ids()) == []
