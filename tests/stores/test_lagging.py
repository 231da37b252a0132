from collections.abc import Awaitable, Callable

import pytest

from gatesync.stores.store import Behind, SaveOutcome
from tests.contracts.saves import asked, held, publish, remove
from tests.contracts.store import StoreContract
from tests.stores.lagging import LAG_SECONDS, LaggingStore

pytestmark = pytest.mark.fast


class LaggingBench:
    def __init__(self) -> None:
        self.now = 0.0
        self.store = LaggingStore(lambda: self.now)

    async def catch_up(self) -> None:
        self.now += LAG_SECONDS

    async def reopen(self) -> None:
        await self.catch_up()


@pytest.fixture
def bench() -> LaggingBench:
    return LaggingBench()


class TestLaggingStore(StoreContract):
    """The whole contract, for readers who wait."""


@pytest.mark.promise(2)
async def test_at_least_is_answered_behind_until_the_replica_has_it(bench: LaggingBench) -> None:
    await bench.store.save([asked("Shop", publish("A"))])
    await bench.catch_up()
    [outcome] = await bench.store.save([asked("Shop", remove("A"), publish("B"))])
    assert isinstance(outcome, SaveOutcome)
    wanted = outcome.heads[0].cursor
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: bench.store.heads(["Shop"], {"Shop": wanted}),
        lambda: bench.store.manifest("Shop", at_least=wanted),
        lambda: bench.store.manifest("Shop", at=wanted),
        lambda: bench.store.changes("Shop", wanted),
    ]
    for seconds in (0.0, 1.0, 1.9):
        bench.now += seconds
        for question in questions:
            with pytest.raises(Behind) as caught:
                await question()
            assert caught.value.head.revision == 1
        assert set(await held(bench, "Shop")) == {"A"}  # older, and it says so: revision 1
    bench.now += 0.2
    for question in questions:
        await question()
    assert set(await held(bench, "Shop")) == {"B"}
