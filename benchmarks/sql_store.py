"""The SQL store on SQLite, PostgreSQL and MariaDB, each against its driver in the same run.

- Durable publishes a second, 1 and 64 at once, through the publisher's group commit: an artifact
  of 4 kB each, one label. The limit is the driver inserting the same bytes row by row on one
  connection, a transaction each. Rounds alternate; medians and their ratio are printed.
- Everything that a label holds: the manifest, page by page and proven whole, and the contents by
  digest. The limit is the driver reading the same rows.
- Catching up on one change: head, difference and content, in a small label and in a large one.

The servers are the tests', started for this and ended. By default they keep their files on disk,
where a commit waits for it: `--folder /dev/shm` leaves the disk out. A transaction's fixed cost is
what group commit shares, and most of it is the disk's: `fsync_us`, the median of what it takes
the folder's disk to take 4 kB for good, in microseconds, stands beside each ratio.
"""

import argparse
import asyncio
import json
import logging
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.engine import make_url

from gatesync.artifacts import canonical
from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher.committing import Committer
from gatesync.publisher.requests import PublishItem, publish_of
from gatesync.stores.sql import SqlStore, open_sql_store
from gatesync.stores.store import SaveOutcome, read_manifest
from parts import artifact_of, print_result, quantiles

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.servers.mariadb import mariadb_server
from tests.servers.postgresql import postgresql_server

DATABASES = ("sqlite", "postgresql", "mariadb")
LABEL = "Default"
ROUNDS = 5
ROUND_SECONDS = 1.0
AT_ONCE = (1, 64)
SIZES = (10_000, 100_000)
BATCH = 256  # contents that a gateway asks for at once
CATCH_UPS = 50
FSYNCS = 300
TARGET_AT_64 = 2.5


def main() -> None:
    """Measure, and print a line for each database and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", choices=DATABASES, action="append")
    parser.add_argument("--folder", help="where the databases keep their files")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    arguments = parser.parse_args()
    # A publisher writes a line for each commit into its log; here only the JSON is wanted.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    folder = arguments.folder or tempfile.gettempdir()
    os.environ["GATESYNC_TEST_FOLDER"] = folder
    for name in arguments.db or DATABASES:
        with _database(name, folder) as url:
            asyncio.run(_publishing(name, url, folder))
        for size in arguments.sizes:
            with _database(name, folder) as url:
                asyncio.run(_reading(name, url, folder, size))


@contextmanager
def _database(name: str, folder: str) -> Iterator[str]:
    """An empty database, by its URL."""
    with ExitStack() as stack:
        if name == "sqlite":
            place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            yield f"sqlite:///{place}/store.db"
            return
        server = {"postgresql": postgresql_server, "mariadb": mariadb_server}[name]
        yield stack.enter_context(stack.enter_context(server()).database())


# Publishing -----------------------------------------------------------------------------------


async def _publishing(name: str, url: str, folder: str) -> None:
    numbers = iter(range(10**9))
    raw = _Raw(url)
    async with open_sql_store(url) as store:
        for at_once in AT_ONCE:
            rates: dict[str, list[float]] = {"store": [], "driver": []}
            for _ in range(ROUNDS):
                requests = [_request(next(numbers)) for _ in range(3_000 if at_once > 1 else 1_500)]
                rates["store"].append(await _publish_for(store, requests, at_once))
                rates["driver"].append(await asyncio.to_thread(raw.insert_for, requests))
            medians = {who: statistics.median(each) for who, each in rates.items()}
            print_result(
                "sql_publish",
                database=name,
                folder=folder,
                fsync_us=_fsync_us(folder),
                at_once=at_once,
                publishes_per_second=round(medians["store"]),
                limit_per_second=round(medians["driver"]),
                ratio=round(medians["store"] / medians["driver"], 2),
                **({"target": TARGET_AT_64} if at_once == 64 else {}),
            )
    raw.close()


def _fsync_us(folder: str) -> int:
    """How long the disk takes to write 4 kB durably: the median, in microseconds."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - start)
    return round(statistics.median(took) * 1_000_000)


def _request(number: int) -> SaveRequest:
    """A request that publishes an artifact of 4 kB, checked as the publisher checks it."""
    content = canonical.encode(artifact_of(number))
    publish = publish_of(PublishItem(_document(content)))
    return SaveRequest(
        labels=(LABEL,),
        sets=((publish,),),
        key=str(uuid.uuid4()),  # as the command line makes them
        fingerprint=publish.entry.digest,
        published_at=int(time.time() * 1000),
        publisher="bench",
    )


def _document(content: bytes) -> dict[str, Any]:
    """The document that a client sends."""
    document: dict[str, Any] = json.loads(content)
    return document


async def _publish_for(store: SqlStore, requests: Sequence[SaveRequest], at_once: int) -> float:
    """Publish for a while, so many at once; answers with how many a second were durable."""

    async def saved(_request: SaveRequest, _outcome: SaveOutcome) -> None:
        return None

    committer = Committer(store, saved)
    running = asyncio.create_task(committer.run())
    waiting = iter(requests)
    done = 0
    start = time.perf_counter()

    async def publish() -> None:
        nonlocal done
        while time.perf_counter() - start < ROUND_SECONDS and (each := next(waiting, None)):
            answer = await committer.submit(each)
            assert isinstance(answer, SaveOutcome), answer
            done += 1

    await asyncio.gather(*(publish() for _ in range(at_once)))
    rate = done / (time.perf_counter() - start)
    running.cancel()
    await asyncio.wait([running])
    return rate


