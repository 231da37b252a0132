"""Several who write at once, and those who are killed while they do (promises 2 and 3)."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatesync.stores.git_retriever import open_git_retriever
from gatesync.stores.git_sources import Sources
from gatesync.stores.store import SaveOutcome, StoreError, read_manifest
from tests.contracts.genuine import held, publish
from tests.contracts.saves import asked, saved
from tests.stores.budget import BUDGET
from tests.stores.git.bench import GitBench, git, opened, source_of
from tests.stores.git.people import Person

CHANGES = max(5, round(70 * BUDGET))
ROUNDS = max(2, round(7 * BUDGET))


@pytest.mark.promise(2)
@pytest.mark.promise(3)
async def test_of_two_publishers_and_a_person_at_once_nothing_is_lost_or_doubled(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    async def write(store: GitBench, who: str) -> list[SaveOutcome]:
        found = []
        for number in range(CHANGES):
            labels = ("Shop", "Cafe") if number % 3 == 0 else "Shop"
            found += await saved(store, asked(labels, publish(f"{who}{number}")))
        return found

    async with (
        opened(source_of(url, tmp_path / "other")) as other,
        open_git_retriever(source_of(url, tmp_path / "gateway")) as gateway,
    ):
        writers = [write(bench, "A"), write(other, "B"), asyncio.to_thread(push_often, ann)]
        first, second, by_hand = await asyncio.gather(*writers)
        for store in (bench, other):
            await store.store.nudge()
        assert await bench.store.labels() == await other.store.labels()
        log = await bench.store.change_sets("Shop", 0, 10_000)
        names = [change.entry.name for each in log for change in each.changes]
        wanted = {f"{who}{number}" for who in "AB" for number in range(CHANGES)}
        assert sorted(names) == sorted(wanted | set(by_hand))
        answered = [each for outcome in (*first, *second) for each in outcome.change_sets]
        assert {each.id: each for each in answered}.items() <= {
            each.id: each for each in (*log, *await bench.store.change_sets("Cafe", 0, 10_000))
        }.items()
        head, entries = await read_manifest(gateway, "Shop")
        assert head == (await bench.store.heads(["Shop"]))["Shop"]
        assert len(entries) == len(names)


async def test_publishers_that_begin_at_once_begin_one_history(url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        benches = [GitBench(source_of(url, tmp_path / f"p{number}")) for number in range(4)]
        for each in benches:
            stack.push_async_callback(each.close)
        await asyncio.gather(*(each.reopen() for each in benches))
        assert len({each.store.epoch for each in benches}) == 1
        server = tmp_path / "server.git"
        assert git(server, "rev-list", "--count", "main").strip() == "1"


async def test_a_clone_that_is_damaged_while_saving_is_made_anew(
    bench: GitBench, tmp_path: Path
) -> None:
    await saved(bench, asked("Shop", publish("Menu")))
    await bench.reopen()  # claims are looked for when something is saved
    for file in (tmp_path / "clone" / "clone.git").glob("objects/*/*"):
        file.chmod(0o600)
        file.write_bytes(b"")
    request = asked("Shop", publish("More"))
    with pytest.raises(StoreError, match="made anew, try again"):
        await bench.store.save([request])
    await saved(bench, request)
    assert set(await held(bench, "Shop")) == {"Menu", "More"}


async def test_what_reads_the_clone_may_end_without_harm(bench: GitBench) -> None:
    one, two = publish("A", "1"), publish("A", "2")
    await saved(bench, asked("Shop", one, two))
    await bench.reopen()
    for item in (one, two):
        assert len(await bench.store.contents([item.entry.digest])) == 1
        reading = bench.store._branch._reading._process
        assert reading is not None
        reading.kill()
        reading.wait()


async def test_a_host_that_starts_no_process_is_told_and_the_log_stays_right(
    bench: GitBench, ann: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may happen between any two steps: nothing that was taken over by half counts."""
    menu = publish("Menu")
    await saved(bench, asked("Shop", menu))
    await bench.reopen()
    branch = bench.store._branch
    ann.pull()
    for name in ("New", "Newer"):
        ann.put("Shop", name)
        ann.share()

    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    for place, work in {
        "subprocess.Popen": bench.store.contents([menu.entry.digest]),
        "asyncio.create_subprocess_exec": bench.store.save([asked("Shop", publish("More"))]),
    }.items():
        branch._reading.close()
        with monkeypatch.context() as patched:
            patched.setattr(place, refused)
            with pytest.raises(StoreError, match="git cannot be started: Resource temporarily"):
                await work
    build_all = Sources.build_all

    def ended(sources: Sources, *rest: Any) -> None:
        monkeypatch.setattr(Sources, "build_all", build_all)
        raise StoreError("git cannot be started")

    monkeypatch.setattr(Sources, "build_all", ended)
    with pytest.raises(StoreError):
        await bench.store.nudge()
    async with asyncio.timeout(60):
        while branch.trouble is not None or branch.current is None:
            with suppress(StoreError):
                await bench.store.nudge()
            await asyncio.sleep(0.01)
    heads, log = await bench.store.labels(), await bench.store.change_sets("Shop", 0, 100)
    assert set(await held(bench, "Shop")) == {"Menu", "New", "Newer"}
    await bench.reopen_elsewhere(tmp_path / "another clone")
    assert (await bench.store.labels(), await bench.store.change_sets("Shop", 0, 100)) == (
        heads,
        log,
    )


