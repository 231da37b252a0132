"""A cache whose disk refuses, whose process dies, or whose folder somebody else has."""

import asyncio
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from gatesync.gateway import cache as cache_module
from gatesync.gateway import cache_file, cache_pending
from gatesync.gateway.cache import Cache, CacheInUseError, Remembered, open_cache
from tests.contracts.saves import id_of
from tests.gateway.caching import Node, contents_in, digests_of, held, same
from tests.gateway.makers import History, content, digest_over
from tests.servers.small_disk import SmallDisk, can_mount, small_disk
from tests.stores.budget import BUDGET

pytestmark = [pytest.mark.fast, pytest.mark.promise(10)]

CHANGES = ("menu", "bread", "olives", "ham")


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    if not can_mount():
        pytest.skip("needs root and mount(8), for a file system that can be filled")
    with small_disk() as disk:
        yield disk


@contextmanager
def told() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged in the block."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET))
    with capture_logs() as logs:
        yield logs


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


async def limit(cache: Cache, pages: int) -> None:
    """As if the disk were full once the file has so many pages; 0 is the size that it has."""
    await cache._in_thread(lambda: cache._file._open(writing=True).execute(
        f"PRAGMA max_page_count = {pages or 1}"
    ).fetchall())  # fmt: skip


async def test_a_full_disk_is_outlived_and_caught_up_with(disk: SmallDisk) -> None:
    folder, history = disk.folder / "cache", History()
    async with open_cache(folder, served=lambda api_id: node.serves[api_id]) as cache:
        node = Node(cache)
        node.take(history)
        node.hear(history, "menu")
        node.apply("L", "menu")
        assert await cache.flush()
        with disk.full(), told() as logs:
            large = [f"large-{number}" for number in range(2_000)]
            node.hear(history, *large)
            node.apply("L", *large)
            assert not await cache.flush()
            assert "cache.db" in cache.counts.error
            assert not await cache.flush()
            node.hear_removal(history, "menu")
            node.undeploy("menu")
            node.hear(history, "bread")
            node.apply("L", "bread")
            assert not await cache.flush()
            assert len(await cache.contents(digests_of("menu"))) == 1, "it reads on"
        assert cache.counts.failures == 3
        assert len([each for each in logs if each["log_level"] == "warning"]) == 1, "told once"
        assert await cache.flush()
        assert cache.counts.error == ""
    remembered = await held(folder)
    assert same(remembered.labels["L"], node.logs["L"])
    assert remembered.applied == node.applied
    assert contents_in(folder) == set(node.serves.values()) - {content("menu")}


async def test_bytes_that_did_not_outlive_a_full_disk_are_asked_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_pending, "PENDING_BYTES", 40)
    async with open_cache(tmp_path, served=lambda api_id: node.serves[api_id]) as cache:
        node = Node(cache)
        assert await cache.flush()
        await limit(cache, 0)
        node.apply("L", "menu", "bread")
        history = History()
        node.take(history)
        node.hear(history, *(f"large-{number}" for number in range(200)))
        assert not await cache.flush()
        assert "full" in cache.counts.error
        node.apply("L", "olives", *(f"large-{number}" for number in range(200)))
        assert cache.counts.dropped > 190
        assert await cache.flush()  # it was opened again: there is room
    assert contents_in(tmp_path) == set(node.serves.values())
    assert (await held(tmp_path)).applied == node.applied


async def test_a_failed_write_is_tried_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "BUSY_SECONDS", 0.01)
    async with open_cache(tmp_path, interval=0.001, retry=0.001) as cache:
        with closing(sqlite3.connect(tmp_path / "cache.db", isolation_level=None)) as other:
            await cache.load([])
            other.execute("BEGIN IMMEDIATE")  # somebody looks into the file, and changes it
            node = Node(cache)
            node.apply("L", "menu")
            async with asyncio.timeout(20):
                while not cache.counts.failures:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert "locked" in cache.counts.error
            other.execute("ROLLBACK")
            async with asyncio.timeout(20):
                while cache.counts.error:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert contents_in(tmp_path) == {content("menu")}


@pytest.mark.parametrize("crash", [False, True])
async def test_what_lies_on_a_disk_that_became_read_only_is_still_read(
    disk: SmallDisk, crash: bool
) -> None:
    folder = disk.folder / "cache"
    written(folder, crash=crash)
    assert bool((folder / "cache.db-wal").exists()) == crash
    remount(disk.folder, "ro")
    async with open_cache(folder) as cache:
        remembered = await cache.load(["L"])
        assert remembered.labels.keys() == {"L"}
        assert remembered.applied.keys() == {id_of("menu-9")}
        assert len(await cache.contents(digests_of("menu-9"))) == 1
        assert cache.counts.error == ""
        node = Node(cache, remembered)
        node.apply("L", "bread")
        assert not await cache.flush()
        assert "Read-only file system" in cache.counts.error or "readonly" in cache.counts.error
        assert len(await cache.contents(digests_of("menu-9"))) == 1
        remount(disk.folder, "rw")
        assert await cache.flush()
    assert (await held(folder)).applied == node.applied


