"""Receipts of rsync's workers: what a pass found out becomes what people are told."""

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gatesync.cli.rsync_receipts import (
    Receipts,
    files_in_parts,
    read_state,
    rows_of,
    status_of,
)
from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.workers import parse_workers
from gatesync.publisher.workers import WorkerState, WorkerStatus

pytestmark = pytest.mark.fast

AT = 1_700_000_000.0
AT_MS = 1_700_000_000_000
LINES = ("u@w1:/srv/repository/deployment/server", "u@w1:/srv/repository/tenants")
WORKERS = parse_workers("\n".join(LINES).encode(), "list").workers


def outcome(result: Result, worker: str = LINES[0], **more: Any) -> Outcome:
    return Outcome(worker=worker, result=result, **{"at": AT, "seconds": 0.25, **more})


def fresh(worker: str = LINES[0]) -> WorkerStatus:
    return WorkerStatus(worker=worker, state=WorkerState.STARTING)


class Clock:
    now = AT

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receipts(tmp_path: Path, clock: Clock) -> Receipts:
    made = Receipts("m1", Path("/srv/repository"), tmp_path / "state.json", clock=clock)
    made.list_workers(WORKERS)
    return made


def states(receipts: Receipts) -> list[tuple[str, int]]:
    return [(each.state.value, each.revision) for each in receipts.report().workers]


def test_what_was_brought_has_its_date_its_time_and_its_bytes() -> None:
    done = outcome(Result.BROUGHT, epoch="e", revision=3, bytes_sent=900)
    status = status_of(fresh(), done, files=7)
    assert status == WorkerStatus(
        worker=LINES[0],
        state=WorkerState.IN_STEP,
        revision=3,
        files=7,
        proved_at=AT_MS,
        copied_at=AT_MS,
        took_us=250_000,
        sent_bytes=900,
    )
    later = status_of(status, outcome(Result.IN_STEP, epoch="e", revision=4, at=AT + 60), files=7)
    assert (later.revision, later.proved_at) == (4, AT_MS + 60_000)
    assert (later.copied_at, later.took_us, later.sent_bytes) == (AT_MS, 250_000, 900)


def test_a_failure_keeps_what_is_known_and_says_why() -> None:
    known = status_of(fresh(), outcome(Result.BROUGHT, epoch="e", revision=3), files=7)
    failed = status_of(known, outcome(Result.FAILED, why="ssh: refused", failures=2), files=9)
    assert (failed.state, failed.reason, failed.attempt) == (WorkerState.FAILED, "ssh: refused", 2)
    assert (failed.revision, failed.files, failed.proved_at) == (3, 7, AT_MS)


def test_removals_that_wait_are_told_with_what_lets_them_go() -> None:
    held = status_of(
        fresh(), outcome(Result.IN_STEP, epoch="e", revision=3, held=("a", "b")), files=7
    )
    assert (held.state, held.held) == (WorkerState.HELD, 2)
    assert held.reason == "2 removals wait for: gatesync rsync --confirm-removals"


def test_a_worker_that_could_not_have_all_is_behind() -> None:
    part = outcome(Result.BEHIND, epoch="e", revision=3, why="x.xml is being written")
    status = status_of(fresh(), part, files=7)
    assert (status.state, status.reason) == (WorkerState.BEHIND, "x.xml is being written")


def test_a_worker_that_has_not_what_the_source_is_at_is_behind(receipts: Receipts) -> None:
    assert states(receipts) == [("starting", 0), ("starting", 0)]
    receipts.offer(3)
    for line in LINES:
        receipts.take(outcome(Result.BROUGHT, line, epoch="e", revision=3), 1)
    assert states(receipts) == [("in step", 3), ("in step", 3)]
    receipts.offer(4)
    assert states(receipts) == [("behind", 3), ("behind", 3)]
    receipts.take(outcome(Result.BROUGHT, LINES[1], epoch="e", revision=4), 1)
    assert states(receipts) == [("behind", 3), ("in step", 4)]


