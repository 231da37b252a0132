"""A process that saves until it is ended, and says on standard output what it was promised.

    python -m tests.stores.writer URL NAME CONTENT_BYTES LABEL...

Each line is JSON: `[key, null]` when a save begins, `[key, [[label, revision], ...]]` when it was
acknowledged. Request and key follow from each other, so that whoever reads this can repeat it.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence

from gatesync.artifacts.planning import SaveRequest
from gatesync.stores.sql import SqlStore, open_sql_store
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import Items, asked, publish, remove

CONCURRENT = 4


def request_of(key: str, size: int, labels: Sequence[str]) -> SaveRequest:
    """The request with this key: `WRITER/LANE/NUMBER`, where a lane has artifacts of its own.

    In rounds of three steps, each in two labels: two artifacts come; one is edited, the other
    goes and another comes or is edited; the first goes.
    """
    lane, _, number = key.rpartition("/")
    round_, step = divmod(int(number), 3)
    chance = random.Random(f"{lane}/{round_}")
    places = chance.sample(list(labels), min(2, len(labels)))
    content = chance.randbytes(size)
    one, two = f"{lane}/one", f"{lane}/two"
    sets: list[Items]
    if step == 0:
        sets = [[publish(one, b"1" + content), publish(two, content)]]
    elif step == 1:
        sets = [
            [publish(one, b"2" + content)],
            [remove(two), publish(f"{lane}/{round_ % 9}", content)],
        ]
    else:
        sets = [[remove(one)]]
    return asked(places, *sets, key=key, publisher=key)


async def write(store: SqlStore, lane: str, size: int, labels: Sequence[str]) -> None:
    number = 0
    while True:
        request = request_of(f"{lane}/{number}", size, labels)
        say(request.key, None)
        [answer] = await store.save([request])
        if not isinstance(answer, SaveOutcome):
            raise SystemExit(f"{request.key} was refused: {answer.reasons}")
        say(request.key, [(each.label, each.revision) for each in answer.change_sets])
        number += 1


def say(key: str, revisions: list[tuple[str, int]] | None) -> None:
    print(json.dumps([key, revisions]), flush=True)


async def main(url: str, name: str, size: str, *labels: str) -> None:
    async with open_sql_store(url) as store, asyncio.TaskGroup() as group:
        for lane in range(CONCURRENT):
            group.create_task(write(store, f"{name}/{lane}", int(size), labels))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
