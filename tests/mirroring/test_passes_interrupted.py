"""Runners that end in the middle: wherever that is, no manifest lies, and the next ends right."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest

from gatesync.mirroring.outcome import Result
from gatesync.mirroring.remote import Answer, RemoteError, RemoteHost
from gatesync.mirroring.rsync import Rsync
from gatesync.mirroring.worker_manifest import State
from gatesync.mirroring.workers import Worker
from tests.mirroring.workers import (
    API,
    CONFIGS,
    FILES,
    QUOTED,
    SEQUENCE,
    Source,
    Workers,
    passes,
)
from tests.servers.gatesync import until
from tests.servers.sshd import Sshd
from tests.stores.budget import BUDGET

ROUNDS: Final = max(2, round(6 * BUDGET))
PASS_SECONDS: Final = 0.4  # about what a pass takes; runners are killed within
EDIT_SECONDS: Final = 0.03
SECONDS: Final = 60
Done = TypeVar("Done")
# Each step of a pass that changes a worker: the pass ends before it, or after it.
STEPS: Final = ("begin", "bring 1", "bring 2", "remove 1", "finish")


class Interruption:
    """Ends the pass of a worker at a step. There is no cleaning up, so an error does as well."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ends: dict[str, tuple[str, bool]] = {}
        self._seen: Counter[tuple[str, str]] = Counter()
        ask, bring, remove = RemoteHost.ask, Rsync.bring, Rsync.remove

        async def asking(host: RemoteHost, task: str, path: str, value: str = "") -> Answer:
            return await self._around(path, task, lambda: ask(host, task, path, value))

        async def bringing(rsync: Rsync, worker: Worker, *more: Any) -> int:
            step = self._step(worker, "bring")
            return await self._around(worker.path, step, lambda: bring(rsync, worker, *more))

        async def removing(rsync: Rsync, worker: Worker, *more: Any, folders: bool) -> int:
            step = self._step(worker, "remove")
            return await self._around(
                worker.path, step, lambda: remove(rsync, worker, *more, folders=folders)
            )

        patch.setattr(RemoteHost, "ask", asking)
        patch.setattr(Rsync, "bring", bringing)
        patch.setattr(Rsync, "remove", removing)

    def _step(self, worker: Worker, name: str) -> str:
        self._seen[worker.path, name] += 1
        return f"{name} {self._seen[worker.path, name]}"

    async def _around(self, path: str, step: str, do: Callable[[], Awaitable[Done]]) -> Done:
        end, after = self.ends[path]
        if step == end and not after:
            raise RemoteError(f"before {step}")
        done = await do()
        if step == end:
            raise RemoteError(f"after {step}")
        return done