def push_often(ann: Person) -> list[str]:
    """Push some by hand; whoever is outrun rebases, as people do."""
    names = [f"hand{number}" for number in range(3)]
    for name in names:
        ann.pull()
        ann.put("Shop", name)
        ann.commit()
        for _ in range(200):
            try:
                ann.push()
                break
            except AssertionError:
                git(ann.folder, "pull", "--quiet", "--rebase", "origin", "main")
    return names


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.contracts.genuine import publish
from tests.contracts.saves import asked, saved
from tests.stores.git.bench import opened, source_of

async def write(url, cache, first):
    async with opened(source_of(url, Path(cache))) as bench:
        print("open", flush=True)
        for number in range(first, first + 1_000):
            request = asked(("Shop", "Cafe"), publish(f"N{number}"), key=f"k{number}")
            await saved(bench, request)
            print(number, flush=True)

asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

READER = """
import asyncio, sys
from pathlib import Path
from gatesync.stores.git_retriever import open_git_retriever
from tests.stores.git.bench import source_of

async def read(url, cache):
    print("open", flush=True)
    async with open_git_retriever(source_of(url, Path(cache))) as retriever:
        await retriever.heads(["Shop"])
        print("read", flush=True)
        await asyncio.sleep(3600)

asyncio.run(read(sys.argv[1], sys.argv[2]))
"""


