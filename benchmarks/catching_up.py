"""Catching up on 1 change among 100,000 artifacts and, in turn, among 100.

A gateway that was away asks a publisher over HTTP, on loopback: heads, the difference since what it
knows, the contents; and takes the difference into its log, which proves it by the label's digest.
Both labels are in one store: SQLite, and PostgreSQL where it is installed.
"""

import argparse
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from databases import DATABASES, MissingError, database
from figures import Target, milliseconds, print_figure, print_skipped
from filling import fill, publish_of_bench, save
from gatesync.gateway.log import Decision, LabelLog
from gatesync.publisher.service import Publisher
from gatesync.stores.http import HttpRetriever
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import Retriever, Saver, read_manifest
from gatesync.web.client import open_client
from in_process import running, serving

TARGET = Target(
    "ratio",
    at_most=1.5,
    why="A deeper index is read for the larger label, and its pages are less often in memory.",
)
HEARTBEAT = 30.0


def main() -> None:
    """Measure, and print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", choices=DATABASES, nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    for name in options.db:
        try:
            with database(name) as url, tempfile.TemporaryDirectory() as folder:
                uvloop.run(_measure(name, url, Path(folder), options))
        except MissingError as error:
            print_skipped("catching_up", f"catching up from {name}", str(error))


async def _measure(name: str, url: str, folder: Path, options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_sql_store(url))
        publisher = Publisher(store, None, "bench", heartbeat=HEARTBEAT)
        await stack.enter_async_context(running(publisher))
        where, token = await stack.enter_async_context(serving(publisher, folder, HEARTBEAT))
        client = await stack.enter_async_context(open_client(where, token, timeout=60.0))
        retriever = HttpRetriever(client)
        logs: dict[str, LabelLog] = {}
        for label, count in (("few", options.few), ("many", options.artifacts)):
            await fill(store, label, count, options.size)
            logs[label] = LabelLog(label)
            head, entries = await read_manifest(store, label)
            logs[label].take_list(head, entries, continues=True)
        took: dict[str, list[float]] = {"few": [], "many": []}
        for edit in range(1, options.rounds + 6):
            for label, log in logs.items():
                number = edit * 7_919 % len(log.entries)
                await _publish(store, label, number, options.size, edit)
                seconds = await _catch_up(retriever, log)
                if edit > 5:  # the first ones warm up connections and caches
                    took[label].append(seconds * 1000)
        ours, limit = milliseconds(took["many"]), milliseconds(took["few"])
        print_figure(
            "catching_up",
            f"catching up on 1 change among {options.artifacts:,}, {name}",
            database=name,
            artifacts=options.artifacts,
            bytes=options.size,
            **ours,
            limit={"what": f"the same among {options.few:,}", **limit},
            ratio=round(ours["p50"] / limit["p50"], 2),
            target=TARGET,
            floor={"p50_among_few": limit["p50"]},
        )


async def _publish(store: Saver, label: str, number: int, size: int, edit: int) -> None:
    await save(store, label, [publish_of_bench(number, size, edit)])


async def _catch_up(retriever: Retriever, log: LabelLog) -> float:
    """Seconds from knowing nothing new to holding the bytes, and the proof that it is all."""
    assert log.cursor is not None
    began = time.perf_counter()
    head = (await retriever.heads([log.label]))[log.label]
    delta = await retriever.changes(log.label, log.cursor)
    found = await retriever.contents([each.entry.digest for each in delta.changes])
    decision = log.offer_delta(log.cursor.revision, delta.head, delta.changes)
    seconds = time.perf_counter() - began
    assert decision is Decision.TAKEN
    assert delta.head == head
    assert len(found) == 1
    return seconds


if __name__ == "__main__":
    main()
