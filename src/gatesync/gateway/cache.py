"""The last-known-good cache: what a node needs to start without anyone else (promise 10).

    async with open_cache(data / "cache", served=engine.content) as cache:
        remembered = await cache.load(labels)          # at start
        contents = await cache.contents(digests)
        cache.follow(log, touched)                     # the log moved
        cache.applied(applied, touched, contents)      # the engine took this

The last two only note what is to be written. A task writes it half a second later, in one
transaction and in a thread of its own: nobody waits for a disk, and the file never holds half of
a step. While a node starts it is written once that is over (`hold`).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from gatesync.artifacts.signatures import Attestation
from gatesync.gateway.cache_file import CacheFile, CacheInUseError, Found, UntrustedError
from gatesync.gateway.cache_pending import Pending
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LabelLog

__all__ = ["Cache", "CacheCounts", "CacheInUseError", "Remembered", "open_cache"]

WRITE_SECONDS: Final = 0.5  # after a change, so that its report and what follows it go first
HELD_SECONDS: Final = 10.0  # between writes of a start: if it is ended, so much is fetched again
RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 5.0  # for what is still to be written at the end
TOLD: Final = 10  # damaged things that are logged one by one

_TROUBLE: Final = (OSError, sqlite3.Error, UntrustedError, CacheInUseError)

_log = structlog.get_logger("gatesync.gateway")
_T = TypeVar("_T")


class CacheCounts(msgspec.Struct):
    """For metrics and status. `error` is what keeps the cache from working now, or empty.

    `hits` and `misses` are contents that were asked for. `damaged` are contents, labels and
    applied artifacts that were there and not believed, and files that were thrown away. `dropped`
    are contents that found no room while they waited; the engine is asked for them later.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    writes: int = 0
    failures: int = 0
    dropped: int = 0
    error: str = ""


class Remembered(msgspec.Struct, frozen=True):
    """What the node knew and served when it last ran.

    Attributes:
        labels: the logs that could be believed, whole; everything in them is `touched`.
        applied: what the engine had taken. It may name labels that are no longer followed, and
            entries that are older than the log's.
        attestations: by label and epoch, where they were asked for; nobody has verified them.
    """

    labels: dict[str, LabelLog]
    applied: dict[str, Wanted]
    attestations: dict[str, dict[str, list[Attestation]]] = {}


@asynccontextmanager
async def open_cache(
    folder: Path,
    *,
    served: Callable[[str], bytes | None] = lambda _: None,
    interval: float = WRITE_SECONDS,
    retry: float = RETRY_SECONDS,
) -> AsyncIterator["Cache"]:
    """Open the cache in a folder, and write it while the block runs.

    Args:
        folder: made if need be, for nobody else to read.
        served: what the engine serves under an api_id; asked for contents that could not wait
            until the disk took them. It raises nothing.
        interval: seconds from a change until it is written, with all that came meanwhile.
        retry: seconds until a write that failed is tried again.

    Raises:
        CacheInUseError: another process has this folder. A disk that cannot be used is no error:
            it is logged and counted, and the node does without.
    """
    cache = Cache(CacheFile(folder), served, interval, retry)
    await cache._open()
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(cache._run(), name="cache")
            try:
                yield cache
            finally:
                await cache._end(writer)
    finally:
        await cache._close()


