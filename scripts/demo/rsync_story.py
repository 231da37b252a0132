"""The demo of rsync: from empty folders to all in step, and what may go wrong on the way."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from demo.performing import perform
from demo.processes import DemoError, until
from demo.rsync_cluster import COMPARE, HOSTS, SERVER, RsyncCluster, Worker, open_rsync_cluster
from demo.stage import say

__all__ = ["run"]

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
CONFIGS: Final = "synapse-configs/default"
DEADLINE_SECONDS: Final = 30.0

_PROLOGUE: Final = f"""\
gatesync demo: rsync, with real sshds and separate processes on this machine.

A manager's node writes its tree, which nobody of gatesync's has a hand in. A runner (`gatesync
rsync --watch`) keeps the workers' folders in step. After each step each worker's files are hashed
here and compared with the manager's. Times count from when the manager's file was written.
All contents are compared each {COMPARE} here, each 10m by default."""


class Stage:
    """Where the steps take place."""

    def __init__(self, cluster: RsyncCluster) -> None:
        self.cluster = cluster
        self.failures: list[str] = []
        self.in_step = 0
        self.milliseconds: list[float] = []

    @property
    def tree(self) -> Path:
        """What the manager's node serves."""
        return self.cluster.source / SERVER

    def write(self, path: str, content: str) -> float:
        """As the manager's node does; answers with when, by the monotonic clock."""
        target = self.tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return time.monotonic()

    async def look(self, began: float, workers: list[Worker] | None = None) -> None:
        """Wait until these workers, or all, have what the manager has; say after what time."""
        wanted, chosen = self.cluster.expected(), workers or self.cluster.workers

        async def same(worker: Worker) -> bool:
            return worker.files() == wanted

        async def one(worker: Worker) -> str:
            try:
                await until(lambda: same(worker), DEADLINE_SECONDS, worker.name)
            except DemoError:
                held = worker.files()
                right = sum(held.get(path) == digest for path, digest in wanted.items())
                more = len(held.keys() - wanted.keys())
                self.failures.append(f"{worker.name} has {right} of {len(wanted)} files")
                return f"{right} of {len(wanted)} files, {more} not to be there"
            took = (time.monotonic() - began) * 1000
            self.milliseconds.append(took)
            return f"{len(wanted)} of {len(wanted)} files after {took:.0f} ms"

        for worker, said in zip(chosen, await asyncio.gather(*map(one, chosen)), strict=True):
            say(f"{worker.name:<10}  {said}")
        self.in_step = sum(worker.files() == wanted for worker in self.cluster.workers)

    async def told(self, worker: Worker, state: str) -> str:
        """Wait until `gatesync gateways` says so of a worker; answers with its reason."""
        reason = ""

        async def says() -> bool:
            nonlocal reason
            for each in await self.cluster.gateways():
                if each["status"]["worker"] == worker.line:
                    reason = each["status"]["reason"]
                    return bool(each["status"]["state"] == state)
            return False

        await until(says, DEADLINE_SECONDS, f"gatesync gateways: {worker.name} is {state}")
        return reason


async def begin(stage: Stage) -> None:
    """The folders are empty; the manager's node writes what it serves."""
    began = time.monotonic()
    for example in sorted(EXAMPLES.iterdir()):
        for path in sorted(example.rglob("*")):
            place = path.relative_to(example)
            if path.is_file() and path.name != "artifact.toml":
                into = "" if place.parts[0] == "executionplans" else f"{CONFIGS}/"
                stage.write(f"{into}{place}", path.read_text())
    await stage.look(began)


