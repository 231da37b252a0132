"""What rsync's runners reported of their workers: the receipts of nodes that run no gatesync.

A worker has a copy of a source tree, with revisions of its own: they are no label's. So a worker
is in no label's receipts, and `--wait` does not count it (docs/decisions/0035).

Each report says how all workers of its runner are, so that a publisher that was started again knows
it with the next one. Nothing is kept on disk for it.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from gatesync.artifacts.digests import Count
from gatesync.stores.wire import WIRE_FORMAT

__all__ = [
    "LOST_INTERVALS",
    "WORKERS_FORMAT",
    "WorkerRow",
    "WorkerState",
    "WorkerStatus",
    "Workers",
    "WorkersAnswer",
    "WorkersReport",
]

WORKERS_FORMAT: Final = "gatesync.workers/1"
LOST_INTERVALS: Final = 3  # a runner that is silent for so many is lost
FORGET_SECONDS: Final = 7 * 86_400.0
SOURCES_MAX: Final = 16  # of one runner
RUNNERS_MAX: Final = 1_000  # whose reports are remembered; more is somebody's mistake

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
_Said = Annotated[str, msgspec.Meta(max_length=1_000)]


class WorkerState(StrEnum):
    """How far a worker is with what its runner copies to it."""

    IN_STEP = "in step"
    FAILED = "failed"
    HELD = "held"
    BEHIND = "behind"
    STARTING = "starting"


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker is, by its runner's word.

    `revision` is that of the source which the worker has a complete copy of, 0 where none is
    known; `proved_at` when its manifest was read back the last time and said so, `copied_at` when
    it last changed, in milliseconds since 1970 by the runner's clock. Then it took `took_us`
    microseconds, and rsync sent `sent_bytes`. `held`: removals that wait. `attempt`: of those that
    failed in a row; `next_try_ms` milliseconds until the next, when the report was made.
    """

    worker: _Name
    state: WorkerState
    revision: Count = 0
    files: Count = 0
    proved_at: Count = 0
    copied_at: Count = 0
    took_us: Count = 0
    sent_bytes: Count = 0
    held: Count = 0
    attempt: Count = 0
    next_try_ms: Count = 0
    reason: _Said = ""


class WorkersReport(msgspec.Struct, frozen=True, kw_only=True):
    """How all workers of a runner are.

    `runner` is the node id of its host, `source` the folder that is copied, at `revision` now.
    `interval_ms`: the next report comes in so many milliseconds at the latest; 0 where nobody
    knows, as of a runner that cron starts. `leaving`: the runner ends, and another may go on.
    """

    runner: _Name
    source: _Name
    revision: Count
    workers: Annotated[tuple[WorkerStatus, ...], msgspec.Meta(max_length=10_000)]
    interval_ms: Count = 0
    leaving: bool = False
    format: Literal["gatesync.workers/1"] = WORKERS_FORMAT


class WorkersAnswer(msgspec.Struct, frozen=True):
    """A report was taken."""

    format: str = WIRE_FORMAT


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker for `gatesync gateways`; `lost`: its runner has been silent for too long."""

    runner: str
    source: str
    source_revision: int
    silent_ms: int
    lost: bool
    status: WorkerStatus


class Workers:
    """The workers that were reported to this publisher. `clock` is the monotonic one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._heard: dict[tuple[str, str], tuple[float, WorkersReport]] = {}
        self._clock = clock

    def receive(self, report: WorkersReport) -> None:
        """Take a report; it says all that there is to say of this runner and source."""
        self._forget()
        self._heard.pop((report.runner, report.source), None)  # so that the newest stand last
        self._heard[report.runner, report.source] = self._clock(), report
        own = [each for each in self._heard if each[0] == report.runner]
        for each in own[:-SOURCES_MAX]:  # one node's reports push out nobody else's
            del self._heard[each]
        if len(self._heard) > RUNNERS_MAX:
            del self._heard[next(iter(self._heard))]

    def rows(self) -> list[WorkerRow]:
        """Every worker, by name. Where several runners spoke of it, the last one's word counts."""
        self._forget()
        found: dict[str, WorkerRow] = {}
        for heard, report in self._heard.values():
            silent = self._clock() - heard
            limit = LOST_INTERVALS * report.interval_ms / 1000
            lost = not report.leaving and 0 < limit < silent
            for each in report.workers:
                found[each.worker] = WorkerRow(
                    report.runner, report.source, report.revision, int(silent * 1000), lost, each
                )
        return [found[worker] for worker in sorted(found)]

    def _forget(self) -> None:
        oldest = self._clock() - FORGET_SECONDS
        self._heard = {k: each for k, each in self._heard.items() if each[0] > oldest}
