"""What a token opens by digest: what the kept revisions of its labels name, and no more."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import ChangeSet, Cursor, Head
from gatesync.publisher.readable import LOOK_SECONDS, ReadableContents
from gatesync.publisher.tokens import Principal, Role
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import ManifestPage, SaveOutcome, StoreError
from tests.contracts.saves import asked, held_at, publish, remove

pytestmark = pytest.mark.fast

NODE_A = Principal("n1", Role.NODE, ("A",))


class Counting(MemoryStore):
    """Counts the questions that it is asked, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0
        self.away = False
        self.lists = 0

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        self._count()
        return await super().heads(labels, at_least)

    async def change_sets(self, label: str, since: int, limit: int) -> list[ChangeSet]:
        self._count()
        return await super().change_sets(label, since, limit)

    async def manifest(self, label: str, **more: Any) -> ManifestPage:
        self.lists += not more.get("after")
        await asyncio.sleep(0)
        return await super().manifest(label, **more)

    def _count(self) -> None:
        self.questions += 1
        if self.away:
            raise StoreError("the store is away")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def save(store: MemoryStore, labels: str | list[str], *items: Any) -> None:
    for answer in await store.save([asked(labels, *items)]):
        assert isinstance(answer, SaveOutcome)


def digest(content: str) -> str:
    return publish("any", content).entry.digest


async def test_what_only_another_label_holds_is_as_closed_as_what_nobody_has() -> None:
    store = Counting()
    readable = ReadableContents(store)
    await save(store, "A", publish("menu", "a"))
    await save(store, "B", publish("order", "b"))
    await save(store, ["A", "B"], publish("shared", "both"))
    asked_for = [digest(each) for each in ("b", "a", "nothing", "both")]
    assert await readable.of(NODE_A, asked_for) == (digest("a"), digest("both"))
    both = Principal("n2", Role.NODE, ("A", "B"))
    assert await readable.of(both, asked_for) == tuple(digest(each) for each in ("b", "a", "both"))


@pytest.mark.parametrize(
    "who",
    [
        Principal("n", Role.NODE, ("*",)),
        Principal("op", Role.PUBLISH),
        Principal("op", Role.PUBLISH, tenants=("example.com",)),
        Principal("ro", Role.READ),
    ],
)
async def test_whoever_reads_every_label_is_not_held_up(who: Principal) -> None:
    store = Counting()
    assert await ReadableContents(store).of(who, ["x"]) == ("x",)
    assert store.questions == 0


async def test_a_publisher_that_is_limited_reads_its_labels() -> None:
    store = Counting()
    await save(store, "A", publish("menu", "a"))
    await save(store, "B", publish("order", "b"))
    who = Principal("ci", Role.PUBLISH, ("A",))
    assert await ReadableContents(store).of(who, [digest("a"), digest("b")]) == (digest("a"),)


async def test_what_is_known_costs_no_question_and_what_is_new_is_found_at_once() -> None:
    store = Counting()
    readable = ReadableContents(store)
    await save(store, "A", publish("menu", "a"))
    await readable.of(NODE_A, [digest("a")])
    before = store.questions
    for _ in range(5):
        assert await readable.of(NODE_A, [digest("a")]) == (digest("a"),)
    assert store.questions == before
    await save(store, "A", publish("menu", "a2"))
    assert await readable.of(NODE_A, [digest("a2")]) == (digest("a2"),)
    assert store.lists == 1, "it follows the log, and does not read the label anew"


async def test_many_who_start_at_once_have_the_label_read_once() -> None:
    store = Counting()
    readable = ReadableContents(store)
    await save(store, "A", *(publish(f"api-{n}", f"{n}") for n in range(20)))
    wanted = [digest(str(n)) for n in range(20)]
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(readable.of(NODE_A, wanted)) for _ in range(50)]
    assert {task.result() for task in answers} == {tuple(wanted)}
    assert store.lists == 1


