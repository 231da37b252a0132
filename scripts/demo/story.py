"""The demo from its first line to its last."""

import contextlib
import time
from pathlib import Path
from typing import Any, Final

from demo.calls import upstream
from demo.cluster import Cluster, open_cluster
from demo.database import Database, open_database
from demo.git_steps import person_pushes
from demo.layout import GATEWAYS, HEARTBEAT_SECONDS, Layout
from demo.performing import perform
from demo.processes import DemoError
from demo.repository import Repository, open_repository
from demo.stage import Stage, say
from demo.steps import STEPS, Step, first_answers, measure, publish_everything
from demo.verdicts import Tally

__all__ = ["STORES", "run"]

STORES: Final = ("database", "git")

_PROLOGUE: Final = f"""\
gatesync demo: a cluster of separate processes on this machine.

After each step every gateway is asked, over HTTP, for the bytes that it serves. They are hashed
here and compared with the input files. Then each API is called through each gateway's Envoy;
behind all of them an upstream of the demo's own answers. Times count from when the publisher
was asked, or from when a process was started. Heartbeats: each {HEARTBEAT_SECONDS:g} s here,
5 s by default."""


def run(
    folder: Path | None,
    *,
    keep: bool,
    quick: bool,
    database: str = "sqlite",
    store: str = "database",
) -> int:
    """Run the demo; the last line on standard output is one JSON document.

    Args:
        folder: see `perform`.
        keep: see `perform`.
        quick: fewer artifacts and measurements.
        database: where the publisher stores, one of `DATABASES`.
        store: one of `STORES`; with `git` it stores in a repository instead.
    """
    tally = Tally(len(GATEWAYS))

    async def tell(folder: Path) -> None:
        with contextlib.ExitStack() as servers:
            repository = None
            if store == "git":
                repository = servers.enter_context(open_repository(folder / "git"))
            opened = servers.enter_context(open_database("sqlite" if repository else database))
            await _tell(folder, tally, opened, repository, quick=quick)

    return perform(
        folder, tell, keep=keep, fail=tally.fail, failures=tally.failures, document=tally.document
    )


async def _tell(
    folder: Path,
    tally: Tally,
    database: Database | None,
    repository: Repository | None,
    *,
    quick: bool,
) -> None:
    began = time.monotonic()
    for line in _PROLOGUE.splitlines():
        say(line, 0)
    git = repository.keys if repository else {}
    layout = Layout.make(folder, database.keys if database else {}, git)
    if repository:
        repository.tell(layout.publisher)
    async with upstream() as behind, open_cluster(layout) as cluster:
        _introduce(cluster, database, repository, time.monotonic() - began)
        stage = Stage(cluster, tally, folder / "input", behind)
        for number, (step, options) in enumerate(_steps(repository, quick=quick), 1):
            say()
            say(f"{number}. {(step.__doc__ or '').splitlines()[0]}", 0)
            started = time.monotonic()
            await step(stage, **options)
            say(f"(the step took {time.monotonic() - started:.1f} s)")
            if tally.failures:
                raise DemoError("what was to follow stands on this step, and is left out")
        tally.finished = True
    say()
    say(f"All processes are stopped. The demo took {time.monotonic() - began:.0f} s.", 0)


def _steps(repository: Repository | None, *, quick: bool) -> list[tuple[Step, dict[str, Any]]]:
    counts: dict[Step, dict[str, Any]] = {}
    if quick:
        counts = {
            publish_everything: {"generated": 10},
            measure: {"edits": 10},
            first_answers: {"apis": 3},
        }
    steps = [(step, counts.get(step, {})) for step in STEPS]
    if repository:
        rounds = {"rounds": 1} if quick else {}
        steps.insert(STEPS.index(measure), (person_pushes, {"repository": repository} | rounds))
    return steps


def _introduce(
    cluster: Cluster, database: Database | None, repository: Repository | None, seconds: float
) -> None:
    addresses = {"traffic-manager": cluster.layout.broker, "publisher": cluster.layout.publisher}
    addresses |= cluster.layout.gateways
    say()
    if database:
        say(f"{database.kind:<16} pid {database.pid:<8} {database.address}")
    if repository:
        say(f"{'git':<16} {repository.url}, read by the publisher and by gateway-3")
    for process in cluster.processes:
        label = GATEWAYS.get(process.name, "")
        address = addresses[process.name]
        say(f"{process.name:<16} pid {process.pid:<8} {address:<16} {label}".rstrip())
    say(f"(all ready after {seconds:.1f} s)")
