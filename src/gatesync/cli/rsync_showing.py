"""How rsync's workers are, as tables show it: the worst first."""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from gatesync.cli.output import ago
from gatesync.publisher.workers import WorkerRow, WorkerState

__all__ = ["WORKER_COLUMNS", "WorkerLine", "worker_rows"]

STATES: Final = (
    *(WorkerState.FAILED, "lost", WorkerState.HELD),
    *(WorkerState.BEHIND, WorkerState.STARTING, WorkerState.IN_STEP),
)
WORKER_COLUMNS: Final = ("WORKER", "STATE", "REVISION", "FILES", "PROOF", "RUNNER", "WHY")


class WorkerLine(NamedTuple):
    """One worker, as the table shows it."""

    worker: str
    state: str
    revision: int | str
    files: int | str
    proof: str
    runner: str
    why: str


def worker_rows(workers: Sequence[WorkerRow], now_ms: int | None = None) -> list[WorkerLine]:
    """A row for each worker, the worst first. `now_ms` is in milliseconds since 1970."""
    now = int(time.time() * 1000) if now_ms is None else now_ms
    lines = [_line(each, now) for each in workers]
    return sorted(lines, key=lambda line: (STATES.index(line.state), line.worker))


def _line(row: WorkerRow, now: int) -> WorkerLine:
    status = row.status
    state, why = (str(status.state), _why(row)) if not row.lost else ("lost", _silence(row))
    known = bool(status.revision)
    return WorkerLine(
        status.worker,
        state,
        status.revision if known else "-",
        status.files if known else "-",
        ago(max(0, now - status.proved_at)) if status.proved_at else "-",
        row.runner,
        why,
    )


def _silence(row: WorkerRow) -> str:
    return f"its runner was not heard for {ago(row.silent_ms)}"


def _why(row: WorkerRow) -> str:
    status = row.status
    if status.state is WorkerState.FAILED:
        left = status.next_try_ms - row.silent_ms
        soon = f", next in {ago(left)}" if left > 0 else ""
        return f"{status.reason} (attempt {status.attempt}{soon})"
    if status.state is WorkerState.BEHIND:
        return status.reason or f"the source is at {row.source_revision}"
    return status.reason
