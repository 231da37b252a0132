"""The faulty hub does what tests rely on it to do."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from gatesync.artifacts.changes import ChangeSet
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.events.hub import EventHub
from gatesync.events.in_process import InProcessHub, open_in_process_hub
from gatesync.events.messages import HeadsAnnounced, announce_change, encode
from tests.contracts.hub import HubContract, OpenHub, connected, lost, take
from tests.faults import DROP_FILE, Faults, FaultyHub, faulty, open_faulty_nats_hub
from tests.servers.nats import nats_server

CHILD = """
import asyncio, sys
from pathlib import Path
from gatesync.events.in_process import InProcessHub
from tests.faults import Faults, FaultyHub

async def main():
    hub = FaultyHub(InProcessHub(), Faults(kill_file=Path(sys.argv[1])))
    await hub.announce("L", Path(sys.argv[2]).read_bytes())

asyncio.run(main())
"""


def open_one(faults: Faults, seed: int = 0) -> FaultyHub:
    return FaultyHub(InProcessHub(), faults, seed)


async def through(hub: FaultyHub, count: int) -> list[int]:
    """Announce so many numbers, and see what arrives."""
    async with hub.announcements(["L"]) as listener:
        for number in range(count):
            await hub.announce("L", b"%d" % number)
        await hub.settle()
        await hub.inner.announce("L", b"-1")
        found = []
        while (message := (await take(listener, 1))[0]) != b"-1":
            assert isinstance(message, bytes)
            found.append(int(message))
        return found


@pytest.mark.fast
class TestWithoutFaults(HubContract):
    @pytest.fixture
    def open_hub(self) -> OpenHub:
        inner = InProcessHub()

        @asynccontextmanager
        async def enter() -> AsyncIterator[EventHub]:
            yield inner

        return lambda: faulty(enter(), Faults())


@pytest.mark.fast
async def test_drops_are_counted_and_repeatable() -> None:
    hub = open_one(Faults(drop=0.5), seed=1)
    found = await through(hub, 200)
    assert 60 < len(found) < 140
    assert hub.dropped == 200 - len(found)
    assert found == sorted(found) == await through(open_one(Faults(drop=0.5), seed=1), 200)


@pytest.mark.fast
async def test_duplicates_and_reordering_lose_nothing() -> None:
    found = await through(open_one(Faults(duplicate=0.5, reorder=0.3)), 200)
    assert set(found) == set(range(200))
    assert len(found) > 250 - 40
    assert found != sorted(found)


@pytest.mark.fast
async def test_delays_reorder_and_lose_nothing() -> None:
    found = await through(open_one(Faults(delay=0.5, longest_delay=0.01)), 200)
    assert sorted(found) == list(range(200))
    assert found != sorted(found)


@pytest.mark.fast
async def test_closing_leaves_no_task_for_what_is_delayed() -> None:
    before = asyncio.all_tasks()
    opened = open_in_process_hub()
    async with faulty(opened, Faults(delay=1.0, longest_delay=600)) as hub:
        await hub.announce("L", b"late")
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


async def test_a_file_drops_everything_while_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = tmp_path / "drop"
    monkeypatch.setenv(DROP_FILE, str(drop))
    async with nats_server(tmp_path) as server:
        open_hub = partial(open_faulty_nats_hub, [server.url], user=None, password=None, name="t")
        async with open_hub() as hub, hub.announcements(["L"]) as listener:
            await connected(hub)
            await lost(listener)
            drop.touch()
            await hub.announce("L", b"dropped")
            drop.unlink()
            await hub.announce("L", b"sent")
            assert await take(listener, 1) == [b"sent"]


@pytest.mark.parametrize(("change", "killed"), [(True, True), (False, False)])
async def test_a_file_kills_the_process_that_announces_a_change(
    tmp_path: Path, change: bool, killed: bool
) -> None:
    kill, message = tmp_path / "kill", tmp_path / "message"
    kill.touch()
    change_set = ChangeSet("L", "e", 1, 0, (), EMPTY_LABEL, 0)
    heads = HeadsAnnounced((), publisher="p", sent_at=0)
    message.write_bytes(encode(announce_change(change_set, {}) if change else heads))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(kill), str(message), cwd=Path(__file__).parents[2]
    )
    async with asyncio.timeout(30):
        assert await child.wait() == (-signal.SIGKILL if killed else 0)
