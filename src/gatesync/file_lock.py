"""Waiting for one's turn among the processes that change a file."""

import fcntl
import time
from typing import Final

__all__ = ["wait_for_lock"]

_POLL_SECONDS: Final = 0.01


def wait_for_lock(file: int, seconds: float) -> bool:
    """Lock an open file for this process alone; whether that came about in time. Blocks."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
