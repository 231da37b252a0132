"""A reader that believes nothing: it follows labels and proves every answer against the others.

As a process: `python -m tests.stores.reader URL LABEL...`; it ends when standard input does, and
then writes how many revisions it saw, as JSON. What does not come out ends it with an error.
"""

import asyncio
import json
import sys
from collections.abc import Sequence

from gatesync.artifacts.changes import Change, Cursor, Entry, Instruction
from gatesync.artifacts.digests import LabelDigest
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import Saver
from tests.contracts.saves import applied, digest_over, held_at


async def follow(store: Saver, labels: Sequence[str], stop: asyncio.Event) -> dict[str, int]:
    """Read until `stop`, then once more; answer with the revision that each label ended at."""
    held: dict[str, dict[str, Entry]] = {label: {} for label in labels}
    revisions = dict.fromkeys(labels, 0)
    stopping = False
    while not stopping:
        stopping = stop.is_set()
        heads = await store.heads(labels)
        for label, head in heads.items():
            assert head.revision >= revisions[label], "a head went back"
            if head.revision == revisions[label]:
                continue
            since = Cursor(store.epoch, revisions[label])
            delta = await store.changes(label, since)
            assert delta.head.revision >= head.revision, "the log is behind the head"
            log = await store.change_sets(label, since.revision, 1_000_000)
            after, digest = held[label], digest_over(held[label])
            expected = since.revision
            for each in log:  # promise 2: all before N can be read, and N comes out
                assert (each.previous, each.revision) == (expected, expected + 1), "a gap"
                expected += 1
                for change in each.changes:
                    digest = moved(digest, change, after)
                after = applied(after, each)
                assert digest == each.digest, f"revision {expected} is not whole"
                if each.revision == delta.head.revision:
                    assert each.head.digest == delta.head.digest
                    assert applied(held[label], delta) == after, "the delta leads elsewhere"
                    revisions[label], now = expected, after
            assert revisions[label] == delta.head.revision, "the log ends before the head"
            held[label] = now
            assert await held_at(store, label, delta.head.cursor, limit=7) == now
            digests = {entry.digest for entry in now.values()}
            assert set(await store.contents(digests)) == digests, "a content is missing"
    return revisions


def moved(digest: LabelDigest, change: Change, before: dict[str, Entry]) -> LabelDigest:
    old = before.get(change.entry.api_id)
    new = change.entry.digest if change.instruction is Instruction.PUBLISH else None
    return digest.replace(change.entry.api_id, old.digest if old else None, new)


async def main(url: str, *labels: str) -> None:
    stop = asyncio.Event()
    async with open_sql_store(url) as store, asyncio.TaskGroup() as group:
        reading = group.create_task(follow(store, labels, stop))
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
    print(json.dumps(reading.result()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