def test_a_dry_run_is_no_receipt(receipts: Receipts) -> None:
    receipts.news.clear()
    receipts.take(outcome(Result.PLANNED, epoch="e", revision=3), 1)
    assert not receipts.news.is_set()
    assert states(receipts)[0] == ("starting", 0)
    receipts.take(outcome(Result.IN_STEP, epoch="e", revision=3), 1)
    assert receipts.news.is_set()


def test_the_time_until_the_next_try_runs_down(receipts: Receipts, clock: Clock) -> None:
    receipts.take(outcome(Result.FAILED, why="down", failures=1, next_try=AT + 8), 1)
    assert receipts.report().workers[0].next_try_ms == 8_000
    clock.now = AT + 5
    assert receipts.report().workers[0].next_try_ms == 3_000
    assert receipts.report(leaving=True).workers[0].next_try_ms == 0
    clock.now = AT + 50
    assert receipts.report().workers[0].next_try_ms == 0


def test_another_runner_knows_what_the_one_before_did(receipts: Receipts, tmp_path: Path) -> None:
    receipts.offer(3)
    receipts.take(outcome(Result.BROUGHT, epoch="e", revision=3), 5)
    receipts.keep(receipts.report(leaving=True))
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    again = Receipts("m1", Path("/srv/repository"), tmp_path / "state.json")
    again.list_workers(WORKERS)
    assert states(again) == [("in step", 3), ("starting", 0)]
    again.list_workers(WORKERS[1:])
    assert states(again) == [("starting", 0)]


def test_a_file_that_cannot_be_read_is_told_of_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"", b"{", b'{"format": "gatesync.rsync-state/9"}', b"\xff"):
        path.write_bytes(content)
        with capture_logs() as logs:
            assert read_state(path) is None
        assert [each["file"] for each in logs] == [str(path)]


def test_a_file_that_cannot_be_written_is_told_of_once(tmp_path: Path) -> None:
    receipts = Receipts("m1", Path("/srv"), tmp_path / "gone" / "state.json")
    with capture_logs() as logs:
        receipts.keep(receipts.report())
        receipts.keep(receipts.report())
    [told] = logs
    assert told["reason"].endswith("No such file or directory")


def test_a_runner_that_died_is_lost_and_one_that_ended_is_not(
    receipts: Receipts, tmp_path: Path
) -> None:
    for leaving, lost in ((False, True), (True, False)):
        receipts.keep(receipts.report(5.0, leaving=leaving))
        state = read_state(tmp_path / "state.json")
        assert state is not None
        assert not any(row.lost for row in rows_of(state, AT + 89))
        assert [row.lost for row in rows_of(state, AT + 91)] == [lost, lost]


def test_a_state_file_is_a_document_with_its_format(receipts: Receipts, tmp_path: Path) -> None:
    receipts.keep(receipts.report())
    document = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    assert document["format"] == "gatesync.rsync-state/1"
    assert document["report"]["format"] == "gatesync.workers/1"


def test_a_file_is_written_again_for_news_and_now_and_then(
    receipts: Receipts, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "state.json"

    def is_written() -> bool:
        path.unlink(missing_ok=True)
        receipts.keep(receipts.report(5.0))
        return path.exists()

    assert [is_written(), is_written()] == [True, False]
    receipts.take(outcome(Result.BROUGHT, epoch="e", revision=3), 1)
    assert [is_written(), is_written()] == [True, False]
    clock.now += 30
    assert [is_written(), is_written()] == [True, False]
    receipts.keep(receipts.report(leaving=True))
    assert path.exists()


def test_files_are_counted_where_they_belong() -> None:
    paths = ["deployment/server/a.xml", "deployment/server2/b.xml", "tenants/1/c.xml"]
    assert files_in_parts(paths, WORKERS) == {LINES[0]: 1, LINES[1]: 1}
    whole = parse_workers(b"u@w:/srv/repository", "list").workers
    assert files_in_parts(paths, whole) == {whole[0].line: 3}
