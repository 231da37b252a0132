"""A takeover that kills its own process, as a power cut would, before its Nth statement.

    python -m tests.stores.interrupted_takeover URL N

Commits count as statements. It ends with 0 where it needs fewer than that.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy import Engine, event

from gatesync.publisher.taking_over import publish_of_row
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_takeover import take_over

BATCH_ROWS = 3


def kill_before(number: int) -> None:
    left = number

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)


if __name__ == "__main__":
    kill_before(int(sys.argv[2]))
    asyncio.run(take_over(sys.argv[1], SqlOptions(), publish_of_row, batch_rows=BATCH_ROWS))
