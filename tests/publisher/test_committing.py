import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher import committing
from gatesync.publisher.committing import Committer
from gatesync.stores.memory import MemoryStore
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import Refused, SaveOutcome, Sign, StoreError, read_manifest
from tests.contracts.saves import asked, publish, remove

pytestmark = pytest.mark.fast

Saved = list[tuple[SaveRequest, SaveOutcome]]


class HeldStore(MemoryStore):
    """Commits when it is let; may fail instead. Remembers how large each batch was."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.batches: list[int] = []
        self.failure: StoreError | None = None

    async def save(
        self, requests: Sequence[SaveRequest], *, sign: Sign | None = None
    ) -> list[SaveOutcome | Refused]:
        self.batches.append(len(requests))
        self.begun.set()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return await super().save(requests, sign=sign)


@asynccontextmanager
async def running(store: MemoryStore, saved: Saved | None = None) -> AsyncIterator[Committer]:
    told: Saved = [] if saved is None else saved

    async def tell(request: SaveRequest, outcome: SaveOutcome) -> None:
        told.append((request, outcome))

    committer = Committer(store, tell)
    task = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@pytest.mark.promise(3)
async def test_of_64_concurrent_requests_an_invalid_one_fails_alone_and_the_others_share_commits(
    tmp_path: Path,
) -> None:
    requests = [asked("L", publish(f"api-{number}")) for number in range(64)]
    requests[17] = asked("L", remove("nobody has it"))
    saved: Saved = []
    async with open_sql_store(f"sqlite:///{tmp_path}/artifacts.db") as store:

        async def tell(request: SaveRequest, outcome: SaveOutcome) -> None:
            saved.append((request, outcome))

        committer = Committer(store, tell)
        task = asyncio.create_task(committer.run())
        answers = await asyncio.gather(*(committer.submit(each) for each in requests))
        task.cancel()
        await asyncio.wait([task])
        head, entries = await read_manifest(store, "L")
        assert store.commits == committer.commits < 64
    refused = [number for number, each in enumerate(answers) if isinstance(each, Refused)]
    assert refused == [17]
    assert head.revision == len(entries) == 63
    revisions = {
        change_set.revision
        for answer in answers
        if isinstance(answer, SaveOutcome)
        for change_set in answer.change_sets
    }
    assert revisions == set(range(1, 64))
    assert [o.change_sets[0].revision for _, o in saved] == list(range(1, 64))


async def test_what_comes_during_a_commit_goes_into_the_next_one() -> None:
    store = HeldStore()
    async with running(store) as committer:
        first = asyncio.create_task(committer.submit(asked("L", publish("menu"))))
        await store.begun.wait()
        later = [
            asyncio.create_task(committer.submit(asked("L", publish(f"api-{n}"))))
            for n in range(10)
        ]
        await asyncio.sleep(0)
        store.go.set()
        await asyncio.gather(first, *later)
    assert store.batches == [1, 10]


async def test_a_batch_has_a_limit_of_requests_and_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committing, "BATCH_REQUESTS", 4)
    monkeypatch.setattr(committing, "BATCH_BYTES", 100)
    store = HeldStore()
    store.go.set()
    async with running(store) as committer:
        small = [asked("L", publish(f"small-{n}", b"x")) for n in range(6)]
        large = [asked("L", publish(f"large-{n}", b"x" * 60)) for n in range(3)]
        huge = asked("L", publish("huge", b"x" * 500))
        await asyncio.gather(*(committer.submit(each) for each in [*small, *large, huge]))
    assert store.batches == [4, 3, 1, 1, 1]


@pytest.mark.promise(3)
async def test_an_answer_comes_after_the_commit_and_only_then_is_it_announced() -> None:
    store, saved = HeldStore(), Saved()
    async with running(store, saved) as committer:
        waiting = asyncio.create_task(committer.submit(asked("L", publish("menu"))))
        await store.begun.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert saved == []
        store.go.set()
        assert isinstance(await waiting, SaveOutcome)


@pytest.mark.promise(3)
async def test_what_was_saved_before_is_not_announced_again() -> None:
    store, saved = MemoryStore(), Saved()
    async with running(store, saved) as committer:
        request = asked("L", publish("menu"))
        first = await committer.submit(request)
        again = await committer.submit(request)
        unchanged = await committer.submit(asked("L", publish("menu")))
    assert isinstance(first, SaveOutcome)
    assert isinstance(again, SaveOutcome)
    assert again.repeated
    assert isinstance(unchanged, SaveOutcome)
    assert not unchanged.change_sets
    assert [request.key for request, _ in saved] == [request.key]
    assert committer.saved_requests == 1


async def test_a_store_that_fails_tells_everyone_who_waits_and_the_next_commit_goes_on() -> None:
    store = HeldStore()
    store.failure = StoreError("database is on fire")
    store.go.set()
    requests = [asked("L", publish(f"api-{n}")) for n in range(5)]
    async with running(store) as committer:
        answers = await asyncio.gather(
            *(committer.submit(each) for each in requests), return_exceptions=True
        )
        assert [str(each) for each in answers] == ["database is on fire"] * 5
        assert all(isinstance(each, StoreError) for each in answers)
        store.failure = None
        assert isinstance(await committer.submit(requests[0]), SaveOutcome)


async def test_a_caller_who_goes_away_disturbs_nobody() -> None:
    store = HeldStore()
    async with running(store) as committer:
        first, second = (
            asyncio.create_task(committer.submit(asked("L", publish(name))))
            for name in ("menu", "bread")
        )
        await store.begun.wait()
        first.cancel()
        store.go.set()
        assert isinstance(await second, SaveOutcome)
        assert (await store.heads(["L"]))["L"].revision == 2  # it was too late to call it back


async def test_a_stop_tells_those_in_the_commit_those_behind_it_and_those_after_it() -> None:
    store = HeldStore()
    async with running(store) as committer:
        inside = asyncio.create_task(committer.submit(asked("L", publish("menu"))))
        await store.begun.wait()
        behind = asyncio.create_task(committer.submit(asked("L", publish("bread"))))
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        after = asyncio.create_task(committer.submit(asked("L", publish("ham"))))
        answers = await asyncio.gather(inside, behind, after, return_exceptions=True)
    assert [type(each) for each in answers] == [StoreError] * 3
    assert all("repeat" in str(each) for each in answers)


async def test_each_committed_change_set_is_logged_once_under_its_id() -> None:
    store = HeldStore()
    store.go.set()
    with capture_logs() as lines:
        async with running(store) as committer:
            outcome = await committer.submit(asked(["L", "M"], publish("menu")))
            assert isinstance(outcome, SaveOutcome)
            assert isinstance(await committer.submit(asked("L", remove("nobody"))), Refused)
    told = [(each["event"], each["log_level"], each["change"], each["changes"]) for each in lines]
    epoch = store.epoch[:8]
    assert told == [
        ("committed", "info", f"L@1.{epoch}", 1),
        ("committed", "info", f"M@1.{epoch}", 1),
    ]