async def test_a_node_that_lags_still_gets_what_a_kept_revision_named() -> None:
    store, clock = Counting(), Clock()
    readable = ReadableContents(store, clock)
    for n in range(4):
        await save(store, "A", publish("menu", f"menu {n}"))
    await save(store, "A", publish("other", "other"))
    await save(store, "A", remove("menu"))
    everything = [digest(f"menu {n}") for n in range(4)]
    assert await readable.of(NODE_A, everything) == tuple(everything)
    assert await store.compact("A", 3) == 3  # what it held at revision 3, and since
    clock.now += LOOK_SECONDS + 1
    assert await readable.of(NODE_A, everything) == tuple(everything[2:])
    assert await ReadableContents(store).of(NODE_A, everything) == tuple(everything[2:])
    assert await store.compact("A", 0) == 6
    clock.now += LOOK_SECONDS + 1
    assert await readable.of(NODE_A, [*everything, digest("other")]) == (digest("other"),)


async def test_what_was_removed_is_open_a_minute_longer_than_it_is_kept_at_most() -> None:
    store, clock = Counting(), Clock()
    readable = ReadableContents(store, clock)
    await save(store, "A", publish("menu", "a"))
    assert await readable.of(NODE_A, [digest("a")]) == (digest("a"),)
    await save(store, "A", remove("menu"))
    await save(store, "B", publish("menu", "a"))  # so that the bytes are still there
    await store.compact("A", 0)
    clock.now += LOOK_SECONDS + 1
    assert await readable.of(NODE_A, [digest("a")]) == ()


async def test_a_store_that_is_away_closes_nothing_that_was_open() -> None:
    store, clock = Counting(), Clock()
    readable = ReadableContents(store, clock)
    await save(store, "A", publish("menu", "a"))
    await readable.of(NODE_A, [digest("a")])
    store.away = True
    clock.now += LOOK_SECONDS + 1
    assert await readable.of(NODE_A, [digest("a")]) == (digest("a"),)
    with pytest.raises(StoreError):
        await readable.of(NODE_A, [digest("b")])
    store.away = False
    await save(store, "A", publish("order", "b"))
    assert await readable.of(NODE_A, [digest("b")]) == (digest("b"),)


async def test_a_log_that_was_compacted_past_what_is_known_is_read_anew() -> None:
    store = Counting()
    readable = ReadableContents(store)
    await save(store, "A", publish("menu", "a"))
    await readable.of(NODE_A, [digest("a")])
    for n in range(5):
        await save(store, "A", publish("menu", f"later {n}"))
    await store.compact("A", 1)
    wanted = [digest(f"later {n}") for n in range(5)]
    assert await readable.of(NODE_A, wanted) == tuple(wanted[3:])
    assert store.lists == 2


@pytest.mark.parametrize("restored", [["other"], ["other", "and"], ["other", "and", "more"]])
async def test_a_store_restored_from_a_backup_is_read_anew(restored: list[str]) -> None:
    """Its revisions are below, at or above the known one, of the same epoch."""
    store = Counting()
    readable = ReadableContents(store)
    await save(store, "A", publish("menu", "a"))
    await save(store, "A", publish("menu", "a2"))
    await readable.of(NODE_A, [digest("a")])
    before = MemoryStore()
    before.epoch = store.epoch
    for name in restored:
        await save(before, "A", publish(name, name))
    vars(store).update(vars(before))
    assert await readable.of(NODE_A, [digest("other")]) == (digest("other"),)
    assert await readable.of(NODE_A, [digest("a2")]) == ()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("xyz"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.sampled_from("xyz"), st.just(0)),
        st.tuples(st.just("compact"), st.just(""), st.integers(0, 4)),
        st.tuples(st.just("ask"), st.just(""), st.integers(0, 3)),
    ),
    max_size=25,
)


@given(STEPS)
async def test_whatever_happens_it_is_what_the_kept_revisions_name(
    steps: list[tuple[str, str, int]],
) -> None:
    store, clock = Counting(), Clock()
    readable = ReadableContents(store, clock)
    floor = 0
    for what, name, number in steps:
        if what == "publish":
            await save(store, "A", publish(name, f"{name}{number}"))
        elif what == "remove":
            await store.save([asked("A", remove(name))])  # refused where it is not there
        elif what == "compact":
            floor = await store.compact("A", number)
        else:
            await readable.of(NODE_A, [digest(f"x{number}")])
    everything = [digest(f"{name}{number}") for name in "xyz" for number in range(4)]
    named: set[str] = set()
    head = (await store.heads(["A"]))["A"]
    for revision in range(floor, head.revision + 1):
        held = await held_at(store, "A", Cursor(store.epoch, revision))
        named |= {entry.digest for entry in held.values()}
    clock.now += LOOK_SECONDS + 1
    assert set(await readable.of(NODE_A, everything)) == named
