"""`gatesync rsync --once`, killed wherever it is: no head lies, and the next one ends right."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.mirroring.workers import Source, Workers, needs_rsync
from tests.promises.rsync_hosts import Manager, assert_heads_are_true, path_of, write
from tests.servers.gatesync import GATESYNC, environment
from tests.servers.sshd import Sshd, sshd
from tests.stores.budget import BUDGET

ROUNDS: Final = max(3, round(10 * BUDGET))
RUN_SECONDS: Final = 1.5  # about what one takes
SHORT: Final = "500ms"  # so that the next one need not wait for a dead one's lease


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.mark.promise(6)
@pytest.mark.timeout(120 + 6 * ROUNDS)
def test_a_runner_that_is_killed_leaves_truth_and_no_lock(tmp_path: Path, server: Sshd) -> None:
    source = Source(tmp_path / "m1" / "repository")
    for number in range(20):
        write(source, f"s{number}", "0")
    workers = Workers(tmp_path / "workers", server, ["w1", "w2", "w3"])
    database = f"sqlite:///{tmp_path}/store.db"
    manager = Manager(tmp_path, "m1", workers, source, database)
    more = ("--once", "--full-every", "1s", "--takeover-after", SHORT)
    command = [str(GATESYNC), "rsync", *manager.options(*more)]
    chance, removed = random.Random(), 0
    for number in range(ROUNDS):
        for _ in range(3):
            write(source, f"s{chance.randrange(10)}", str(number))
        if source.root.joinpath(path_of(f"s{19 - removed}")).exists() and removed < 5:
            source.remove(path_of(f"s{19 - removed}"))
            removed += 1
        process = subprocess.Popen(command, env=environment(), start_new_session=True)
        try:
            time.sleep(chance.uniform(0.2, 1.2) * RUN_SECONDS)  # wherever it is by then
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
        assert_heads_are_true(workers)
    # The lease of the killed one runs out by itself; its lock did not outlive it.
    deadline = time.monotonic() + 60
    while (done := manager.run("--json")).json()["busy"]:
        assert "this host" not in done.json()["busy"]
        assert time.monotonic() < deadline, done
    assert done.code == 0, done
    workers.assert_all_like(source)
    assert assert_heads_are_true(workers) == 3
