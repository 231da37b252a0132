"""Publishers of one share that meet at every step, and what becomes of those who come late.

Whoever is paused stands for a process that is stopped, for however long.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareRetriever, ShareStore
from gatesync.stores.share_sweep import ShareSweep
from gatesync.stores.store import SaveOutcome, StoreError
from tests.contracts.saves import asked, publish, remove
from tests.stores.share.making import (
    LABEL,
    Interrupter,
    KilledError,
    made_share,
    saved_one,
    shown,
    writer,
)

pytestmark = pytest.mark.fast

SAVE_STEPS = 8  # write and rename two objects; write, link and sync the manifest; one to spare


@pytest.fixture
def source(tmp_path: Path) -> ShareSource:
    return made_share(tmp_path / "share")


def meanwhile(work: Callable[[], "asyncio.Future[object] | object"]) -> Callable[[], None]:
    """Runs a coroutine to its end in a thread with a loop of its own."""

    def run() -> None:
        thread = threading.Thread(target=lambda: asyncio.run(work()))  # type: ignore[arg-type]
        thread.start()
        thread.join()

    return run


@pytest.mark.promise(2)
@pytest.mark.promise(3)
@pytest.mark.parametrize("at", range(SAVE_STEPS))
async def test_of_two_who_save_at_once_neither_is_lost(source: ShareSource, at: int) -> None:
    other = writer(source)
    await saved_one(other, "before")
    hook = Interrupter(at, meanwhile(lambda: saved_one(writer(source), "other")))
    one = await saved_one(writer(source, hook), "one")
    assert len(hook.steps) >= 7
    assert set(await shown(source)) == {"before", "one", "other"} - (
        {"other"} if at >= len(hook.steps) else set()
    )
    assert await saved_one(other, "one") == one.__class__(
        one.change_sets, one.heads, repeated=True
    )  # the key is known to everybody


@pytest.mark.promise(3)
@pytest.mark.parametrize("at", range(SAVE_STEPS))
async def test_one_that_is_killed_saves_all_or_nothing(source: ShareSource, at: int) -> None:
    await saved_one(writer(source), "before")
    hook = Interrupter(at)
    reader = ShareRetriever(source)
    await reader.heads([LABEL])
    try:
        await saved_one(writer(source, hook), "one")
    except KilledError:
        assert at < len(hook.steps)
    there = await shown(source)
    assert set(there) in ({"before"}, {"before", "one"})
    assert (await reader.heads([LABEL]))[LABEL].digest.count == len(there)
    outcome = await saved_one(writer(source), "one")
    assert outcome.repeated == ("one" in there)
    assert set(await shown(source)) == {"before", "one"}


@pytest.mark.parametrize("all_of_it", [True, False])
async def test_who_wakes_after_its_place_was_cleaned_away_plans_again(
    source: ShareSource, all_of_it: bool
) -> None:
    """The name that it is to make is free again; what comes before that one is gone, too."""
    await saved_one(writer(source), "before")

    async def go_on() -> None:
        other = writer(source)
        for number in range(5):
            await saved_one(other, "other", str(number))
        if all_of_it:
            ShareSweep(other.files, grace=0, kept=0).sweep(other.known.manifest)
        for name in other.files.names():
            if name.startswith("manifest") and name != other.known.manifest.name:
                other.files.remove(name)

    hook = Interrupter(None, meanwhile(go_on))
    late = writer(source, lambda step: link_is_reached(hook, step))
    await saved_one(late, "late")
    assert await shown(source) == {"before": b"before", "other": b"4", "late": b"late"}
    assert hook.steps.count("link") == 2
    assert "manifest.1.2" not in late.files.names()


def link_is_reached(hook: Interrupter, step: str) -> None:
    if step.startswith("link"):
        hook.at = hook.at if hook.at is not None else len(hook.steps)
        hook("link")


async def test_an_answer_that_was_lost_on_the_way_is_no_loss(
    source: ShareSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system that hears no answer asks again, and is told that it is there."""
    link = os.link

    def told_twice(*names: str, **folders: Any) -> None:
        link(*names, **folders)
        link(*names, **folders)

    store = writer(source)
    monkeypatch.setattr(os, "link", told_twice)
    outcome = await saved_one(store, "one")
    assert not outcome.repeated
    assert store.known.manifest.revision == 1


