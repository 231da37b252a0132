"""The demo from its first line to its last."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil

from demo.calls import upstream
from demo.cluster import Cluster, open_cluster
from demo.database import Database, open_database
from demo.git_steps import person_pushes
from demo.layout import GATEWAYS, HEARTBEAT_SECONDS, Layout
from demo.processes import DemoError
from demo.repository import Repository, open_repository
from demo.stage import Stage, say
from demo.steps import STEPS, Step, first_answers, measure, publish_everything
from demo.verdicts import Tally
from gatesync.web.client import AnsweredError, UnreachableError

__all__ = ["STORES", "run"]

STORES: Final = ("database", "git")

_PROLOGUE: Final = f"""\
gatesync demo: a cluster of separate processes on this machine.

After each step every gateway is asked, over HTTP, for the bytes that it serves. They are hashed
here and compared with the input files. Then each API is called through each gateway's Envoy;
behind all of them an upstream of the demo's own answers. Times count from when the publisher
was asked, or from when a process was started. Heartbeats: each {HEARTBEAT_SECONDS:g} s here,
5 s by default."""

FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "demo"


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
        folder: for everything that the processes write; must not exist. None: a new one in
            `build/demo` of the checkout, where what earlier runs have left is removed.
        keep: do not remove the folder at the end.
        quick: fewer artifacts and measurements.
        database: where the publisher stores, one of `DATABASES`.
        store: one of `STORES`; with `git` it stores in a repository instead.
    """
    if folder is None:
        _sweep()
        folder = FOLDER / str(os.getpid())
    elif folder.exists():
        print(f"demo: {folder} exists; name a folder that does not", file=sys.stderr)
        return 2
    tally = Tally(len(GATEWAYS))
    try:
        telling = _until_stopped(
            folder.resolve(), tally, quick=quick, database=database, store=store
        )
        asyncio.run(telling)
    except (DemoError, UnreachableError, AnsweredError, OSError, ExceptionGroup) as error:
        for each in _leaves(error):
            tally.fail(f"{type(each).__name__}: {each}")
    except KeyboardInterrupt:
        tally.fail("interrupted")
    finally:
        if keep:
            print(f"Everything is kept in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(FOLDER, FOLDER.parent)
        for reason in tally.failures:
            print(f"demo: {reason}", file=sys.stderr)
        print(json.dumps(tally.document()), flush=True)
    return 0 if tally.ok else 1


def _sweep() -> None:
    """Remove what demos left that were killed or told to keep it; not those that run now."""
    for left in FOLDER.glob("*"):
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)


def _remove_empty(*folders: Path) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty, or not there, ends it
        for folder in folders:
            folder.rmdir()


async def _until_stopped(
    folder: Path, tally: Tally, *, quick: bool, database: str, store: str
) -> None:
    """Tell the story; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        with contextlib.ExitStack() as servers:
            repository = None
            if store == "git":
                repository = servers.enter_context(open_repository(folder / "git"))
            opened = servers.enter_context(open_database("sqlite" if repository else database))
            await _tell(folder, tally, opened, repository, quick=quick)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


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


def _leaves(error: Exception) -> list[Exception]:
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in _leaves(each)]
