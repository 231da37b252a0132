"""The table of rsync's workers: what it says of each, and the worst first."""

import pytest

from gatesync.cli.rsync_showing import worker_rows
from gatesync.publisher.workers import WorkerRow, WorkerState, WorkerStatus

pytestmark = pytest.mark.fast

NOW = 1_700_000_000_000


def row(status: WorkerStatus, *, lost: bool = False, silent_ms: int = 1_000) -> WorkerRow:
    return WorkerRow("m1", "/srv/repository", 7, silent_ms, lost, status)


def status(worker: str, state: WorkerState, **more: int | str) -> WorkerStatus:
    return WorkerStatus(worker=worker, state=state, **more)  # type: ignore[arg-type]


def test_the_worst_stand_first_and_each_says_why() -> None:
    rows = [
        row(status("in", WorkerState.IN_STEP, revision=7, files=9, proved_at=NOW - 1_500)),
        row(status("new", WorkerState.STARTING)),
        row(status("late", WorkerState.BEHIND, revision=6, files=8, proved_at=NOW - 90_000)),
        row(status("held", WorkerState.HELD, revision=6, reason="3 removals wait", files=8)),
        row(
            status(
                "down",
                WorkerState.FAILED,
                revision=5,
                reason="ssh: connection refused",
                attempt=3,
                next_try_ms=4_000,
            )
        ),
        row(status("ended", WorkerState.FAILED, revision=5, reason="full", attempt=1)),
        row(status("lost", WorkerState.IN_STEP, revision=7), lost=True, silent_ms=42_000),
    ]
    said = [(r.worker, r.state, r.revision, r.proof, r.why) for r in worker_rows(rows, NOW)]
    assert said == [
        ("down", "failed", 5, "-", "ssh: connection refused (attempt 3, next in 3.0 s)"),
        ("ended", "failed", 5, "-", "full (attempt 1)"),
        ("lost", "lost", 7, "-", "its runner was not heard for 42.0 s"),
        ("held", "held", 6, "-", "3 removals wait"),
        ("late", "behind", 6, "90.0 s", "the source is at 7"),
        ("new", "starting", "-", "-", ""),
        ("in", "in step", 7, "1.5 s", ""),
    ]


def test_every_state_has_its_place() -> None:
    assert len(worker_rows([row(status(each, each)) for each in WorkerState], NOW)) == 5
