"""What it costs to look whether a token may read a frame: with and without, in pairs.

The publisher's application on SQLite, asked in this process, without a network in between: a frame
of 180 artifacts that is kept, and /v1/access, by a node whose token is for one label, and by one
whose token is for `*`, which is not looked at. Then what the first such node waits for: reading the
label's digests, and the memory that they take.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client import CollectorRegistry

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.http import publisher_app
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.readable import ReadableContents
from gatesync.publisher.service import Publisher
from gatesync.publisher.tokens import Principal, Role
from gatesync.stores.sql import SqlStore, open_sql_store
from gatesync.stores.wire import BATCH_DIGESTS, frame_path
from gatesync.web.app import AppState
from parts import print_result

LABEL: Final = "Default"
SAVED_AT_ONCE: Final = 5_000
LIMITED: Final = Principal("limited", Role.NODE, (LABEL, "Second", "Third"))
UNLIMITED: Final = Principal("unlimited", Role.NODE, ("*",))


def main() -> None:
    """Measure, and print a line for each of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each")
    parser.add_argument("--requests", type=int, default=2_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is told")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        asyncio.run(_measure(Path(folder), options))


async def _measure(folder: Path, options: argparse.Namespace) -> None:
    async with open_sql_store(f"sqlite:///{folder}/store.db") as store:
        digests = await _fill(store, options.artifacts, options.size)
        reading = await _first(store, digests, options)
        app = _app(store)
        batches = [digests[at : at + BATCH_DIGESTS] for at in range(0, len(digests), BATCH_DIGESTS)]
        paths = [frame_path(batch) for batch in batches[:20]]
        for name, asked in (
            ("frame", [(path, {}) for path in paths]),
            ("access", [("/v1/access", {"x-original-uri": path}) for path in paths]),
        ):
            await _round(app, LIMITED, asked, len(asked))  # makes and keeps them
            rounds = [
                [await _round(app, who, asked, options.requests) for who in (UNLIMITED, LIMITED)]
                for _ in range(options.rounds)
            ]
            without, looked_at = (statistics.median(each) for each in zip(*rounds, strict=True))
            print_result(
                "reading_rights",
                what=name,
                n=options.artifacts,
                digests=len(batches[0]),
                labels=len(LIMITED.labels),
                rounds=options.rounds,
                per_second_without=round(1 / without),
                per_second_with=round(1 / looked_at),
                added_us=round((looked_at - without) * 1e6, 1),
                ratio=round(looked_at / without, 3),
            )
        print_result("reading_rights", what="first", n=options.artifacts, **reading)


async def _fill(store: SqlStore, count: int, size: int) -> list[str]:
    """Publish so many artifacts; answers with their digests, in the order of their ids."""
    digests: list[str] = []
    for start in range(0, count, SAVED_AT_ONCE):
        items = [
            _artifact(number, size) for number in range(start, min(start + SAVED_AT_ONCE, count))
        ]
        digests += [item.entry.digest for item in items]
        request = SaveRequest((LABEL,), (tuple(items),), str(start), str(start), 0)
        await store.save([request])
    return digests


def _artifact(number: int, size: int) -> Publish:
    content = f"artifact {number} ".encode().ljust(size, b".")
    name = f"api-{number:06}"
    entry = Entry(
        api_id=name,
        tenant="carbon.super",
        kind="api",
        name=name,
        version="1.0.0",
        context=f"/{name}",
        digest=digest_of(content),
        size=size,
    )
    return Publish(entry, content, ())


async def _first(
    store: SqlStore, digests: list[str], options: argparse.Namespace
) -> dict[str, float]:
    """What the first node of a label waits for, and what is kept then."""
    seconds, kept = [], []
    gc.collect()
    before = psutil.Process().memory_info().rss
    for _ in range(options.rounds):
        readable = ReadableContents(store)
        kept.append(readable)
        began = time.perf_counter()
        assert len(await readable.of(LIMITED, digests[:1])) == 1
        seconds.append(time.perf_counter() - began)
    gc.collect()
    megabytes = (psutil.Process().memory_info().rss - before) / 1e6 / len(kept)
    return {"seconds": round(statistics.median(seconds), 3), "megabytes": round(megabytes, 1)}


def _app(store: SqlStore) -> Any:
    async def ready() -> tuple[bool, None]:
        return True, None

    publisher = Publisher(store, None, "p1")
    cluster = ClusterAnswer("p1", store.epoch, 5_000, None)
    pulls = FullPulls(random=lambda: 0.5)
    return publisher_app(publisher, cluster, AppState(ready, CollectorRegistry()), pulls)


async def _round(
    app: Any, who: Principal, asked: list[tuple[str, dict[str, str]]], count: int
) -> float:
    """Processor seconds of one request."""
    began = time.process_time()
    for number in range(count):
        path, headers = asked[number % len(asked)]
        await _ask(app, who, path, headers)
    return (time.process_time() - began) / count


async def _ask(app: Any, who: Principal, path: str, headers: dict[str, str]) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] in (200, 204), message["status"]

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "user": who,
        "state": {},
    }
    await app(scope, receive, send)


if __name__ == "__main__":
    main()
