import pytest

from gatesync.stores.memory import MemoryStore
from tests.contracts.store import Bench, StoreContract

pytestmark = pytest.mark.fast


class MemoryBench:
    def __init__(self) -> None:
        self.store = MemoryStore()

    async def catch_up(self) -> None:
        """Nothing lags."""

    async def reopen(self) -> None:
        """Memory has nothing to reopen: the store stays."""


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def bench(self) -> Bench:
        return MemoryBench()
