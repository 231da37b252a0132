"""Running transactions in threads: each with a deadline, again where that is safe.

A thread that waits for a server which says nothing is freed from outside: at the deadline its
socket is shut down, and what it waits for fails. SQLite has no socket; it limits its waiting by
itself.
"""

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from gatesync.stores.store import StoreError

__all__ = ["ConstraintError", "Lane"]

TRIES: Final = 5
PAUSE_SECONDS: Final = 0.01  # after the first failure; twice as long after each other
CLOSE_SECONDS: Final = 2.0  # what calls under way may still take when the store is closed
LAST_RESORT_SECONDS: Final = 2.0  # from the deadline until nobody waits for the thread any more

# Deadlock, serialisation failure, lock wait timeout: the database has rolled it all back.
_TRANSIENT_STATES: Final = {"40001", "40P01"}
_TRANSIENT_NUMBERS: Final = {1020, 1205, 1213}

_thread: Final = threading.local()  # `call`: what this thread is busy with

_T = TypeVar("_T")


class ConstraintError(StoreError):
    """The database refused a row; only the transaction it was in is to blame."""


class Lane:
    """An engine and the threads that use it.

    Args:
        where: names the database in errors; without its password.
        deadline: seconds that a call may take, all its tries included.
    """

    def __init__(
        self, engine: Engine, *, threads: int, name: str, where: str, deadline: float
    ) -> None:
        self.engine = engine
        event.listen(engine, "connect", _watch_new, insert=True)
        self._threads = ThreadPoolExecutor(threads, name)
        self._where = where
        self._deadline = deadline
        self._calls: WeakSet[_Call[Any]] = WeakSet()  # those that a thread has, and some done ones

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Do `work` in one transaction. It may be done several times, but is committed once.

        Raises:
            ConstraintError: the database refused a row, again and again.
            StoreError: anything else. Where the commit itself failed, it may have happened.
        """
        loop = asyncio.get_running_loop()
        late = f"database {self._where}: no answer within {self._deadline:g} s"
        call = _Call(self.engine, work, self._where, late)
        self._calls.add(call)
        answer = loop.run_in_executor(self._threads, call)
        # Not bound to this task: a caller that is cancelled leaves its thread to this timer.
        timer = loop.call_later(self._deadline, call.give_up)
        try:
            async with asyncio.timeout(self._deadline + LAST_RESORT_SECONDS):
                return await answer
        except TimeoutError:
            raise StoreError(late, unsure=call.committing) from None
        finally:
            if answer.done() and not answer.cancelled():
                timer.cancel()

    async def close(self) -> None:
        """End the threads and the connections, after what they are doing if that is soon done."""
        timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._give_up)
        try:
            await asyncio.to_thread(self._threads.shutdown)
        finally:
            timer.cancel()
        self.engine.dispose()

    def _give_up(self) -> None:
        for call in self._calls:
            call.give_up()


class _Call(Generic[_T]):
    """One call, in its thread. `give_up` is for another thread."""

    def __init__(
        self, engine: Engine, work: Callable[[Connection], _T], where: str, late: str
    ) -> None:
        self._engine = engine
        self._work = work
        self._where = where
        self._why_late = late
        self._lock = threading.Lock()
        self._late = threading.Event()
        self._socket: socket.socket | None = None
        self.committing = False  # from when COMMIT was sent; an answer ends it

    def __call__(self) -> _T:
        chance = random.Random()  # noqa: S311 (so that two that met do not meet again)
        for number in range(TRIES):
            try:
                return self._once()
            except StoreError:
                raise
            except (SQLAlchemyError, OSError) as error:
                if self._late.is_set():
                    raise StoreError(self._why_late, unsure=self.committing) from error
                if number + 1 == TRIES or not self._can_repeat(error, number):
                    raise self._explained(error) from error
            self._late.wait(PAUSE_SECONDS * 2**number * chance.uniform(0.5, 1.5))
        raise AssertionError

    def give_up(self) -> None:
        """Make whatever the thread waits for fail."""
        with self._lock:
            self._late.set()
            self._cut()

    def watch(self, driver: Any) -> None:
        """Let `give_up` reach a connection's socket, by a descriptor that is ours alone."""
        number = _descriptor(driver)
        if number is None:
            return
        self._unwatch()
        with self._lock:
            self._socket = socket.socket(fileno=os.dup(number))
            if self._late.is_set():
                self._cut()

    def _once(self) -> _T:
        self.committing = False
        if self._late.is_set():
            raise StoreError(self._why_late)
        _thread.call = self
        try:
            with self._engine.connect() as connection:
                self.watch(connection.connection.driver_connection)
                try:
                    with connection.begin():
                        answer = self._work(connection)
                        self.committing = True
                    return answer
                finally:
                    self._unwatch()  # it may be another thread's from here on
        finally:
            _thread.call = None
            self._unwatch()

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the other side was quicker
                self._socket.shutdown(socket.SHUT_RDWR)

    def _unwatch(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def _can_repeat(self, error: Exception, number: int) -> bool:
        """Whether nothing was committed, and another try may go better."""
        if not isinstance(error, DBAPIError):
            return False
        if error.connection_invalidated:  # one that had died in the pool; now the pool is empty
            return not self.committing and number == 0
        # A row that another transaction wrote at the same time is seen by the next try.
        return isinstance(error, IntegrityError) or _is_transient(error.orig)

    def _explained(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        text = f"database {self._where}: {_first_line(cause)}"
        if isinstance(error, IntegrityError | DataError):
            return ConstraintError(text)
        answered = isinstance(error, DBAPIError) and not error.connection_invalidated
        return StoreError(text, unsure=self.committing and not answered)


def _watch_new(driver: Any, _record: Any) -> None:
    """What is said to the server while a connection comes up may stay without an answer, too."""
    call = getattr(_thread, "call", None)
    if call is not None:
        call.watch(driver)


def _descriptor(driver: Any) -> int | None:
    speaker = getattr(driver, "_sock", driver)  # PyMySQL shows its socket to nobody
    return int(speaker.fileno()) if hasattr(speaker, "fileno") else None


def _is_transient(error: BaseException | None) -> bool:
    if getattr(error, "sqlstate", None) in _TRANSIENT_STATES:
        return True
    return bool(error and error.args and error.args[0] in _TRANSIENT_NUMBERS)


def _first_line(error: BaseException) -> str:
    """What a driver says: PyMySQL's errors are pairs, psycopg's have several lines."""
    if len(error.args) == 2 and isinstance(error.args[0], int):
        return f"{error.args[1]} ({error.args[0]})"
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line)