async def killed(program: str, arguments: Sequence[str], random_: random.Random) -> list[str]:
    """Run it in a process group of its own, kill that at some moment; what it had said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = [(await process.stdout.readline()).decode().strip()]
    assert said == ["open"]
    await asyncio.sleep(random_.random() * 0.6)
    os.kill(process.pid, signal.SIGKILL)  # not git: that goes on, or notices
    rest = (await process.communicate())[0].decode().split()
    return [*said, *rest]


@pytest.mark.promise(3)
async def test_a_publisher_that_is_killed_loses_and_doubles_nothing(
    bench: GitBench, url: str, tmp_path: Path
) -> None:
    random_ = random.Random(10)
    acknowledged: list[int] = []
    cache = tmp_path / "killed"
    for round_ in range(ROUNDS):
        first = 1_000 * round_
        said = await killed(WRITER, [url, str(cache), str(first)], random_)
        done = [int(each) for each in said[1:]]
        acknowledged += done
        unsure = first + len(done)
        async with opened(source_of(url, cache)) as again:  # on the same clone
            request = asked(("Shop", "Cafe"), publish(f"N{unsure}"), key=f"k{unsure}")
            [outcome] = await again.store.save([request])
            assert isinstance(outcome, SaveOutcome)
            assert len(outcome.change_sets) == 2
        acknowledged.append(unsure)
    await bench.store.nudge()
    for label in ("Shop", "Cafe"):
        log = await bench.store.change_sets(label, 0, 10_000)
        names = [change.entry.name for each in log for change in each.changes]
        assert sorted(names) == sorted(f"N{number}" for number in acknowledged)
    assert len(acknowledged) > ROUNDS or BUDGET < 1


@pytest.mark.promise(10)
async def test_a_gateway_that_is_killed_while_it_fetches_starts_again(
    bench: GitBench, url: str, tmp_path: Path
) -> None:
    random_ = random.Random(11)
    cache = tmp_path / "killed"
    for number in range(ROUNDS):
        items = [publish(f"N{number}x{each}") for each in range(40)]
        await saved(bench, asked("Shop", items))
        await killed(READER, [url, str(cache)], random_)
        async with open_git_retriever(source_of(url, cache)) as retriever:
            head = (await retriever.heads(["Shop"]))["Shop"]
            assert head == (await bench.store.heads(["Shop"]))["Shop"]


@pytest.mark.parametrize("damage", ["objects", "config", "refs", "lock"])
async def test_a_damaged_clone_is_made_anew(
    bench: GitBench, url: str, tmp_path: Path, damage: str
) -> None:
    request = asked("Shop", publish("Menu"))
    await saved(bench, request)
    cache = tmp_path / "other"
    async with opened(source_of(url, cache)) as other:
        expected = await other.store.labels()
    clone = cache / "clone.git"
    match damage:
        case "objects":
            for file in [*clone.glob("objects/*/*"), *clone.glob("objects/pack/*")]:
                file.chmod(0o600)
                file.write_bytes(b"")
        case "config":
            (clone / "config").write_bytes(b"\0\0\0")
            (clone / "HEAD").write_bytes(b"")
        case "refs":
            for file in clone.glob("refs/**/*"):
                if file.is_file():
                    file.write_text("?" * 40 + "\n")
        case "lock":
            (clone / "refs/remotes/origin/main.lock").write_text("")
            (clone / "packed-refs.lock").write_text("")
            (clone / "objects/pack/tmp_pack_x").write_text("")
    async with opened(source_of(url, cache)) as other:
        assert await other.store.labels() == expected
        assert set(await held(other, "Shop")) == {"Menu"}
        await saved(other, asked("Shop", publish("More")))


async def test_a_clone_that_is_damaged_under_way_is_made_anew(
    bench: GitBench, url: str, tmp_path: Path
) -> None:
    await saved(bench, asked("Shop", publish("Menu")))
    cache = tmp_path / "gateway"
    async with open_git_retriever(source_of(url, cache)) as retriever:
        await retriever.heads(["Shop"])
        for file in [*(cache / "clone.git").glob("objects/*/*")]:
            file.chmod(0o600)
            file.write_bytes(b"")
        await saved(bench, asked("Shop", publish("More")))
        await retriever.nudge()
        head, entries = await read_manifest(retriever, "Shop")
        assert {each.name for each in entries.values()} == {"Menu", "More"}
        assert len(await retriever.contents([each.digest for each in entries.values()])) == 2
        assert head == (await bench.store.heads(["Shop"]))["Shop"]


async def test_two_processes_do_not_share_a_clone(
    bench: GitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatesync.stores.git_branch.LOCK_SECONDS", 0.0)
    with pytest.raises(StoreError, match="another process uses the clone"):
        async with opened(bench.source):
            pass


def test_the_line_for_gatesync_is_one(bench: GitBench, ann: Person) -> None:
    said = git(ann.folder, "log", "-1", "--format=%(trailers:key=Gatesync-Record,valueonly)")
    assert msgspec.json.decode(said)["format"] == "gatesync.commit/1"
