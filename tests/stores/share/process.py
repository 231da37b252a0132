"""A process that saves into a share until it is ended, and says what it was promised.

    python -m tests.stores.share.process PATH NAME FIRST BYTES [--stop-before-link] LABEL...

Each line is JSON, as `tests.stores.writer` has it. With `--stop-before-link` it stops itself once,
as SIGSTOP does, when all is written but what decides.
"""

import asyncio
import signal
import sys
import threading
from pathlib import Path

from gatesync.stores.share_source import ShareSource
from gatesync.stores.store import SaveOutcome
from tests.stores.share.making import writer
from tests.stores.writer import request_of, say

STOP = "--stop-before-link"


async def main(path: str, name: str, first: str, size: str, *labels: str) -> None:
    stops = STOP in labels
    labels = tuple(each for each in labels if each != STOP)

    def step(what: str) -> None:
        nonlocal stops
        if stops and what.startswith("link"):
            stops = False
            # To this thread, which so does not get any further: to the process would be later.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    store = writer(ShareSource(path=Path(path)), step)
    number = int(first)
    while True:
        request = request_of(f"{name}/{number}", int(size), labels)
        say(request.key, None)
        [answer] = await store.save([request])
        if not isinstance(answer, SaveOutcome):
            raise SystemExit(f"{request.key} was refused: {answer.reasons}")
        say(request.key, [(each.label, each.revision) for each in answer.change_sets])
        number += 1


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
