"""What a publisher forgets: what is beyond the count, and beyond the age."""

import asyncio

import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.publisher.service import COMPACT_SECONDS, Publisher
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import TooOld
from tests.contracts.saves import asked, publish
from tests.gateway.virtual_time import in_virtual_time

pytestmark = pytest.mark.fast


async def floor_of(store: MemoryStore, label: str) -> int:
    """The oldest revision that changes can be asked since."""
    for revision in range(100):
        try:
            await store.changes(label, Cursor(store.epoch, revision))
        except TooOld:
            continue
        return revision
    raise AssertionError


@in_virtual_time
async def test_a_revision_goes_when_it_is_beyond_the_count_and_old() -> None:
    loop = asyncio.get_running_loop()
    begin, store = loop.time(), MemoryStore()
    for minute in range(10):  # published at minutes 0 to 9
        item = publish("A", str(minute))
        await store.save([asked("Shop", item, published_at=minute * 60_000)])

    def wall_clock() -> float:
        return 9 * 60 + 5 + loop.time() - begin

    publisher = Publisher(
        store, None, "p", retention=3, retention_age=5 * 60, wall_clock=wall_clock
    )
    running = asyncio.create_task(publisher.run())
    floors = []
    for _ in range(5):
        await asyncio.sleep(1)
        floors.append(await floor_of(store, "Shop"))
        await asyncio.sleep(COMPACT_SECONDS - 1)
    running.cancel()
    await asyncio.wait([running])
    # At first it is some seconds past minute 9, and revision 6, of minute 5, is still young. In
    # the end the newest three are kept however old they are.
    assert floors == [5, 6, 7, 7, 7]