class _Raw:
    """The database's driver on one connection, with a table that holds what a publish brings."""

    def __init__(self, url: str) -> None:
        self._run, self._close = _connect(url)
        kind = "MEDIUMBLOB" if "mysql" in url or "mariadb" in url else "BYTEA"
        if url.startswith("sqlite"):
            kind = "BLOB"
        self._run(
            "CREATE TABLE RAW_ARTIFACTS (API_ID VARCHAR(255) PRIMARY KEY, "
            f"ARTIFACT {kind} NOT NULL)",
            (),
        )
        mark = "?" if url.startswith("sqlite") else "%s"
        self._insert = f"INSERT INTO RAW_ARTIFACTS VALUES ({mark}, {mark})"

    def insert_for(self, requests: Sequence[SaveRequest]) -> float:
        """Insert row by row for a while; answers with rows a second."""
        start = time.perf_counter()
        done = 0
        for request in requests:
            if time.perf_counter() - start > ROUND_SECONDS:
                break
            [[publish]] = request.sets
            self._run(self._insert, (publish.entry.api_id, publish.content))
            done += 1
        return done / (time.perf_counter() - start)

    def close(self) -> None:
        self._close()


def _connect(url: str) -> tuple[Callable[..., Any], Callable[[], None]]:
    """Run statements with the bare driver, each committed by itself; and close it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        lite = sqlite3.connect(parsed.database or "", isolation_level=None, check_same_thread=False)
        lite.execute("PRAGMA journal_mode = WAL")
        lite.execute("PRAGMA synchronous = FULL")
        return lambda statement, values: lite.execute(statement, values), lite.close
    if parsed.get_backend_name() == "postgresql":
        import psycopg

        connection = psycopg.connect(
            host=parsed.host,
            port=parsed.port,
            user=parsed.username,
            password=parsed.password,
            dbname=parsed.database,
            autocommit=True,
        )
        return lambda statement, values: connection.execute(statement, values), connection.close
    import pymysql

    my = pymysql.connect(
        host=parsed.host or "",
        port=parsed.port or 3306,
        user=parsed.username,
        password=parsed.password or "",
        database=parsed.database,
        autocommit=True,
    )

    def run(statement: str, values: Sequence[Any]) -> Any:
        cursor = my.cursor()
        cursor.execute(statement, values or None)
        return cursor

    return run, my.close


# Reading --------------------------------------------------------------------------------------


async def _reading(name: str, url: str, folder: str, size: int) -> None:
    async with open_sql_store(url) as store:
        await _fill(store, size)
        run, close = await asyncio.to_thread(_connect, url)
        seconds: dict[str, list[float]] = {"manifest": [], "contents": [], "driver": []}
        for _ in range(3):
            start = time.perf_counter()
            _, entries = await read_manifest(store, LABEL)
            listed = time.perf_counter()
            digests = [entry.digest for entry in entries.values()]
            for at in range(0, size, BATCH):
                found = await store.contents(digests[at : at + BATCH])
                assert len(found) == len(digests[at : at + BATCH])
            fetched = time.perf_counter()
            rows = await asyncio.to_thread(_read_rows, run)
            seconds["driver"].append(time.perf_counter() - fetched)
            seconds["manifest"].append(listed - start)
            seconds["contents"].append(fetched - listed)
            assert rows == size
        medians = {what: statistics.median(each) for what, each in seconds.items()}
        whole = medians["manifest"] + medians["contents"]
        print_result(
            "sql_read",
            database=name,
            folder=folder,
            artifacts=size,
            manifest_seconds=round(medians["manifest"], 3),
            contents_seconds=round(medians["contents"], 3),
            limit_seconds=round(medians["driver"], 3),
            ratio=round(whole / medians["driver"], 2),
        )
        for held, label in ((100, "Small"), (size, LABEL)):
            if label == "Small":
                await _fill(store, held, label)
            took = await _catch_up(store, label, held)
            print_result(
                "sql_catch_up",
                database=name,
                folder=folder,
                artifacts=held,
                milliseconds=quantiles(took),
            )
        close()


async def _fill(store: SqlStore, size: int, label: str = LABEL) -> None:
    for at in range(0, size, 1_000):
        requests = [_request(number) for number in range(at, min(at + 1_000, size))]
        items = tuple(request.sets[0][0] for request in requests)
        whole = SaveRequest(
            labels=(label,),
            sets=(items,),
            key=f"{label}{at}",
            fingerprint=f"{label}{at}",
            published_at=int(time.time() * 1000),
        )
        [answer] = await store.save([whole])
        assert isinstance(answer, SaveOutcome), answer


def _read_rows(run: Callable[..., Any]) -> int:
    """Every row with what a gateway needs of it, as objects."""
    cursor = run(
        "SELECT API_ID, DIGEST, ARTIFACT FROM AM_GW_API_ARTIFACTS WHERE GATEWAY_LABEL = 'Default'",
        (),
    )
    rows = 0
    while some := cursor.fetchmany(1_000):
        rows += len([bytes(content) for _, _, content in some])
    return rows


async def _catch_up(store: SqlStore, label: str, held: int) -> list[float]:
    """Milliseconds from knowing nothing new to holding the bytes of one change."""
    took: list[float] = []
    for edit in range(1, CATCH_UPS + 1):
        cursor = (await store.heads([label]))[label].cursor
        content = canonical.encode(artifact_of(edit % held, edit=edit))
        publish = publish_of(PublishItem(_document(content)))
        key = f"{label} {edit} {held}"
        [answer] = await store.save([SaveRequest((label,), ((publish,),), key, key, 1)])
        assert isinstance(answer, SaveOutcome), answer
        start = time.perf_counter()
        head = (await store.heads([label]))[label]
        delta = await store.changes(label, cursor)
        digests = [change.entry.digest for change in delta.changes]
        found = await store.contents(digests)
        took.append((time.perf_counter() - start) * 1000)
        assert len(found) == 1
        assert delta.head == head
    return took


if __name__ == "__main__":
    main()
