"""The contract of the artifact store: what every adapter must pass.

Derive a test class from `StoreContract` and give it a fixture `bench`, which yields a `Bench`
on an empty store:

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def bench(self) -> AsyncIterator[Bench]: ...
"""

from tests.contracts.saves import Bench
from tests.contracts.store_attesting import Attesting
from tests.contracts.store_compacting import Compacting
from tests.contracts.store_history import Remembering
from tests.contracts.store_reading import Reading
from tests.contracts.store_references import Referring
from tests.contracts.store_saving import Saving

__all__ = ["Bench", "KeepingContract", "StoreContract"]


class KeepingContract(Saving, Referring, Reading, Remembering, Attesting):
    """What is asked of a store that never forgets anything: all but what compaction does."""


class StoreContract(KeepingContract, Compacting):
    """All of it."""
