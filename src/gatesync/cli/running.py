"""Running a role: an event loop, a clean stop on a signal, and one exit code."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import uvloop

from gatesync.cli.notifying import keep_alive, stopping, tell
from gatesync.config import ConfigError
from gatesync.gateway.cache import CacheInUseError

__all__ = ["EXIT_NO", "EXIT_UNREACHABLE", "EXIT_WRONG", "run_role"]

EXIT_NO: Final = 1  # the answer is no: drift, not everywhere, refused by a node
EXIT_WRONG: Final = 2  # wrong use or wrong input
EXIT_UNREACHABLE: Final = 3  # what is needed could not be reached


def run_role(
    role: Coroutine[Any, Any, None],
    refusals: tuple[type[Exception], ...],
    wrong: tuple[type[Exception], ...] = (),
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> int:
    """Run until stopped; answers with the exit code.

    Args:
        role: what to run; it is cancelled by SIGTERM and SIGINT, and by SIGHUP unless it takes
            that for something else.
        refusals: exceptions that say what keeps the role from running; each is printed as one
            line, without a traceback. So is trouble with a file that the exception names.
        wrong: those of them that no second try mends, as a wrong configuration.
        new_loop: makes the event loop.
    """
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_until_stopped(role, refusals, (ConfigError, CacheInUseError, *wrong)))


async def _until_stopped(
    role: Coroutine[Any, Any, None],
    refusals: tuple[type[Exception], ...],
    wrong: tuple[type[Exception], ...],
) -> int:
    task = asyncio.create_task(role, name="role")
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping()
        task.cancel()

    for number in _stopping_signals():
        loop.add_signal_handler(number, stop)
    alive = asyncio.create_task(keep_alive(), name="watchdog")
    try:
        await task
    except asyncio.CancelledError:
        return 0
    except Exception as error:
        said = _leaves(error)
        if not all(isinstance(each, refusals) or _names_a_file(each) for each in said):
            raise
        for each in said:
            print(f"gatesync: {_said(each)}", file=sys.stderr)
            tell(STATUS=_said(each))
        return EXIT_WRONG if any(isinstance(e, wrong) for e in said) else EXIT_UNREACHABLE
    finally:
        alive.cancel()
    return 0


def _stopping_signals() -> Iterator[signal.Signals]:
    yield from (signal.SIGTERM, signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        yield signal.SIGHUP  # its terminal was closed


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in _leaves(each)]


def _names_a_file(error: Exception) -> bool:
    return isinstance(error, OSError) and error.filename is not None


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
