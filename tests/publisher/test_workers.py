"""What rsync's runners reported of their workers, as a publisher remembers it."""

import pytest

from gatesync.publisher.tokens import Principal, Role
from gatesync.publisher.workers import (
    FORGET_SECONDS,
    RUNNERS_MAX,
    SOURCES_MAX,
    Workers,
    WorkersReport,
    WorkerState,
    WorkerStatus,
)
from gatesync.publisher.workers_http import may_report_workers

pytestmark = pytest.mark.fast


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def report(
    runner: str,
    *workers: str,
    revision: int = 1,
    interval_ms: int = 0,
    leaving: bool = False,
    source: str = "/srv/repository",
) -> WorkersReport:
    return WorkersReport(
        runner=runner,
        source=source,
        revision=revision,
        workers=tuple(
            WorkerStatus(worker=each, state=WorkerState.IN_STEP, revision=revision)
            for each in workers
        ),
        interval_ms=interval_ms,
        leaving=leaving,
    )


def seen(workers: Workers) -> dict[str, tuple[str, int]]:
    return {r.status.worker: (r.runner, r.status.revision) for r in workers.rows()}


def test_a_report_says_all_of_its_runner() -> None:
    workers = Workers()
    workers.receive(report("m1", "w2", "w1"))
    assert [each.status.worker for each in workers.rows()] == ["w1", "w2"]
    workers.receive(report("m1", "w2", "w3", revision=2))
    assert seen(workers) == {"w2": ("m1", 2), "w3": ("m1", 2)}


def test_sources_of_one_runner_stand_beside_each_other() -> None:
    workers = Workers()
    workers.receive(report("m1", "w1", source="/a"))
    workers.receive(report("m1", "w2", source="/b"))
    assert seen(workers).keys() == {"w1", "w2"}


def test_the_runner_that_spoke_last_is_believed() -> None:
    workers = Workers()
    workers.receive(report("m1", "w1", "w2"))
    workers.receive(report("m2", "w1", "w2", revision=2))
    assert seen(workers) == {"w1": ("m2", 2), "w2": ("m2", 2)}
    workers.receive(report("m1", "w1", revision=3))
    assert seen(workers) == {"w1": ("m1", 3), "w2": ("m2", 2)}


def test_a_runner_that_falls_silent_is_lost_unless_it_said_goodbye_or_comes_when_it_likes() -> None:
    now = Now()
    workers = Workers(now)
    workers.receive(report("m1", "w1", interval_ms=10_000))
    workers.receive(report("m2", "w2", interval_ms=10_000, leaving=True))
    workers.receive(report("cron", "w3"))
    now.seconds += 30
    assert not any(row.lost for row in workers.rows())
    now.seconds += 1
    assert {row.status.worker: row.lost for row in workers.rows()} == {
        "w1": True,
        "w2": False,
        "w3": False,
    }
    assert {row.silent_ms for row in workers.rows()} == {31_000}


def test_who_was_not_heard_of_for_a_week_is_forgotten() -> None:
    now = Now()
    workers = Workers(now)
    workers.receive(report("m1", "w1"))
    now.seconds += FORGET_SECONDS
    workers.receive(report("m2", "w2"))
    assert seen(workers).keys() == {"w2"}


def test_there_is_an_end_to_what_is_remembered() -> None:
    workers = Workers()
    for number in range(RUNNERS_MAX + 5):
        workers.receive(report(f"m{number}", f"w{number}"))
    assert len(workers.rows()) == RUNNERS_MAX
    assert "w0" not in seen(workers)


@pytest.mark.parametrize(
    ("who", "may"),
    [
        (Principal("m1", Role.NODE, ("A",)), True),
        (Principal("m2", Role.NODE, ("*",)), False),
        (Principal("ops", Role.PUBLISH), True),
        (Principal("ops", Role.PUBLISH, ("A",)), False),
        (Principal("m1", Role.READ), False),
    ],
)
def test_who_may_report_for_a_runner(who: Principal, may: bool) -> None:
    assert may_report_workers(who, "m1") is may


def test_a_runner_that_reports_of_ever_more_sources_pushes_out_nobody_else() -> None:
    workers = Workers()
    workers.receive(report("m1", "mine"))
    for number in range(RUNNERS_MAX + 5):
        workers.receive(report("m2", f"w{number}", source=f"/{number}"))
    assert "mine" in seen(workers)
    assert len(workers.rows()) == 1 + SOURCES_MAX