@pytest.mark.parametrize("crash", [False, True])
async def test_what_lies_on_a_disk_that_is_full_at_the_start_is_still_read(
    disk: SmallDisk, crash: bool
) -> None:
    folder = disk.folder / "cache"
    written(folder, crash=crash)
    with disk.full():
        with suppress(OSError), (disk.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        async with open_cache(folder) as cache:
            remembered = await cache.load(["L"])
            assert remembered.applied.keys() == {id_of("menu-9")}
            assert len(await cache.contents(digests_of("menu-9"))) == 1


async def test_a_folder_that_cannot_be_made_is_told_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with open_cache(tmp_path / "file" / "cache") as cache:
        assert "Not a directory" in cache.counts.error
        assert await cache.load(["L"]) == Remembered({}, {})
        Node(cache).apply("L", "menu")
        assert await cache.contents(digests_of("menu")) == {}
        assert not await cache.flush()


async def test_a_file_that_cannot_be_opened_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache.db").mkdir()
    async with open_cache(tmp_path) as cache:
        assert await cache.load(["L"]) == Remembered({}, {})
        assert str(tmp_path / "cache.db") in cache.counts.error
        node = Node(cache)
        node.apply("L", "menu")
        assert not await cache.flush()
        (tmp_path / "cache.db").rmdir()
        assert await cache.flush()
    assert (await held(tmp_path)).applied == node.applied


async def test_a_disk_that_hangs_does_not_keep_a_node_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CLOSE_SECONDS", 0.05)
    with told() as logs:
        async with open_cache(tmp_path) as cache:
            release = asyncio.Event()
            loop = asyncio.get_running_loop()

            def hang(_batch: object) -> list[str]:
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
                return []

            monkeypatch.setattr(cache._file, "write", hang)
            Node(cache).apply("L", "menu")
    assert any("in time" in each["event"] for each in logs)
    release.set()


async def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    async with open_cache(tmp_path) as cache:
        with pytest.raises(CacheInUseError) as refusal:
            async with open_cache(tmp_path):
                pass
        for part in (str(tmp_path), f"process {os.getpid()}", "end it", "[gatesync] data"):
            assert part in str(refusal.value)
        Node(cache).apply("L", "menu")
        assert await cache.flush()
    assert (await held(tmp_path)).applied


async def test_what_is_dirty_is_written_at_the_end_even_after_an_error(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_cache(tmp_path, interval=60) as cache:
            Node(cache).apply("L", "menu")
            raise RuntimeError

    with pytest.raises(ExceptionGroup):
        await run()
    assert (await held(tmp_path)).applied.keys() == {id_of("menu")}


async def test_what_is_dirty_is_written_when_the_node_is_cancelled(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def run() -> None:
        async with open_cache(tmp_path, interval=60) as cache:
            Node(cache).apply("L", "menu")
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await held(tmp_path)).applied.keys() == {id_of("menu")}


async def test_killed_at_any_moment_it_is_whole_and_not_older_than_what_was_written(
    tmp_path: Path,
) -> None:
    chance = random.Random(10)
    known = 0
    for _ in range(max(2, round(8 * BUDGET))):
        with child(tmp_path, "change") as process:
            assert process.stdout is not None
            told = process.stdout.readline()
            await asyncio.sleep(chance.uniform(0, 0.1))  # at a random moment: it writes always
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read()
        written_up_to = int(told[: told.rfind(b"\n")].split()[-1])
        async with open_cache(tmp_path) as cache:
            remembered = await cache.load(["L"])
            assert cache.counts.damaged == 0
            log = remembered.labels["L"]
            assert log.cursor is not None
            assert log.cursor.revision >= written_up_to > known
            known = log.cursor.revision
            assert log.digest == digest_over(list(log.entries.values()))
            assert {wanted.entry for wanted in remembered.applied.values()} == set(
                log.entries.values()
            )
            digests = [wanted.entry.digest for wanted in remembered.applied.values()]
            assert len(await cache.contents(digests)) == len(set(digests))
        assert len(contents_in(tmp_path)) == len(set(digests)), "nothing is left over"


def written(folder: Path, *, crash: bool) -> None:
    """Let another process write a cache, and end or crash."""
    with child(folder, "crash" if crash else "end") as process:
        process.wait(20)
    assert process.returncode == (-signal.SIGKILL if crash else 0)


def child(folder: Path, how: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.gateway.caching", str(folder), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE)