async def change(stage: Stage) -> None:
    """A sequence is written, and once more: of the same size, and with the same time stamp."""
    path = f"{CONFIGS}/sequences/greeting.xml"
    await stage.look(stage.write(path, _sequence("greeting", "hello, all")))
    times = (stage.tree / path).stat()
    began = stage.write(path, _sequence("greeting", "hallo, all"))
    os.utime(stage.tree / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    await stage.look(began)


async def remove(stage: Stage) -> None:
    """The sequence is removed, and another one is new."""
    (stage.tree / CONFIGS / "sequences" / "greeting.xml").unlink()
    began = stage.write(f"{CONFIGS}/sequences/farewell.xml", _sequence("farewell", "bye"))
    await stage.look(began)


async def host_down(stage: Stage) -> None:
    """A host goes down; the others do not wait for it. It comes back, and has it all."""
    down = list(HOSTS)[1]
    up = [each for each in stage.cluster.workers if each.host != down]
    away = [each for each in stage.cluster.workers if each.host == down]
    await stage.cluster.stop_host(down)
    say(f"{down} is down")
    path = f"{CONFIGS}/sequences/news.xml"
    await stage.look(stage.write(path, _sequence("news", "a host is down")), up)
    reason = await stage.told(away[0], "failed")
    say(f"gatesync gateways says of {away[0].name}: failed: {reason}")
    began = time.monotonic()
    await stage.cluster.start_host(down)
    say(f"{down} is up again")
    await stage.look(began)


async def edited_on_worker(stage: Stage) -> None:
    """Somebody edits a file on a worker, and removes another; both are mended."""
    worker = stage.cluster.workers[0]
    (worker.folder / CONFIGS / "sequences" / "news.xml").write_text("<mine/>")
    (worker.folder / CONFIGS / "sequences" / "farewell.xml").unlink()
    await stage.look(time.monotonic())


async def runner_dies(stage: Stage) -> None:
    """The runner is killed, and a file changes; a new runner goes on where it was."""
    await stage.cluster.processes["runner"].kill()
    path = f"{CONFIGS}/sequences/news.xml"
    stage.write(path, _sequence("news", "the runner was killed"))
    began = time.monotonic()
    await stage.cluster.start_runner()
    await stage.look(began)


async def receipts(stage: Stage) -> None:
    """Ask gatesync itself."""

    async def all_in_step() -> bool:
        said = [each["status"]["state"] for each in await stage.cluster.gateways()]
        return said == ["in step"] * len(stage.cluster.workers)

    await until(all_in_step, DEADLINE_SECONDS, "gatesync gateways: all are in step")
    for line in (await stage.cluster.table()).splitlines():
        say(line.replace(str(stage.cluster.folder), "..."))


STEPS: Final[tuple[Callable[[Stage], Awaitable[None]], ...]] = (
    begin,
    change,
    remove,
    host_down,
    edited_on_worker,
    runner_dies,
    receipts,
)


def run(folder: Path | None, *, keep: bool) -> int:
    """Run the demo; the last line on standard output is one JSON document.

    Args:
        folder: see `perform`.
        keep: see `perform`.
    """
    failures: list[str] = []
    summary: dict[str, object] = {"workers": sum(map(len, HOSTS.values())), "in_step": 0}

    def document() -> dict[str, object]:
        return {"ok": not failures and summary["in_step"] == summary["workers"], **summary}

    return perform(
        folder,
        lambda folder: _tell(folder, failures, summary),
        keep=keep,
        fail=failures.append,
        failures=failures,
        document=document,
    )


async def _tell(folder: Path, failures: list[str], summary: dict[str, object]) -> None:
    began = time.monotonic()
    for line in _PROLOGUE.splitlines():
        say(line, 0)
    async with open_rsync_cluster(folder) as cluster:
        say()
        for name, process in cluster.processes.items():
            workers = ", ".join(HOSTS.get(name, ()))
            say(f"{name:<10} pid {process.pid:<8} {workers}".rstrip())
        say(f"(all ready after {time.monotonic() - began:.1f} s)")
        stage = Stage(cluster)
        for number, step in enumerate(STEPS, 1):
            say()
            say(f"{number}. {(step.__doc__ or '').splitlines()[0]}", 0)
            started = time.monotonic()
            try:
                await step(stage)
            finally:
                failures += stage.failures
                summary["in_step"] = stage.in_step
            say(f"(the step took {time.monotonic() - started:.1f} s)")
            if stage.failures:
                raise DemoError("what was to follow stands on this step, and is left out")
        with contextlib.suppress(ValueError):
            summary["last_worker_ms"] = round(max(stage.milliseconds), 1)
    say()
    say(f"All processes are stopped. The demo took {time.monotonic() - began:.0f} s.", 0)


def _sequence(name: str, text: str) -> str:
    return (
        f'<sequence xmlns="http://ws.apache.org/ns/synapse" name="{name}">'
        f'<log><property name="said" value="{text}"/></log></sequence>\n'
    )
