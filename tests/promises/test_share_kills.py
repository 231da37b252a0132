"""Promises 2, 3 and 6 on a share that is mounted twice, while its writers are killed and stopped.

Budget 1 is the thousand changes that the design asks for; CI has fewer.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil
import pytest

from gatesync.stores.share_chain import first_manifest
from gatesync.stores.share_files import create_share
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareRetriever
from gatesync.stores.store import StoreError
from tests.servers.gatesync import until
from tests.servers.two_mounts import TwoMounts, two_mounts
from tests.stores.budget import BUDGET
from tests.stores.reader import follow
from tests.stores.share.making import saved_one, shown, writer
from tests.stores.share.process import STOP

ROOT: Final = Path(__file__).resolve().parents[2]
LABELS: Final = ("Shop", "Cafe", "Bar")
READERS: Final = 8
CHANGES: Final = round(1_000 * BUDGET) if BUDGET >= 1 else 60
AT_MOST: Final = 25  # that one writer saves before it is killed
SECONDS: Final = 120.0


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMounts]:
    with two_mounts(tmp_path_factory.mktemp("mounts")) as mounted:
        yield mounted


@pytest.fixture
def shares(mounts: TwoMounts, request: pytest.FixtureRequest) -> tuple[ShareSource, ShareSource]:
    """A new share, as the two hosts see it."""
    name = f"share{abs(hash(request.node.nodeid))}"
    one, two = mounts.one.folder / name, mounts.two.folder / name
    one.mkdir()
    create_share(one, first_manifest)
    until((two / "gatesync.share").exists, "the other host sees it")
    return ShareSource(path=one), ShareSource(path=two)


class WriterProcess:
    """Saves until it is killed, and remembers what it began and what it was promised."""

    def __init__(self, share: ShareSource, name: str, first: int, *options: str) -> None:
        command = [sys.executable, "-m", "tests.stores.share.process", str(share.path), name]
        self.process = subprocess.Popen(
            [*command, str(first), "200", *options, *LABELS], stdout=subprocess.PIPE, cwd=ROOT
        )
        self.begun: list[str] = []
        self.promised: dict[str, list[tuple[str, int]]] = {}

    def read(self) -> bool:
        """The next line that it says; False at the end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            return False
        key, revisions = json.loads(line)
        if revisions is None:
            self.begun.append(key)
        else:
            self.promised[key] = [(label, revision) for label, revision in revisions]
        return True

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        while self.read():
            pass
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.promise(2)
@pytest.mark.promise(3)
@pytest.mark.timeout(60 + 2 * SECONDS * max(1, BUDGET * 4))
async def test_eight_readers_follow_writers_that_are_killed(
    shares: tuple[ShareSource, ShareSource],
) -> None:
    chance, stop = random.Random(), asyncio.Event()
    stores = [writer(share) for share in shares for _ in range(READERS // 2)]
    for store in stores:
        await store.catch_up()
    begun: set[str] = set()
    promised: dict[str, list[tuple[str, int]]] = {}
    kills = 0
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(follow(store, LABELS, stop)) for store in stores]
        while len(promised) < CHANGES:
            process = WriterProcess(chance.choice(shares), "w", len(promised))
            enough = chance.randint(1, AT_MOST)
            while len(process.promised) < enough and await asyncio.to_thread(process.read):
                pass
            await asyncio.sleep(chance.random() * 0.02)  # somewhere in the next one
            await asyncio.to_thread(process.kill)
            assert process.process.returncode == -signal.SIGKILL  # it was refused nothing
            begun |= set(process.begun)
            promised |= process.promised
            kills += 1
        stop.set()
    log = [each for label in LABELS for each in await stores[0].change_sets(label, 0, 10**6)]
    ends = [task.result() for task in reading]
    print(f"{len(promised)} promised, {kills} writers killed, {len(log)} change sets")
    there = {(each.publisher, each.label, each.revision) for each in log}
    assert len(there) == len(log)
    assert {each.publisher for each in log} <= begun
    for key, revisions in promised.items():  # once, since each revision has one publisher
        assert {(key, label, revision) for label, revision in revisions} <= there
    assert ends == [ends[0]] * READERS


@pytest.mark.promise(7)
async def test_a_writer_that_was_stopped_before_what_decides_can_only_lose(
    shares: tuple[ShareSource, ShareSource],
) -> None:
    """SIGSTOP before its manifest, another goes on, SIGCONT: it plans again on what is there."""
    one, two = shares
    reader, seen = ShareRetriever(two), []
    late = WriterProcess(one, "late", 0, STOP)
    try:
        process = psutil.Process(late.process.pid)
        await asyncio.to_thread(
            until, lambda: process.status() == psutil.STATUS_STOPPED, "it stops itself"
        )
        other = writer(two)
        for number in range(3):
            await saved_one(other, "other", str(number))
            seen.append((await reader.heads(["Shop"]))["Shop"])
        late.process.send_signal(signal.SIGCONT)
        while not late.promised:
            assert await asyncio.to_thread(late.read)
    finally:
        late.kill()
    assert [each.revision for each in seen] == [1, 2, 3]
    for each in seen:  # what a reader has seen stays so
        assert await reader.digest_at("Shop", each.cursor) == each.digest
    [key] = list(late.promised)[:1]
    published = {
        (each.publisher, each.label, each.revision)
        for label in LABELS
        for each in await other.change_sets(label, 0, 1_000)
    }
    assert {(key, *each) for each in late.promised[key]} <= published
    assert (await shown(two))["other"] == b"2"


@pytest.mark.promise(6)
async def test_a_mount_that_goes_away_is_an_error_in_words_until_it_is_back(
    mounts: TwoMounts, shares: tuple[ShareSource, ShareSource]
) -> None:
    one, two = shares
    store, reader, far = writer(one), ShareRetriever(two), writer(two)
    await saved_one(store, "A")
    head = (await reader.heads(["Shop"]))["Shop"]
    for take_away, said in (
        (mounts.two.unmount, "is not there"),
        (mounts.two.break_off, "does not answer"),
    ):
        take_away()
        with pytest.raises(StoreError, match=said):
            await reader.heads(["Shop"])
        with pytest.raises(StoreError, match=said):
            await saved_one(far, "B")
        await saved_one(store, f"while it was away: {said}")
        mounts.two.end()
        assert os.listdir(mounts.two.folder) == []  # noqa: PTH208 - nothing was made there
        mounts.two.mount()
    await hang(mounts, msgspec.structs.replace(two, deadline_seconds=1.0))
    await saved_one(far, "C")
    now = (await reader.heads(["Shop"]))["Shop"]
    assert now.revision == head.revision + 3
    assert await reader.digest_at("Shop", head.cursor) == head.digest


async def hang(mounts: TwoMounts, source: ShareSource) -> None:
    """The server is there and never answers: who asks is told so, and soon."""
    reader = ShareRetriever(source)
    mounts.server.pause()
    try:
        for _ in range(3):
            with pytest.raises(StoreError, match="has not answered for 1 s"):
                await reader.heads(["Shop"])
    finally:
        mounts.server.resume()
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreError):
                await reader.heads(["Shop"])
                return
            await asyncio.sleep(0.05)