async def test_an_unknown_outcome_is_told_as_one(
    source: ShareSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def broken(*names: str, **folders: Any) -> None:
        link(*names, **folders)
        raise OSError(5, "Input/output error")

    store = writer(source)
    await store.catch_up()
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", broken)
        with pytest.raises(StoreError, match="does not answer") as caught:
            await saved_one(store, "one")
    assert caught.value.unsure
    assert (await saved_one(store, "one")).repeated


async def test_many_writers_side_by_side_lose_nothing(source: ShareSource) -> None:
    stores = [writer(source) for _ in range(4)]

    async def work(number: int, store: ShareStore) -> None:
        for each in range(6):
            await saved_one(store, f"{number}-{each}")

    async with asyncio.TaskGroup() as tasks:
        for number, store in enumerate(stores):
            tasks.create_task(work(number, store))
    assert len(await shown(source)) == 24
    revisions = [each.revision for each in await stores[0].change_sets(LABEL, 0, 100)]
    assert revisions == list(range(1, 25))


@pytest.mark.parametrize("at", range(14))
async def test_what_is_swept_while_somebody_needs_it_comes_back(
    source: ShareSource, at: int
) -> None:
    first = writer(source)
    for content in ("1", "2", "3"):
        await saved_one(first, "A", content)

    async def publish_old_content() -> None:
        await saved_one(writer(source), "A", "1 again")
        [_] = await writer(source).save([asked(LABEL, publish("A", "1"), key=f"again {at}")])

    hook = Interrupter(at, meanwhile(publish_old_content))
    sweeper = writer(source, hook)
    await sweeper.compact(LABEL, keep=0)
    if at < len(hook.steps):
        assert await shown(source) == {"A": b"1"}
        await writer(source).sweep()
        assert await shown(source) == {"A": b"1"}
    else:
        assert await shown(source) == {"A": b"3"}
        assert at > 8, "it has fewer steps than were thought"


@pytest.mark.parametrize("at", range(14))
async def test_who_is_killed_while_sweeping_leaves_everything_that_is_needed(
    source: ShareSource, at: int
) -> None:
    store = writer(source)
    for content in ("1", "2", "3"):
        await saved_one(store, "A", content)
    hook = Interrupter(at)
    try:
        await writer(source, hook).compact(LABEL, keep=0)
    except KilledError:
        assert at < len(hook.steps)
    assert await shown(source) == {"A": b"3"}
    await store.compact(LABEL, keep=0)
    await store.sweep()
    objects = source.path / "gatesync" / "objects"
    packs = {pack.digest for pack in store.known.manifest.packs}
    assert {each.name for each in objects.iterdir()} == packs | store.index.used()
    assert list((source.path / "gatesync" / "dropped").iterdir()) == []
    assert await shown(source) == {"A": b"3"}


@pytest.mark.promise(3)
async def test_of_two_who_sweep_none_removes_what_a_third_relies_on_by_now(
    source: ShareSource,
) -> None:
    """What others moved aside after one's own manifest may be needed by a newer one."""
    store = writer(source)
    for content in ("1", "2", "3"):
        await saved_one(store, "A", content)
    await store.compact(LABEL, keep=0)  # nobody needs 1 and 2
    dropped, go_on = threading.Event(), threading.Event()
    others: list[threading.Thread] = []

    def other_sweeps(step: str) -> None:
        if step.startswith("link") and not dropped.is_set():
            dropped.set()
            assert go_on.wait(60)

    def third_publishes(step: str) -> None:
        if step.startswith("link") and not others:  # it has written 1 again
            sweep = writer(source, other_sweeps).sweep
            others.append(threading.Thread(target=lambda: asyncio.run(sweep())))
            others[0].start()
            assert dropped.wait(60)

    def first_sweeps(step: str) -> None:
        if step.startswith("sync") and not others:
            meanwhile(lambda: saved_one(writer(source, third_publishes), "B", "1"))()

    stale = source.path / "gatesync" / "objects" / ("a" * 64)
    stale.write_bytes(b"which the first one removes")
    await writer(source, first_sweeps).sweep()
    go_on.set()
    others[0].join()
    assert not stale.exists()
    assert await shown(source) == {"A": b"3", "B": b"1"}


async def test_a_refusal_never_rests_on_what_a_host_has_cached(
    source: ShareSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listings and missing names are cached for seconds; who makes a name is told the truth."""
    store = writer(source)
    await saved_one(store, "A")
    files, cached = store.files, store.files.names()
    read, link = files.read, files.link
    linked: list[str] = []

    def fresh(name: str, content: bytes, after: str) -> bool:
        linked.append(name)
        return link(name, content, after)

    def old(name: str) -> bytes | None:
        known = linked or not name.startswith("manifest") or name in cached
        return read(name) if known else None

    monkeypatch.setattr(files, "names", lambda: cached)
    monkeypatch.setattr(files, "read", old)
    monkeypatch.setattr(files, "link", fresh)
    await saved_one(writer(source), "B")
    [answer] = await store.save([asked(LABEL, remove("B"))])
    assert isinstance(answer, SaveOutcome), answer
    assert set(await shown(source)) == {"A"}
