"""The receipts of rsync's workers: made of what became of each, kept in a file, and reported."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.workers import Worker
from gatesync.private_file import write_private_file
from gatesync.publisher.workers import (
    LOST_INTERVALS,
    WorkerRow,
    WorkersReport,
    WorkerState,
    WorkerStatus,
)

__all__ = ["KeptState", "Receipts", "read_state", "rows_of", "status_of"]

STATE_FORMAT: Final = "gatesync.rsync-state/1"
KEEP_SECONDS: Final = 30.0  # the file is written anew as often as this where there is no news

_log: Final = structlog.get_logger("gatesync.rsync")


class KeptState(msgspec.Struct, frozen=True):
    """What a runner remembers of its workers. `at` is in milliseconds since 1970."""

    report: WorkersReport
    at: int
    format: Literal["gatesync.rsync-state/1"] = STATE_FORMAT


class Receipts:
    """How a runner's workers are.

    Args:
        runner: the node id of its host.
        source: the folder that is copied.
        path: the file that remembers it.
        clock: seconds since 1970.

    Attributes:
        news: set by each; whoever tells them clears it.
    """

    def __init__(
        self, runner: str, source: Path, path: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.news = asyncio.Event()
        self._runner = runner
        self._source = str(source)
        self._path = path
        self._clock = clock
        self._revision = 0
        self._statuses: dict[str, WorkerStatus] = {}
        self._next_try: dict[str, float] = {}
        self._trouble = ""
        self._kept: tuple[tuple[WorkerStatus, ...], float] = ((), 0.0)
        if (known := read_state(path)) is not None:
            self._statuses = {each.worker: each for each in known.report.workers}
            self._revision = known.report.revision

    def list_workers(self, workers: Iterable[Worker]) -> None:
        """From now on these are all there are."""
        known = self._statuses
        starting = (WorkerStatus(worker=w.line, state=WorkerState.STARTING) for w in workers)
        self._statuses = {each.worker: known.get(each.worker, each) for each in starting}
        self.news.set()

    def offer(self, revision: int) -> None:
        """The source is at this revision."""
        if revision != self._revision:
            self._revision = revision
            self.news.set()

    def take(self, outcome: Outcome, files: int) -> None:
        """A pass of one worker ended; it is to have so many files."""
        if outcome.worker in self._statuses and outcome.result is not Result.PLANNED:
            before = self._statuses[outcome.worker]
            self._statuses[outcome.worker] = status_of(before, outcome, files)
            self._next_try[outcome.worker] = outcome.next_try or 0.0
            self.news.set()

    def report(self, interval: float = 0.0, *, leaving: bool = False) -> WorkersReport:
        """How all of them are now; the next report comes in `interval` seconds, or ever."""
        return WorkersReport(
            runner=self._runner,
            source=self._source,
            revision=self._revision,
            workers=tuple(self._now(each, leaving) for each in self._statuses.values()),
            interval_ms=int(interval * 1000),
            leaving=leaving,
        )

    def keep(self, report: WorkersReport) -> None:
        """Write it to the file, where it says more than what is there; blocks.

        A file that cannot be written is told of once.
        """
        statuses, at = tuple(self._statuses.values()), self._clock()
        if not report.leaving and self._kept[0] == statuses and at - self._kept[1] < KEEP_SECONDS:
            return
        self._kept = statuses, at
        state = KeptState(report, int(at * 1000))
        try:
            write_private_file(self._path, msgspec.json.encode(state))
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            if reason != self._trouble:
                _log.warning("receipts are not kept", reason=reason)
            self._trouble = reason
        else:
            self._trouble = ""

    def _now(self, status: WorkerStatus, leaving: bool) -> WorkerStatus:
        if status.state is WorkerState.FAILED:
            next_try = 0.0 if leaving else self._next_try.get(status.worker, 0.0)
            left = next_try - self._clock()
            return msgspec.structs.replace(status, next_try_ms=max(0, int(left * 1000)))
        if status.state is WorkerState.IN_STEP and status.revision != self._revision:
            return msgspec.structs.replace(status, state=WorkerState.BEHIND)
        return status


def status_of(before: WorkerStatus, outcome: Outcome, files: int) -> WorkerStatus:
    """How a worker is after a pass; what the pass did not find out stays as it was."""
    at = int(outcome.at * 1000)
    if outcome.result is Result.FAILED:
        return msgspec.structs.replace(
            before,
            state=WorkerState.FAILED,
            reason=outcome.why[:1000],
            attempt=max(1, outcome.failures),
            held=len(outcome.held),
        )
    state = WorkerState.IN_STEP if outcome.result is not Result.BEHIND else WorkerState.BEHIND
    reason = outcome.why
    if outcome.held:
        state = WorkerState.HELD
        reason = f"{len(outcome.held)} removals wait for: gatesync rsync --confirm-removals"
    changed = outcome.result is Result.BROUGHT
    return WorkerStatus(
        worker=before.worker,
        state=state,
        revision=outcome.revision if outcome.revision is not None else before.revision,
        files=files,
        proved_at=at if outcome.revision is not None else before.proved_at,
        copied_at=at if changed else before.copied_at,
        took_us=int(outcome.seconds * 1e6) if changed else before.took_us,
        sent_bytes=outcome.bytes_sent if changed else before.sent_bytes,
        held=len(outcome.held),
        reason=reason[:1000],
    )


def read_state(path: Path) -> KeptState | None:
    """What a runner remembers; None where there is nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("earlier receipts cannot be read", file=str(path), reason=str(error))
        return None


def rows_of(state: KeptState, now: float) -> list[WorkerRow]:
    """The workers as a table shows them; `now` is in seconds since 1970."""
    report = state.report
    silent = max(0, int(now * 1000) - state.at)
    limit = LOST_INTERVALS * max(report.interval_ms, int(KEEP_SECONDS * 1000))
    lost = not report.leaving and silent > limit
    return [
        WorkerRow(report.runner, report.source, report.revision, silent, lost, each)
        for each in report.workers
    ]


def files_in_parts(paths: Iterable[str], workers: Iterable[Worker]) -> Mapping[str, int]:
    """How many of these files each worker is to have, by its line."""
    parts = {each.part for each in workers}
    counts = dict.fromkeys(parts, 0)
    for path in paths:
        for part in parts:
            if not part or path.startswith(f"{part}/"):
                counts[part] += 1
    return {each.line: counts[each.part] for each in workers}
