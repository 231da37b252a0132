"""A process that reads all that a label holds, as a gateway does, and tells what memory it took.

python -m tests.stores.streaming_reader URL LABEL
"""

import asyncio
import json
import sys
import time

import psutil

from gatesync.stores.batching import in_batches
from gatesync.stores.sql_retriever import open_sql_retriever
from gatesync.stores.store import read_manifest
from gatesync.stores.wire import BATCH_DIGESTS

FETCH_BYTES = 8 * 1024 * 1024  # of contents in one batch, as a gateway asks for them


async def read(url: str, label: str) -> None:
    process = psutil.Process()
    started = time.perf_counter()
    async with open_sql_retriever(url) as retriever:
        await retriever.heads([label])
        first = peak = process.memory_info().rss
        _, entries = await read_manifest(retriever, label)
        listed = process.memory_info().rss
        seconds = time.perf_counter() - started
        count = size = 0
        for batch in in_batches(entries.values(), FETCH_BYTES, BATCH_DIGESTS):
            contents = await retriever.contents([entry.digest for entry in batch])
            count += len(contents)
            size += sum(map(len, contents.values()))
            peak = max(peak, process.memory_info().rss)
    result = {
        "artifacts": len(entries),
        "contents": count,
        "bytes": size,
        "rss_at_first": first,
        "rss_listed": listed,
        "rss_peak": max(peak, listed),
        "list_seconds": round(seconds, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(read(*sys.argv[1:]))
