"""SQLite when the file system or another process is in its way.

Each time: a `StoreError` that says where and what, nothing half-done, and the same store works
again when the trouble is over.
"""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from gatesync.stores import schema
from gatesync.stores.sql import SqlOptions, open_sql_store
from gatesync.stores.store import StoreError
from tests.contracts.saves import asked, held, publish, revision
from tests.stores.sql_bench import SqlBench, opened

pytestmark = pytest.mark.fast

KIB = 1024
HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SqlBench]:
    async with opened(url_of(tmp_path / "store.db")) as bench:
        yield bench


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root and mount(8), for a file system that can be filled")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs a tmpfs that can be filled: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.promise(3)
async def test_a_full_disk_is_said_and_outlived(small_disk: Path) -> None:
    path = small_disk / "store.db"
    async with opened(url_of(path)) as bench:
        await fill_and_empty(bench, small_disk)


async def fill_and_empty(bench: SqlBench, small_disk: Path) -> None:
    await bench.store.save([asked("Shop", publish("First"))])
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(2048 * KIB))
    large = asked(("Shop", "Cafe"), publish("Large", os.urandom(900 * KIB)))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.db.*(disk is full|disk I/O error)"):
            await bench.store.save([large])
        assert await held(bench, "Shop") == {"First": b"<api/>"}
        assert await revision(bench, "Cafe") == 0
    ballast.unlink()
    [outcome] = await bench.store.save([large])
    assert not getattr(outcome, "repeated", True)
    assert set(await held(bench, "Shop")) == {"First", "Large"}
    await bench.reopen()
    assert set(await held(bench, "Cafe")) == {"Large"}


async def test_another_process_that_holds_the_lock_is_said_and_outlived(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_sql_store(url_of(path), SqlOptions(busy_timeout=0.2)) as store:
        await store.save([asked("Shop", publish("First"))])
        with locked_by_another_process(path):
            with pytest.raises(StoreError, match=r"store\.db.*locked"):
                await store.save([asked("Shop", publish("Second"))])
            heads = await store.heads(["Shop"])  # readers do not wait for writers
            assert heads["Shop"].revision == 1
        await store.save([asked("Shop", publish("Third"))])
        log = await store.change_sets("Shop", 0, 10)
        names = [change.entry.name for each in log for change in each.changes]
        assert names == ["First", "Third"]


async def test_a_short_wait_for_another_process_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_sql_store(url_of(path)) as store:
        with locked_by_another_process(path) as release:
            saving = asyncio.create_task(store.save([asked("Shop", publish("First"))]))
            await asyncio.wait({saving}, timeout=0.1)
            assert not saving.done()
            release()
            await saving
        assert (await store.heads(["Shop"]))["Shop"].revision == 1


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[Callable[[], None]]:
    """Another process holds the write lock, until the end or until what this yields is called."""
    command = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process.stdin.close
        process.stdin.close()
        process.wait(10)


async def test_a_file_system_that_becomes_read_only_is_said(small_disk: Path) -> None:
    path = small_disk / "store.db"
    async with open_sql_store(url_of(path)) as store:
        await store.save([asked("Shop", publish("First"))])
    remount(small_disk, "ro")
    with pytest.raises(StoreError, match=r"store\.db.*Read-only file system"):
        async with open_sql_store(url_of(path)):
            pass
    remount(small_disk, "rw")
    async with open_sql_store(url_of(path)) as store:
        assert (await store.heads(["Shop"]))["Shop"].revision == 1


async def test_a_connection_that_may_not_write_is_said_and_outlived(bench: SqlBench) -> None:
    await bench.store.save([asked("Shop", publish("First"))])

    def only_query(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    event.listen(bench.store._writing.engine, "checkout", only_query)
    with pytest.raises(StoreError, match=r"store\.db.*readonly"):
        await bench.store.save([asked("Shop", publish("Second"))])
    assert await held(bench, "Shop") == {"First": b"<api/>"}
    event.remove(bench.store._writing.engine, "checkout", only_query)
    event.listen(bench.store._writing.engine, "checkout", write_again)
    await bench.store.save([asked("Shop", publish("Third"))])
    assert set(await held(bench, "Shop")) == {"First", "Third"}


def write_again(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
    connection.execute("PRAGMA query_only = OFF")


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


async def test_tables_of_a_later_version_are_said_and_kept(bench: SqlBench) -> None:
    await bench.store.save([asked("Shop", publish("First"))])
    await bench.close()
    path = bench.url.removeprefix("sqlite:///")
    set_format(path, schema.SCHEMA_FORMAT + 1)
    later = schema.SCHEMA_FORMAT + 1
    with pytest.raises(StoreError, match=rf"store\.db.*format {later}.*format {later - 1}"):
        await bench.reopen()
    set_format(path, schema.SCHEMA_FORMAT)
    await bench.reopen()
    assert await held(bench, "Shop") == {"First": b"<api/>"}


def set_format(path: str, number: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE GS_STORE SET SCHEMA_FORMAT = ?", (number,))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "oracle://u:pw@h/d", "x"])
async def test_a_url_that_is_no_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///PATH") as caught:
        async with open_sql_store(url):
            pass
    assert "pw" not in str(caught.value)


async def test_a_folder_in_the_place_of_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}.*directory"):
        async with open_sql_store(url_of(tmp_path)):
            pass


async def test_many_can_create_the_same_database_at_once(tmp_path: Path) -> None:
    async def epoch() -> str:
        async with open_sql_store(url_of(tmp_path / "store.db")) as store:
            return store.epoch

    assert len(set(await asyncio.gather(*(epoch() for _ in range(8))))) == 1


async def test_a_file_that_is_no_database_is_said_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"a letter to a friend\n" * 100)
    with pytest.raises(StoreError, match=r"store\.db.*not a database"):
        async with open_sql_store(url_of(path)):
            pass
    assert path.read_bytes() == b"a letter to a friend\n" * 100
