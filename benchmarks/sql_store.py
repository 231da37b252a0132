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
import gc
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from databases import DATABASES, MissingError, database, driver
from figures import Peer, Target, milliseconds, print_figure, print_skipped
from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Head
from gatesync.artifacts.planning import LabelState, SaveRequest
from gatesync.publisher.committing import Committer
from gatesync.publisher.request_keys import new_key
from gatesync.publisher.requests import PublishItem, publish_of
from gatesync.stores import sql_write
from gatesync.stores.sql import SqlOptions, SqlStore, open_sql_store
from gatesync.stores.sql_batch import Loaded, write_batch
from gatesync.stores.sql_opening import make_engines, prepare
from gatesync.stores.sql_trip import Trip
from gatesync.stores.store import SaveOutcome, outcome_of, read_manifest
from parts import artifact_of

LABEL = "Default"
ROUNDS = 5
ROUND_SECONDS = 1.0
AT_ONCE = (1, 64)
SIZES = (10_000, 100_000)
BATCH = 256  # contents that a gateway asks for at once
CATCH_UPS = 50
FSYNCS = 300
TARGET_AT_64 = Target(
    "ratio",
    at_least=2.5,
    why="A group shares the wait for the disk and the trips to the server, not the rows. The floor "
    "is the bare driver that writes the very rows of these publishes, planned before, 64 in a "
    "transaction. On SQLite that stops us: seven of their entries stand in an index at a random "
    "place, and each writes a page. On the servers it is planning and the publishers' own turns, "
    "on the two cores that the server has, too; a disk that is slower raises the ratio.",
)

DRIVER = Peer(
    "the raw drivers",
    settings={
        "SQLite": "sqlite3, WAL, synchronous = FULL",
        "PostgreSQL": "psycopg, autocommit, the server's own defaults",
        "MariaDB": "PyMySQL, autocommit, the server's own defaults",
    },
)


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
        try:
            with database(name, folder) as url:
                asyncio.run(_publishing(name, url, folder))
            for size in arguments.sizes:
                with database(name, folder) as url:
                    asyncio.run(_reading(name, url, folder, size))
        except MissingError as error:
            print_skipped("sql_store", f"publishing and reading, {name}", str(error))


# Publishing -----------------------------------------------------------------------------------


async def _publishing(name: str, url: str, folder: str) -> None:
    numbers = iter(range(10**9))
    raw = _Raw(url)
    async with open_sql_store(url) as store:
        for at_once in AT_ONCE:
            rates: dict[str, list[float]] = {"store": [], "driver": []}
            rounds, most = (ROUNDS, 6_000) if at_once > 1 else (3, 1_000)
            for _ in range(rounds):
                requests = [_request(next(numbers)) for _ in range(most)]
                gc.freeze()  # a publisher has no thousands of requests in memory to look through
                rates["store"].append(await _publish_for(store, requests, at_once))
                rates["driver"].append(await asyncio.to_thread(raw.insert_for, requests))
            ours, limit = (statistics.median(each) for each in rates.values())
            ratio = round(ours / limit, 2)
            target = TARGET_AT_64 if at_once == 64 else None
            floor = None
            if target and not target.is_met(ratio):
                rows = await asyncio.to_thread(_rows_alone, name, folder)
                floor = {"rows_alone_a_second": round(rows), "ratio": round(rows / limit, 2)}
            raised = {who: [round(each) for each in found] for who, found in rates.items()}
            print_figure(
                "sql_store",
                f"durable publishes a second, {at_once} at once, {name}",
                database=name,
                fsync_us=_fsync_us(folder),
                at_once=at_once,
                n=rounds,
                unit="a second",
                value=round(ours),
                rounds=raised,
                limit={
                    "what": "the driver, row by row on one connection",
                    "unit": "a second",
                    "value": round(limit),
                },
                ratio=ratio,
                target=target,
                floor=floor,
                peer=DRIVER,
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
        key=new_key(),  # as the command line makes them
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
        # SQLite forgets what it has read when another connection writes: each has its own file.
        self._run, self._close = driver(url.replace("/store.db", "/raw.db"))
        kind = "MEDIUMBLOB" if "mysql" in url or "mariadb" in url else "BYTEA"
        if url.startswith("sqlite"):
            kind = "BLOB"
        self._run(
            "CREATE TABLE RAW_ARTIFACTS (API_ID VARCHAR(255) PRIMARY KEY, "
            f"ARTIFACT {kind} NOT NULL)"
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


def _rows_alone(name: str, folder: str) -> float:
    """Publishes a second whose rows the driver alone could write, 64 in a transaction."""
    numbers = iter(range(10**9))
    with database(name, folder) as url:
        writing, reading = make_engines(url, SqlOptions())
        with writing.connect() as connection:
            with connection.begin():
                epoch = prepare(connection, name)
                sql_write.make_heads(connection, [LABEL])
            head = Head(LABEL, epoch)
            rates = []
            for _ in range(3):
                trips = []
                for _ in range(6_000 // 64):
                    trip, head = _planned(
                        connection, head, [_request(next(numbers)) for _ in range(64)]
                    )
                    trips.append(trip)
                start = time.perf_counter()
                done = 0
                for trip in trips:
                    with connection.begin():
                        trip.run()
                    done += 64
                rates.append(done / (time.perf_counter() - start))
        for engine in (writing, reading):
            engine.dispose()
    return statistics.median(rates)


def _planned(
    connection: Connection, head: Head, requests: Sequence[SaveRequest]
) -> tuple[Trip, Head]:
    """What would be written for these requests, all of new artifacts, and the head after it."""
    states = {LABEL: LabelState(head)}
    loaded = Loaded(states, {}, frozenset(), {}, {LABEL: {}}, {LABEL: {}})
    written = []
    for request in requests:
        outcome = outcome_of(request, states, loaded.identities)
        assert isinstance(outcome, SaveOutcome), outcome
        written.append((request, outcome))
    trip = Trip(connection)
    write_batch(trip, loaded, written)
    return trip, states[LABEL].head


# Reading --------------------------------------------------------------------------------------


async def _reading(name: str, url: str, folder: str, size: int) -> None:
    async with open_sql_store(url) as store:
        await _fill(store, size)
        run, close = await asyncio.to_thread(driver, url)
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
        print_figure(
            "sql_store",
            f"reading {size:,} artifacts: manifest and contents, {name}",
            database=name,
            artifacts=size,
            n=3,
            unit="s",
            value=round(whole, 3),
            manifest_seconds=round(medians["manifest"], 3),
            limit={"what": "the driver reads the rows", "value": round(medians["driver"], 3)},
            ratio=round(whole / medians["driver"], 2),
        )
        for held, label in ((100, "Small"), (size, LABEL)):
            if label == "Small":
                await _fill(store, held, label)
            took = await _catch_up(store, label, held)
            print_figure(
                "sql_store",
                f"catching up on 1 change among {held:,}, {name}",
                database=name,
                artifacts=held,
                **milliseconds(took),
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
        "SELECT API_ID, DIGEST, ARTIFACT FROM AM_GW_API_ARTIFACTS WHERE GATEWAY_LABEL = 'Default'"
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
