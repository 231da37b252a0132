"""What each demo does around its story: a folder of its own, and one document at the end."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import psutil

from demo.processes import DemoError
from gatesync.web.client import AnsweredError, UnreachableError

__all__ = ["perform"]

FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "demo"


def perform(
    folder: Path | None,
    tell: Callable[[Path], Awaitable[None]],
    *,
    keep: bool,
    fail: Callable[[str], None],
    failures: Collection[str],
    document: Callable[[], Mapping[str, object]],
) -> int:
    """Tell a story in a folder; the last line on standard output is one JSON document.

    Args:
        folder: for everything that the processes write; must not exist. None: a new one in
            `build/demo` of the checkout, where what earlier runs have left is removed.
        tell: tells the story, in the folder that it is given. SIGTERM ends it as Ctrl-C does.
        keep: do not remove the folder at the end.
        fail: told why the story could not go on.
        failures: all reasons by then.
        document: what is printed in the end; its `ok` says how it went.

    Returns:
        the exit code.
    """
    if folder is None:
        _sweep()
        folder = FOLDER / str(os.getpid())
    elif folder.exists():
        print(f"demo: {folder} exists; name a folder that does not", file=sys.stderr)
        return 2
    try:
        asyncio.run(_until_stopped(tell(folder.resolve())))
    except (DemoError, UnreachableError, AnsweredError, OSError, ExceptionGroup) as error:
        for each in _leaves(error):
            fail(f"{type(each).__name__}: {each}")
    except KeyboardInterrupt:
        fail("interrupted")
    finally:
        if keep:
            print(f"Everything is kept in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(FOLDER, FOLDER.parent)
        for reason in failures:
            print(f"demo: {reason}", file=sys.stderr)
        told = document()
        print(json.dumps(told), flush=True)
    return 0 if told["ok"] else 1


async def _until_stopped(telling: Awaitable[None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await telling
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _sweep() -> None:
    """Remove what demos left that were killed or told to keep it; not those that run now."""
    for left in FOLDER.glob("*"):
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)


def _remove_empty(*folders: Path) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty, or not there, ends it
        for folder in folders:
            folder.rmdir()


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in _leaves(each)]