class Cache:
    """See the module. Use it from one event loop; get one from `open_cache`."""

    def __init__(
        self,
        file: CacheFile,
        served: Callable[[str], bytes | None],
        interval: float,
        retry: float,
    ) -> None:
        self._counts = CacheCounts()
        self._file = file
        self._pending = Pending(served)
        self._interval = interval
        self._retry = retry
        self._thread = ThreadPoolExecutor(1, "cache")
        self._ending = False
        self._held = False
        self._empty = False  # when it was loaded
        self._flushing: list[asyncio.Future[bool]] = []
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def counts(self) -> CacheCounts:
        """What it did, and what is wrong."""
        self._counts.dropped = self._pending.dropped
        return self._counts

    async def load(
        self, labels: Collection[str] | None = None, *, attested: bool = False
    ) -> Remembered:
        """Read everything but contents; empty where there is nothing that can be believed.

        To be called once, before anything is noted. Go on with these very logs: they are read
        again when they are written. Labels other than those named are forgotten; None keeps all.
        Attestations are read where they are asked for.
        """
        try:
            loaded = await self._in_thread(partial(self._file.load, labels, attested=attested))
        except _TROUBLE as error:
            self._fail(error)
            return Remembered({}, {})
        self._empty = not (loaded.labels or loaded.applied or loaded.damaged)
        self._pending.loaded(loaded.labels.values(), loaded.applied)
        self._tell_damage(loaded)
        return Remembered(loaded.labels, loaded.applied, loaded.attestations)

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """Read canonical forms by digest, each verified (promise 8). What is missing is absent."""
        if self._empty and not self._counts.writes:  # a new node's: no thread is asked for nothing
            self._counts.misses += len(digests)
            return {}
        try:
            found = await self._in_thread(partial(self._file.contents, list(digests)))
        except _TROUBLE as error:
            self._fail(error)
            return {}
        self._counts.hits += len(found.contents)
        self._counts.misses += len(digests) - len(found.contents)
        self._tell_damage(found)
        return found.contents

    def hold(self) -> None:
        """Write seldom until `release`: what writing takes of a processor a start would lack."""
        self._held = True

    def release(self) -> None:
        """Write as usual: what was held, too."""
        if self._held:
            self._held = False
            asyncio.get_running_loop().call_later(self._interval, self._hurry.set)

    def follow(self, log: LabelLog, touched: Collection[str]) -> None:
        """Note that a log moved, and which of its api_ids changed."""
        self._pending.follow(log, touched)
        self._changed.set()

    def forget(self, label: str) -> None:
        """Note that a label is no longer followed."""
        self._pending.forget(label)
        self._changed.set()

    def applied(
        self,
        applied: Mapping[str, Wanted],
        touched: Collection[str],
        contents: Mapping[str, bytes],
    ) -> None:
        """Note what the engine took, or no longer has.

        Args:
            applied: all that it has now: the live mapping, the same one each time.
            touched: api_ids whose value there changed.
            contents: by digest, verified; those that nothing refers to are not kept.
        """
        self._pending.applied(applied, touched, contents)
        self._changed.set()

    def attest(self, label: str, epoch: str, attestations: Collection[Attestation]) -> None:
        """Note what proves these revisions of a label; it is forgotten when nothing needs it."""
        self._pending.attest(label, epoch, attestations)
        self._changed.set()

    def unattested(self) -> Collection[str]:
        """Labels whose attestations did not reach the disk, each told once: ask for them again."""
        return self._pending.unattested()

    async def flush(self) -> bool:
        """Have everything written now; False if that could not be done."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._flushing.append(done)
        self._changed.set()
        self._hurry.set()
        return await done

    async def _open(self) -> None:
        try:
            await self._in_thread(self._file.lock)
        except CacheInUseError:
            self._thread.shutdown()
            raise
        except OSError as error:
            self._fail(error)

    async def _run(self) -> None:
        """Write what is dirty; once it is to end, until nothing is dirty or a write fails."""
        good = True
        while not self._ending or (good and self._pending.dirty):
            await self._changed.wait()
            usual = max(self._interval, HELD_SECONDS) if self._held else self._interval
            await self._pause(usual if good else self._retry)
            self._changed.clear()
            self._hurry.clear()
            good = await self._write()
            if self._pending.dirty:
                self._changed.set()
            if good and self._pending.dirty and (self._flushing or self._ending):
                self._hurry.set()
                continue
            for done in self._flushing:
                if not done.done():
                    done.set_result(good)
            self._flushing.clear()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _write(self, *, again: bool = True) -> bool:
        """Write all that is dirty now, in one transaction; False if that could not be done."""
        if not self._pending.dirty:
            return True
        batch = self._pending.take()
        try:
            lacking = await self._in_thread(partial(self._file.write, batch))
        except _TROUBLE as error:
            self._pending.not_written(batch)
            self._fail(error)
            # A file that was thrown away is begun anew at once.
            return again and isinstance(error, UntrustedError) and await self._write(again=False)
        self._pending.written(lacking)
        self._counts.writes += 1
        if self._counts.error:
            _log.info("the cache is written again")
            self._counts.error = ""
        return True

    async def _end(self, writer: "asyncio.Task[None]") -> None:
        """Have the writer write what is dirty, and end."""
        self._ending = True
        self._changed.set()
        self._hurry.set()
        await asyncio.wait([writer], timeout=CLOSE_SECONDS)
        if not writer.done():
            writer.cancel()
            _log.warning("the cache could not be written in time", seconds=CLOSE_SECONDS)

    async def _close(self) -> None:
        closing = self._in_thread(self._file.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        if not closing.done():
            _log.warning("the cache could not be closed in time", seconds=CLOSE_SECONDS)
        elif isinstance(error := closing.exception(), Exception):
            self._fail(error)

    def _tell_damage(self, found: Found) -> None:
        self._counts.damaged += len(found.damaged)
        for what in found.damaged[:TOLD]:
            _log.warning(
                "something in the cache is damaged; it is fetched again",
                what=what,
                damaged=len(found.damaged),
            )

    def _fail(self, error: Exception) -> None:
        """Count and tell what is wrong; once, as long as it stays the same."""
        self._counts.failures += 1
        reason = str(error)
        if isinstance(error, UntrustedError):
            self._counts.damaged += 1
            self._pending.lost()
            self._changed.set()
        elif isinstance(error, OSError):
            reason = f"{error.filename or self._file.path}: {error.strerror}"
        elif isinstance(error, sqlite3.Error):
            reason = f"{self._file.path}: {error}"
        if reason != self._counts.error:
            _log.warning("the cache cannot be used; the node serves on", reason=reason)
        self._counts.error = reason

    def _in_thread(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