async def test_a_pass_that_ends_at_any_step_is_made_good_by_the_next(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    ends = list(itertools.product(STEPS, (False, True)))
    names = [f"{'after' if after else 'before'} {step}" for step, after in ends]
    workers = Workers(tmp_path / "workers", server, names)
    added = f"{CONFIGS}/api/added.xml"
    async with passes(tmp_path, source, workers) as opened:
        await opened.run_pass(source.manifest())
        source.write(API, "<api new='1'/>")
        source.write(added, "<api context='/added'/>")
        source.write(f"{CONFIGS}/endpoints/new.xml", "<endpoint/>")
        source.remove(SEQUENCE)
        with pytest.MonkeyPatch.context() as patch:
            paths = (str(path) for path, _ in workers.parts)
            Interruption(patch).ends = dict(zip(paths, ends, strict=True))
            outcomes = await opened.run_pass(source.manifest())
        assert [outcome.why for outcome in outcomes] == names
        workers.assert_true()
        half = workers.files(names.index("after bring 1"))  # what others need, and no more
        assert f"{CONFIGS}/endpoints/new.xml" in half
        assert (half[API], added in half, SEQUENCE in half) == (FILES[API], False, True)
        half = workers.files(names.index("before remove 1"))
        assert (half[API], SEQUENCE in half) == ("<api new='1'/>", True)
        states = {name: workers.head(number).state for number, name in enumerate(names)}
        assert {name for name, state in states.items() if state is not State.CHANGING} == {
            "before begin",
            "after finish",
        }
    source.remove(added)  # what was brought by then is known to be gatesync's all the same
    async with passes(tmp_path, source, workers) as opened:
        outcomes = await opened.run_pass(source.manifest())
        assert {(outcome.result, outcome.held) for outcome in outcomes} == {(Result.BROUGHT, ())}
        workers.assert_all_like(source)
        outcomes = await opened.run_pass(source.manifest())
        assert {outcome.result for outcome in outcomes} == {Result.IN_STEP}


async def test_a_pass_that_is_cancelled_leaves_no_process_behind(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    one = Workers(tmp_path / "workers", server, ["w"])
    bringing = asyncio.Event()
    real = Rsync.bring

    async def bring(rsync: Rsync, *arguments: Any) -> int:
        bringing.set()
        return await real(rsync, *arguments)

    source.write(QUOTED, "x" * 4_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rsync, "bring", bring)
        async with passes(tmp_path, source, one, bandwidth="10") as opened:
            running = asyncio.create_task(opened.run_pass(source.manifest()))
            async with asyncio.timeout(SECONDS):
                await bringing.wait()
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
    names = [child.name() for child in psutil.Process().children(recursive=True)]
    assert not {"rsync", "ssh"} & set(names)


class Writer:
    """Somebody who edits the source all the while, not as one should: in place, and by halves."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.random = random.Random(7)
        self.count = 0

    def edit(self) -> None:
        self.count += 1
        name = f"s{self.random.randrange(8)}"
        path = self.source.root / CONFIGS / "sequences" / f"{name}.xml"
        text = f'<sequence name="{name}"><log level="{self.count:06}"/></sequence>'
        if path.exists() and self.random.random() < 0.2:
            path.unlink()
            return
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            os.fsync(file.fileno())
            file.write(text[len(text) // 2 :])


@contextmanager
def writing(writer: Writer) -> Iterator[None]:
    """It edits while the block runs."""
    enough = threading.Event()

    def write() -> None:
        while not enough.wait(EDIT_SECONDS):
            writer.edit()

    writer.edit()
    with ThreadPoolExecutor(1) as pool:
        editing = pool.submit(write)
        try:
            yield
        finally:
            enough.set()
        editing.result()


def start_runner(folder: Path, source: Source, workers: Workers) -> subprocess.Popen[bytes]:
    told = {
        "source": str(source.root),
        "folder": str(folder),
        "workers": workers.lines,
        "identity_file": str(workers.server.identity_file),
        "known_hosts": str(workers.server.known_hosts),
    }
    command = [sys.executable, "-m", "tests.mirroring.runner", json.dumps(told)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.promise(6)
@pytest.mark.timeout(120 + 15 * ROUNDS)
def test_runners_that_are_killed_while_others_edit_the_source_leave_no_manifest_that_lies(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    workers = Workers(tmp_path / "workers", server, ["w1", "w2", "w3"])
    for number in range(8):
        name = f"keep{number}"
        source.write(f"{CONFIGS}/sequences/{name}.xml", f'<sequence name="{name}"/>')
    source.write(API, '<api name="menu" context="/menu"/>')
    source.write(QUOTED, '<api name="quoted" context="/quoted"/>')
    source.write(SEQUENCE, '<sequence name="menu--In"/>')
    chance = random.Random(11)
    folder = tmp_path / "runner"
    folder.mkdir()
    for _ in range(ROUNDS):
        runner = start_runner(folder, source, workers)
        assert runner.stdout is not None
        with runner, writing(Writer(source)):
            for _ in range(chance.randrange(1, 3)):
                while not json.loads(runner.stdout.readline()).get("bringing"):
                    pass
            time.sleep(chance.random() * PASS_SECONDS)  # any moment will do
            runner.kill()
        until(lambda: not children_of(folder), "its ssh and rsync have ended with it")
        until(lambda: no_sessions(server), "the sessions have ended")
        workers.assert_true()
    runner = start_runner(folder, source, workers)
    assert runner.stdout is not None
    with runner:
        try:
            while not is_in_step(runner.stdout.readline(), source, workers):
                assert runner.poll() is None
        finally:
            runner.kill()
    workers.assert_true()


def children_of(folder: Path) -> list[str]:
    """Commands that use a runner's files, whosever children they are by now."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["name"] in {"ssh", "rsync"} and str(folder) in line:
            found.append(line)
    return found


def no_sessions(server: Sshd) -> bool:
    return not psutil.Process(server.process.pid).children()


def is_in_step(line: bytes, source: Source, workers: Workers) -> bool:
    assert line, "the runner ended by itself"
    if not json.loads(line).get("in step"):
        return False
    wanted = {p: c for p, c in tree_of(source).items() if p.startswith("deployment/")}
    return all(workers.files(number) == wanted for number in range(len(workers.parts)))


def tree_of(source: Source) -> dict[str, str]:
    return {
        str(path.relative_to(source.root)): path.read_text()
        for path in source.root.rglob("*")
        if path.is_file()
    }
