"""One runner at a time: the lock on a host, and the lease across hosts."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.cli.rsync_turn import RunnerBusyError, Turn, holder_name, only_runner
from gatesync.stores.leases import Lease, MemoryLeases
from gatesync.stores.store import StoreError

pytestmark = pytest.mark.fast

SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FlakyLeases(MemoryLeases):
    """Can be away, or say nothing."""

    away = False
    silent = False
    asked = 0

    async def acquire_lease(self, name: str, holder: str, seconds: float) -> Lease:
        await self._trouble()
        return await super().acquire_lease(name, holder, seconds)

    async def renew_lease(self, lease: Lease, seconds: float) -> bool:
        await self._trouble()
        return await super().renew_lease(lease, seconds)

    async def _trouble(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreError("the database is away")
        if self.silent:
            await asyncio.Event().wait()


class Hosts:
    """Two runners, one store, and its clock, which is theirs, too."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.clock = Clock()
        self.leases = FlakyLeases(self.clock)
        self.one, self.two = (
            Turn(self.leases, "rsync", f"{name} on h, process 1 x", seconds, self.clock)
            for name in ("one", "two")
        )


def test_one_process_has_the_folder_and_says_which(tmp_path: Path) -> None:
    with only_runner(tmp_path / "new" / "rsync"):
        with pytest.raises(RunnerBusyError, match=rf"on this host: process {os.getpid()}, since 2"):
            with only_runner(tmp_path / "new" / "rsync"):
                raise AssertionError
    with only_runner(tmp_path / "new" / "rsync"):
        pass


def test_a_killed_runner_leaves_no_lock_behind(tmp_path: Path) -> None:
    hold = (
        "import pathlib, sys, time\n"
        "from gatesync.cli.rsync_turn import only_runner\n"
        "with only_runner(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunnerBusyError, match=f"process {process.pid}"):
            with only_runner(tmp_path):
                raise AssertionError
    finally:
        process.kill()
        process.communicate(timeout=60)
    with only_runner(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()},")


def test_no_two_holders_have_one_name() -> None:
    names = {holder_name("n" * 300) for _ in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) <= 255


async def test_who_is_first_has_it_and_the_other_knows_who() -> None:
    hosts = Hosts()
    assert await hosts.one.take()
    assert not await hosts.two.take()
    assert hosts.two.others == "one on h, process 1"
    assert await hosts.one.holds()
    assert not await hosts.two.holds()


async def test_who_gives_it_up_leaves_it_to_the_next() -> None:
    hosts = Hosts()
    await hosts.one.take()
    await hosts.one.give_up()
    assert not await hosts.one.holds()
    assert await hosts.two.take()


async def test_a_runner_that_slept_too_long_does_not_hold_it_any_more() -> None:
    hosts = Hosts()
    await hosts.one.take()
    hosts.clock.now += SECONDS
    assert await hosts.two.take()
    await hosts.two.give_up()
    assert not await hosts.one.holds()
    assert not await hosts.one.holds()
    assert await hosts.one.take()


async def test_a_runner_that_slept_too_long_knows_before_it_asks_anybody() -> None:
    hosts = Hosts()
    assert not hosts.one.surely()
    await hosts.one.take()
    hosts.clock.now += SECONDS - 1
    assert hosts.one.surely()
    assert await hosts.one.holds()
    hosts.clock.now += SECONDS - 1
    assert hosts.one.surely()
    hosts.clock.now += 1
    asked = hosts.leases.asked
    assert not hosts.one.surely()
    assert hosts.leases.asked == asked
    assert await hosts.one.holds()
    assert hosts.one.surely()
    await hosts.one.give_up()
    assert not hosts.one.surely()


async def test_a_runner_whose_lease_nobody_wanted_goes_on() -> None:
    hosts = Hosts()
    await hosts.one.take()
    hosts.clock.now += 10 * SECONDS
    assert await hosts.one.holds()
    assert not await hosts.two.take()


async def test_while_the_store_is_away_it_is_held_for_as_long_as_it_was_given() -> None:
    hosts = Hosts()
    await hosts.one.take()
    hosts.leases.away = True
    hosts.clock.now += SECONDS - 1
    with capture_logs() as logs:
        assert await hosts.one.holds()
    assert [(each["event"], each["reason"]) for each in logs] == [
        ("the lease was not renewed", "the database is away")
    ]
    hosts.clock.now += 1
    assert not await hosts.one.holds()
    hosts.leases.away = False
    assert await hosts.one.holds()


async def test_a_store_that_says_nothing_is_not_waited_for_beyond_the_lease() -> None:
    hosts = Hosts(seconds=0.05)
    await hosts.one.take()
    hosts.leases.silent = True
    async with asyncio.timeout(60):
        assert await hosts.one.holds()  # our clock has not moved


async def test_keeping_it_ends_when_it_is_lost() -> None:
    hosts = Hosts(seconds=0.02)
    await hosts.one.take()
    async with asyncio.timeout(60):
        keeping = asyncio.create_task(hosts.one.keep())
        while hosts.leases.asked < 4:  # noqa: ASYNC110 - renewed again and again
            await asyncio.sleep(0.005)
        assert not keeping.done()
        hosts.clock.now += 1
        await hosts.two.take()
        await keeping


async def test_who_stands_by_says_so_once_and_goes_on_when_it_is_free() -> None:
    hosts = Hosts(seconds=0.02)
    await hosts.one.take()
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            waiting = asyncio.create_task(hosts.two.wait())
            before = hosts.leases.asked
            while hosts.leases.asked < before + 3:  # noqa: ASYNC110 - it looks again and again
                await asyncio.sleep(0.005)
            assert not waiting.done()
            hosts.leases.away = True
            asked = hosts.leases.asked
            while hosts.leases.asked < asked + 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            hosts.leases.away = False
            await hosts.one.give_up()
            await waiting
    reasons = [each["reason"] for each in logs]
    assert reasons[0] == "one on h, process 1 is at it; this runner goes on when that one ends"
    assert reasons[1] == "the lease cannot be asked for: the database is away"
    assert len(reasons) <= 3
