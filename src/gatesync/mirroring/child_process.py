"""ssh and rsync as children that cannot outlive us, or the time that they are given."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Final, NamedTuple

__all__ = ["Ended", "end_group", "finish", "spawn"]

_PR_SET_PDEATHSIG: Final = 1
# Of our environment, which may hold passwords for us, a child gets what ssh and rsync look at.
# The language is left out: their messages are read, and shown, in English.
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "SSH_AUTH_SOCK")


class Ended(NamedTuple):
    """What a child said, and how it ended."""

    code: int
    output: bytes
    errors: bytes


async def spawn(
    command: Sequence[str],
    *,
    stderr: int | IO[bytes] = asyncio.subprocess.PIPE,
    dies_with_us: bool = False,
) -> asyncio.subprocess.Process:
    """Start it in a group of its own, with pipes.

    Args:
        command: the program and its arguments.
        stderr: where its errors go.
        dies_with_us: it is killed when we die, however that is. To ask for that costs 10 ms, in
            which nothing else of ours is done: a copy of this process is made for it.

    Raises:
        OSError: there is no such program, or no memory for it.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ} | {"LC_ALL": "C"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        preexec_fn=_die_with_parent() if dies_with_us else None,
        start_new_session=True,  # rsync's own ssh is ended with it; Ctrl-C is for us alone
    )


async def finish(process: asyncio.subprocess.Process, *, stdin: bytes, seconds: float) -> Ended:
    """Tell it what it waits for, and let it come to its end.

    Raises:
        TimeoutError: it took more than `seconds`; it and its children are gone.
    """
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(stdin)
    finally:
        await end_group(process)
    assert process.returncode is not None
    return Ended(process.returncode, output, errors)


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill it, if it has not ended, and whatever it started; returns when it is gone."""
    if process.returncode is None:  # else the number may be another's by now
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes another program: ask Linux to kill it with us.

    Everything is looked up beforehand: between fork and exec almost nothing is safe.
    """
    if sys.platform != "linux":
        return None
    prctl = _LIBC.prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # we were already gone
            os._exit(1)

    return ask


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
