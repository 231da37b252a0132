"""The SQL store against the store in memory: whatever is done to both, they answer alike."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, ExitStack
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from gatesync.artifacts.changes import Cursor
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.stores.memory import MemoryStore
from gatesync.stores.sql import SqlStore, open_sql_store
from gatesync.stores.store import Refused, SaveOutcome, read_manifest
from tests.contracts.saves import applied, asked, held_at, publish, remove
from tests.servers.database import Databases
from tests.stores.budget import BUDGET
from tests.stores.sql_bench import SqliteFiles

T = TypeVar("T")
LABELS = ("Shop", "shop", "Café")

# Mostly what goes well: one bad item refuses its request, and a log of refusals is empty.
publishes = st.builds(
    publish,
    st.sampled_from("ABCD"),
    st.sampled_from(["1", "2", "3"]),
    claims=st.sampled_from([(), (), (), ("/x",), ("/x", "/y"), ("/y",), ("/z",)]),
    needs=st.sampled_from([(), (), (), (), ("/x",), ("/y", "/z")]),
)
removals = st.builds(remove, st.sampled_from("ABCD"))
items: st.SearchStrategy[Publish | Remove] = st.one_of(
    publishes, publishes, publishes, publishes, publishes, removals
)


def id_of_item(item: Publish | Remove) -> str:
    return item.api_id if isinstance(item, Remove) else item.entry.api_id


requests = st.builds(
    lambda labels, sets, force, at: asked(
        labels, *sets, author="ann", origin="here", force=force, published_at=at
    ),
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=2, unique=True),
    st.lists(
        st.lists(items, min_size=1, max_size=3, unique_by=id_of_item),
        min_size=1,
        max_size=2,
    ),
    st.booleans(),
    st.integers(0, 9),
)


class SqlAgainstMemory(RuleBasedStateMachine):
    def __init__(self, databases: Databases) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.made = ExitStack()
        self.url = self.made.enter_context(databases.database())
        self.opened = AsyncExitStack()
        self.known: list[SaveRequest] = []
        self.floors = dict.fromkeys(LABELS, 0)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def open(self) -> SqlStore:
        return await self.opened.enter_async_context(open_sql_store(self.url))

    @initialize()
    def begin(self) -> None:
        self.sql = self.run(self.open())
        self.memory = MemoryStore(self.sql.epoch)

    @rule(batch=st.lists(requests, min_size=1, max_size=3))
    def save(self, batch: list[SaveRequest]) -> None:
        answers = self.run(self.sql.save(batch))
        expected = self.run(self.memory.save(batch))
        assert [comparable(each) for each in answers] == [comparable(each) for each in expected]
        self.known += batch

    @rule(label=st.sampled_from(LABELS), publishing=publishes, data=st.data())
    def replace(self, label: str, publishing: Publish, data: st.DataObject) -> None:
        """Remove something that is held, and perhaps publish what may want its names."""
        _, held = self.run(read_manifest(self.memory, label))
        if held:
            going = Remove(data.draw(st.sampled_from(sorted(held))))
            coming = publishing.entry.api_id != going.api_id and data.draw(st.booleans())
            items = [going, publishing] if coming else going
            # At the time of the others: keys that are a week older than the newest are forgotten.
            self.save([asked(label, items, published_at=5)])

    @rule(batch=st.lists(requests, min_size=1, max_size=3))
    def preview(self, batch: list[SaveRequest]) -> None:
        assert self.run(self.sql.preview(batch)) == self.run(self.memory.preview(batch))

    @rule(name=st.sampled_from("ABCD"))
    def history(self, name: str) -> None:
        assert self.run(self.sql.history(name)) == self.run(self.memory.history(name))

    @rule(data=st.data())
    def save_again(self, data: st.DataObject) -> None:
        if self.known:
            self.save([data.draw(st.sampled_from(self.known))])

    @rule(request=requests, data=st.data())
    def save_with_a_used_key(self, request: SaveRequest, data: st.DataObject) -> None:
        if self.known:
            key = data.draw(st.sampled_from(self.known)).key
            self.save([msgspec.structs.replace(request, key=key)])

    @rule(
        label=st.sampled_from(LABELS),
        keep=st.integers(0, 4),
        young=st.one_of(st.none(), st.integers(0, 10)),
    )
    def compact(self, label: str, keep: int, young: int | None) -> None:
        floor = self.run(self.sql.compact(label, keep, young))
        assert floor == self.run(self.memory.compact(label, keep, young))
        self.floors[label] = floor

    @rule(label=st.sampled_from(LABELS), number=st.integers(0, 99))
    def confirm(self, label: str, number: int) -> None:
        confirmation = self.run(self.sql.confirm(label, str(number)))
        assert confirmation == self.run(self.memory.confirm(label, str(number)))

    @rule()
    def reopen(self) -> None:
        self.run(self.opened.aclose())
        self.sql = self.run(self.open())
        assert self.sql.epoch == self.memory.epoch

    @rule()
    def compare(self) -> None:
        self.run(self.compare_everything())

    def teardown(self) -> None:
        try:
            if hasattr(self, "sql"):
                self.compare()
        finally:
            self.run(self.opened.aclose())
            self.runner.close()
            self.made.close()

    async def compare_everything(self) -> None:
        assert await self.sql.labels() == await self.memory.labels()
        heads = await self.sql.heads(LABELS)
        assert heads == await self.memory.heads(LABELS)
        for label, head in heads.items():
            sets = await self.sql.change_sets(label, 0, 1_000)
            expected = await self.memory.change_sets(label, 0, 1_000)
            assert sets == expected
            assert [each.revision for each in sets] == [
                *range(self.floors[label] + 1, head.revision + 1)
            ]
            await self.compare_revisions(label, head.revision)

    async def compare_revisions(self, label: str, newest: int) -> None:
        _, now = await read_manifest(self.sql, label)
        for revision in range(newest + 1):
            at = Cursor(self.sql.epoch, revision)
            assert await self.sql.digest_at(label, at) == await self.memory.digest_at(label, at)
            if revision < self.floors[label]:
                continue
            held = await held_at(self.sql, label, at)
            assert held == await held_at(self.memory, label, at)
            digests = {entry.digest for entry in held.values()}
            contents = await self.sql.contents(digests)
            assert contents == await self.memory.contents(digests)
            assert await self.sql.sizes(digests) == await self.memory.sizes(digests)
            assert set(contents) == digests
            delta = await self.sql.changes(label, at)
            assert applied(held, delta) == now
            expected = await self.memory.changes(label, at)
            assert (delta.head, set(delta.changes)) == (expected.head, set(expected.changes))
            assert len(delta.changes) == len(expected.changes)


def comparable(answer: SaveOutcome | Refused) -> Any:
    """What stores must agree on: the words about a refused key are free."""
    if isinstance(answer, Refused):
        return "key used" if answer.key_used else answer
    return answer.change_sets, answer.heads, answer.repeated


def test_sql_answers_as_memory_does(databases: Databases) -> None:
    is_server = not isinstance(databases, SqliteFiles)
    run_state_machine_as_test(
        lambda: SqlAgainstMemory(databases),
        settings=settings(
            max_examples=max(1, int((8 if is_server else 25) * BUDGET)),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
