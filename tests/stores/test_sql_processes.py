"""Promises 2 and 3 where they are hard: several processes on one database, some of them killed."""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatesync.artifacts.changes import ChangeSet
from gatesync.artifacts.planning import Publish
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import SaveOutcome, Saver, read_manifest
from tests.stores.budget import BUDGET
from tests.stores.reader import follow
from tests.stores.writer import request_of

ROOT = Path(__file__).parents[2]
LABELS = ("Shop", "Café", "Production and Sandbox")
WRITERS = 4
SECONDS = 3.0 * BUDGET
KILLS = max(1, int(5 * BUDGET))
END_SECONDS = 30  # for a process to end by itself


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of the modules beside this one, as a process; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.stores.{module}", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate(b"")


class Promised:
    """What writers said: what they began, and what was acknowledged."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.acknowledged: dict[str, set[tuple[str, int]]] = {}

    def hear(self, line: bytes) -> None:
        key, revisions = json.loads(line)
        if revisions is None:
            self.begun.add(key)
        else:
            self.acknowledged[key] = {(label, revision) for label, revision in revisions}

    def add(self, other: "Promised") -> None:
        self.begun |= other.begun
        self.acknowledged |= other.acknowledged


async def listen(process: asyncio.subprocess.Process, promised: Promised) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.endswith(b"\n"):  # a line that a kill cut off promises nothing
            promised.hear(line)


async def whole_log(store: Saver) -> list[ChangeSet]:
    log = []
    for label in LABELS:
        sets = await store.change_sets(label, 0, 1_000_000)
        assert [each.revision for each in sets] == list(range(1, len(sets) + 1))
        await read_manifest(store, label)
        log += sets
    return log


@pytest.mark.promise(2)
@pytest.mark.promise(3)
@pytest.mark.timeout(60 + 3 * SECONDS)
async def test_readers_see_every_revision_whole_while_four_processes_write(database: str) -> None:
    url = database
    promised = Promised()
    stop = asyncio.Event()
    async with started("reader", url, *LABELS) as far_reader, open_sql_store(url) as store:
        async with asyncio.TaskGroup() as group:
            near_reader = group.create_task(follow(store, LABELS, stop))
            await write_for(SECONDS, url, promised)
            ended = await end_reader(far_reader)
            stop.set()
        log = await whole_log(store)
    newest = {label: sum(each.label == label for each in log) for label in LABELS}
    assert near_reader.result() == ended == newest
    assert min(newest.values()) > 0
    check_promised(promised, log)


async def write_for(seconds: float, url: str, promised: Promised) -> None:
    """Let the writers work for this long, from the moment when all of them do, and kill them."""
    working = asyncio.Barrier(WRITERS)

    async def work(number: int) -> None:
        async with started("writer", url, f"w{number}", "500", *LABELS) as writer:
            assert writer.stdout is not None
            promised.hear(await writer.stdout.readline())
            await working.wait()
            hearing = asyncio.create_task(listen(writer, promised))
            done, _ = await asyncio.wait({hearing}, timeout=seconds)
            assert not done, f"writer {number} ended by itself"
            writer.kill()
            await hearing

    async with asyncio.timeout(seconds + END_SECONDS), asyncio.TaskGroup() as writers:
        for number in range(WRITERS):
            writers.create_task(work(number))


async def end_reader(reader: asyncio.subprocess.Process) -> dict[str, int]:
    async with asyncio.timeout(END_SECONDS):
        answer, _ = await reader.communicate(b"")  # closes its standard input
    assert reader.returncode == 0, "the reader in the other process saw what must not be"
    found: dict[str, int] = json.loads(answer)
    return found


def check_promised(promised: Promised, log: Sequence[ChangeSet], mine: str = "") -> None:
    """Every acknowledged save is there, whole, once; the others wholly or not at all."""
    places: dict[str, list[tuple[str, int]]] = {}
    for each in log:
        if each.publisher.startswith(mine):
            places.setdefault(each.publisher, []).append((each.label, each.revision))
    for key, revisions in promised.acknowledged.items():
        assert len(places[key]) == len(revisions)
        assert set(places[key]) == revisions
    for key in promised.begun - promised.acknowledged.keys():
        expected = expected_places(key)
        assert Counter(label for label, _ in places.get(key, [])) in (Counter(), expected)
    assert set(places) <= promised.begun


def expected_places(key: str, size: int = 500) -> Counter[str]:
    request = request_of(key, size, LABELS)
    return Counter({label: len(request.sets) for label in request.labels})


@pytest.mark.promise(3)
@pytest.mark.timeout(60 + 15 * KILLS)
async def test_an_acknowledged_save_survives_sigkill(database: str) -> None:
    """Kill a writer in the middle of its work, again and again, on the same database."""
    chance = random.Random()
    url = database
    size = 60_000  # so that a kill often comes while pages are written
    all_promised = Promised()
    for number in range(KILLS):
        promised = Promised()
        async with started("writer", url, f"k{number}", str(size), *LABELS) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 40)):
                promised.hear(await writer.stdout.readline())
            await asyncio.sleep(chance.uniform(0, 0.004))  # anywhere within a save
            writer.kill()
            await listen(writer, promised)
        async with open_sql_store(url) as store:
            mine = f"k{number}/"
            check_promised(promised, await whole_log(store), mine)
            await check_contents(store, promised, size)
            unsure = sorted(promised.begun - promised.acknowledged.keys())
            await repeat(store, promised, unsure, size)
            sure = sorted(promised.acknowledged)[-3:]
            await repeat(store, promised, sure, size)
            all_promised.add(promised)
            check_promised(all_promised, await whole_log(store))


async def check_contents(store: Saver, promised: Promised, size: int) -> None:
    for key in promised.acknowledged:
        request = request_of(key, size, LABELS)
        wanted = {
            item.entry.digest: item.content
            for items in request.sets
            for item in items
            if isinstance(item, Publish)
        }
        assert await store.contents(wanted) == wanted


async def repeat(store: Saver, promised: Promised, keys: Sequence[str], size: int) -> None:
    """Ask again with the same key: answered as before, or saved now."""
    log = {each.publisher for each in await whole_log(store)}
    for key in keys:
        [answer] = await store.save([request_of(key, size, LABELS)])
        assert isinstance(answer, SaveOutcome)
        assert answer.repeated == (key in log)
        revisions = {(each.label, each.revision) for each in answer.change_sets}
        assert revisions == promised.acknowledged.setdefault(key, revisions)
