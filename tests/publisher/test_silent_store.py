"""A store that says nothing for a long time, seen from who waits and from who looks."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from gatesync.artifacts.changes import Head
from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher.announcing import Announcer
from gatesync.publisher.committing import Committer
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import Refused, SaveOutcome, Sign, StoreError
from tests.contracts.saves import asked, publish
from tests.gateway.virtual_time import clock_of, in_virtual_time, until

pytestmark = pytest.mark.fast

DEADLINE = 30.0


class SilentStore(MemoryStore):
    """Fails, and takes its time for it, until it is mended."""

    def __init__(self, seconds: float = DEADLINE) -> None:
        super().__init__()
        self.silent = True
        self.asked = 0
        self._seconds = seconds

    async def labels(self) -> list[Head]:
        await self._answer(unsure=False)
        return await super().labels()

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        self.asked += 1
        await self._answer(unsure=True)
        return await super().save(requests, sign=sign)

    async def _answer(self, *, unsure: bool) -> None:
        if self.silent:
            await asyncio.sleep(self._seconds)
            raise StoreError("no answer", unsure=unsure)


async def submitted(committer: Committer, name: str) -> SaveOutcome | Refused | StoreError:
    try:
        return await committer.submit(asked("L", publish(name)))
    except StoreError as error:
        return error


def committing(store: SilentStore) -> Committer:
    async def nobody(_request: SaveRequest, _outcome: SaveOutcome) -> None:
        """There is no broker."""

    return Committer(store, nobody)


@in_virtual_time
async def test_who_waits_behind_a_silent_store_is_told_when_it_fails_and_is_not_tried() -> None:
    store = SilentStore()
    committer = committing(store)
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(committer.run())
        first = tasks.create_task(submitted(committer, "first"))
        await until(lambda: store.asked, within=1)
        began = clock()
        behind = [tasks.create_task(submitted(committer, f"{number}")) for number in range(3)]
        answers = [await each for each in (first, *behind)]
        assert clock() - began <= DEADLINE
        assert [(str(each), getattr(each, "unsure", None)) for each in answers] == [
            ("no answer", True),  # it may have been saved
            *[("no answer", False)] * 3,
        ]
        assert (store.asked, committer.store_error) == (1, "no answer")
        store.silent = False
        assert isinstance(await submitted(committer, "later"), SaveOutcome)
        assert committer.store_error == ""
        running.cancel()


@in_virtual_time
async def test_who_waits_behind_a_store_that_fails_at_once_is_tried() -> None:
    store = SilentStore(seconds=0.1)
    committer = committing(store)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(committer.run())
        first = tasks.create_task(submitted(committer, "first"))
        await until(lambda: store.asked, within=1)
        behind = tasks.create_task(submitted(committer, "second"))
        await asyncio.sleep(0.05)
        store.silent = False  # too late for the first
        assert isinstance(await first, StoreError)
        assert isinstance(await behind, SaveOutcome)
        running.cancel()


@in_virtual_time
async def test_silence_is_told_of_before_it_becomes_a_failure() -> None:
    store = SilentStore()
    clock: Callable[[], float] = clock_of(asyncio.get_running_loop())
    announcer = Announcer(store, None, "p1", heartbeat=5.0, clock=clock)
    began = clock()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(announcer.run())
        assert announcer.store_error == ""
        await until(lambda: announcer.store_error, within=DEADLINE)
        assert 10 <= clock() - began < 11
        assert "no answer for 10 s" in announcer.store_error
        await until(lambda: announcer.store_error == "no answer", within=DEADLINE)
        store.silent = False
        await until(lambda: not announcer.store_error, within=DEADLINE)
        running.cancel()
