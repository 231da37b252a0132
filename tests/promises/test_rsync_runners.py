"""One runner at a time, whatever dies: by a lock on a host, by a lease across hosts."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirroring.workers import Source, Workers, needs_rsync
from tests.promises.rsync_hosts import Manager, path_of, texts, write
from tests.servers.gatesync import until
from tests.servers.sshd import Sshd, sshd

SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def workers(tmp_path: Path, server: Sshd) -> Workers:
    return Workers(tmp_path / "workers", server, ["w1", "w2", "w3"])


@pytest.fixture
def managers(tmp_path: Path, workers: Workers) -> Iterator[list[Manager]]:
    """Two hosts and one store. Each has a tree of its own, so that it shows whose a file is."""
    database = f"sqlite:///{tmp_path}/store.db"
    made = []
    for name in ("m1", "m2"):
        source = Source(tmp_path / name / "repository")
        write(source, "whose", name)
        write(source, "same", "same")
        made.append(Manager(tmp_path, name, workers, source, database))
    try:
        yield made
    finally:
        for manager in made:
            manager.end()


def all_have(workers: Workers, name: str, text: str) -> None:
    until(lambda: set(texts(workers, name)) == {text}, f"all have {name}: {text}", SECONDS)


def says(manager: Manager, text: str) -> None:
    [role] = manager.started
    role.wait_for(lambda: text in role.said(), text)


def test_a_second_runner_on_a_host_ends_and_one_from_cron_quietly(
    managers: list[Manager], workers: Workers
) -> None:
    manager = managers[0]
    first = manager.runner("--watch").start(wait=False)
    all_have(workers, "whose", "m1")
    quiet = manager.run()
    assert quiet == (0, "", "")
    assert f"process {first.pid}, since " in manager.run("--json").json()["busy"]
    second = manager.runner("--every", "60s").start(wait=False)
    until(lambda: not second.alive, "the second runner ends", SECONDS)
    assert second.stop() == 2
    assert f"gatesync: another runner is at it on this host: process {first.pid}, " in second.said()
    assert first.stop() == 0
    assert manager.run() == (0, "", "")


def test_another_host_goes_on_when_the_first_one_dies(
    managers: list[Manager], workers: Workers
) -> None:
    one, two = managers
    first = one.runner("--watch").start(wait=False)
    all_have(workers, "whose", "m1")
    second = two.runner("--watch").start(wait=False)
    says(two, "m1 on ")
    assert two.run() == (0, "", "")  # this host's own runner stands by
    write(one.source, "whose", "m1 again")
    all_have(workers, "whose", "m1 again")
    first.stop(signal.SIGKILL)
    all_have(workers, "whose", "m2")
    write(two.source, "new", "by m2")
    all_have(workers, "new", "by m2")
    assert second.stop() == 0
    # It gave the lease up: the first need not wait.
    assert one.run("--takeover-after", "1h", "--json").json()["busy"] == ""


def test_a_runner_that_slept_writes_nothing_more(managers: list[Manager], workers: Workers) -> None:
    one, two = managers
    first = one.runner("--watch").start(wait=False)
    all_have(workers, "whose", "m1")
    two.runner("--watch").start(wait=False)
    says(two, "standing by")
    os.kill(first.pid, signal.SIGSTOP)
    try:
        all_have(workers, "whose", "m2")
        write(one.source, "whose", "m1, much too late")
        write(one.source, "late", "m1, much too late")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    says(one, "another host may have taken over: nothing more is written")
    write(one.source, "later", "m1, later still")
    write(two.source, "end", "m2")
    all_have(workers, "end", "m2")
    assert set(texts(workers, "whose")) == {"m2"}
    for name in ("late", "later"):
        assert set(texts(workers, name)) == {""}, path_of(name)
