"""Workers that are down, silent, full, strangers or damaged, and what the others have of it."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.worker_manifest import State
from tests.mirroring.workers import (
    API,
    FILES,
    QUOTED,
    Source,
    Workers,
    only,
    passes,
)
from tests.servers.small_disk import can_mount, small_disk
from tests.servers.sshd import Sshd, sshd

SECONDS = 60


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, server: Sshd) -> Iterator[Sshd]:
    """A host that gets into trouble; whom `server` lets in, it does."""
    with sshd(tmp_path_factory.mktemp("other")) as running:
        key = (server.folder / "identity.pub").read_text()
        with (running.folder / "authorized_keys").open("a") as file:
            file.write(key)
        yield running


class Reports:
    """What `follow` has reported."""

    def __init__(self) -> None:
        self.all: list[Outcome] = []
        self._changed = asyncio.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.all.append(outcome)
        self._changed.set()

    async def until(self, *, worker: str, revision: int | None = None) -> Outcome:
        """The first of this worker; with `revision`, that proves it."""
        async with asyncio.timeout(SECONDS):
            while True:
                for outcome in self.all:
                    if outcome.worker == worker and revision in {None, outcome.revision}:
                        return outcome
                self._changed.clear()
                await self._changed.wait()


async def test_a_silent_host_and_one_that_is_down_hold_up_nobody(
    tmp_path: Path, server: Sshd, other: Sshd, source: Source
) -> None:
    workers = Workers(tmp_path / "good", server, ["w1", "w2"])
    silent = Workers(tmp_path / "silent", other, ["w"])
    lines = [*workers.lines, *silent.lines, "ssh://nobody@127.0.0.1:1/gone/tenants"]
    ssh = workers.ssh(strict_host_keys=False, known_hosts=tmp_path / "known")
    reports = Reports()
    other.pause()
    try:
        async with passes(tmp_path, source, lines, ssh=ssh, backoff_first=0.01) as opened:
            following = asyncio.create_task(opened.follow(reports))
            for revision in (1, 2, 3):
                source.write(API, f"<api revision='{revision}'/>")
                opened.offer(source.manifest())
                for line in workers.lines:
                    await reports.until(worker=line, revision=revision)
            failed = await reports.until(worker=lines[-1])
            assert failed.result is Result.FAILED
            assert "Connection refused" in failed.why
            assert not any(outcome.worker == lines[2] for outcome in reports.all)
            other.resume()
            await reports.until(worker=lines[2], revision=3)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
    finally:
        other.resume()
    workers.assert_all_like(source)
    silent.assert_all_like(source)
    assert sum(outcome.worker == lines[-1] for outcome in reports.all) > 1


async def test_a_host_that_does_not_answer_is_given_up_and_found_again(
    tmp_path: Path, other: Sshd, source: Source
) -> None:
    workers = Workers(tmp_path / "workers", other, ["w1", "w2"])
    async with passes(tmp_path, source, workers, silence_seconds=1.0) as opened:
        other.pause()
        try:
            outcomes = await opened.run_pass(source.manifest())
        finally:
            other.resume()
        assert {outcome.result for outcome in outcomes} == {Result.FAILED}
        assert all("did not answer within 1 s" in outcome.why for outcome in outcomes)
        assert {outcome.failures for outcome in outcomes} == {1}
    async with passes(tmp_path, source, workers) as opened:
        outcomes = await opened.run_pass(source.manifest())
        assert {outcome.result for outcome in outcomes} == {Result.BROUGHT}


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount a small file system")
async def test_a_full_worker_says_so_and_ends_right_when_there_is_room(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    with small_disk() as disk:
        workers = Workers(disk.folder, server, ["w"])
        async with passes(tmp_path, source, workers) as opened:
            await opened.run_pass(source.manifest())
            source.write(API, "<api>" + "x" * 1024 * 1024 + "</api>")
            with disk.full():
                outcome = only(await opened.run_pass(source.manifest()))
                assert (outcome.result, outcome.revision) == (Result.FAILED, None)
                assert outcome.exit_code in {11, 12}
                assert "No space left" in outcome.why
                assert workers.head().state is State.CHANGING
            assert only(await opened.run_pass(source.manifest())).result is Result.BROUGHT
        workers.assert_all_like(source)


async def test_a_host_with_another_key_is_refused_and_a_new_one_is_remembered(
    tmp_path: Path, server: Sshd, other: Sshd, source: Source, one: Workers
) -> None:
    wrong = tmp_path / "known"
    theirs = (other.folder / "host_key.pub").read_text()
    wrong.write_text(f"[127.0.0.1]:{server.port} {theirs}")
    for strict in (False, True):
        ssh = one.ssh(known_hosts=wrong, strict_host_keys=strict)
        async with passes(tmp_path, source, one, ssh=ssh) as opened:
            outcome = only(await opened.run_pass(source.manifest()))
            assert outcome.result is Result.FAILED
            assert "Host key verification failed" in outcome.why
    empty = tmp_path / "empty"
    async with passes(
        tmp_path, source, one, ssh=one.ssh(known_hosts=empty, strict_host_keys=True)
    ) as opened:
        assert only(await opened.run_pass(source.manifest())).result is Result.FAILED
    async with passes(
        tmp_path, source, one, ssh=one.ssh(known_hosts=empty, strict_host_keys=False)
    ) as opened:
        assert only(await opened.run_pass(source.manifest())).result is Result.BROUGHT
    assert f"[127.0.0.1]:{server.port} " in empty.read_text()


async def test_a_stranger_is_told_that_the_worker_does_not_let_it_in(
    tmp_path: Path, server: Sshd, source: Source, one: Workers
) -> None:
    ssh = one.ssh(identity_file=server.make_key("stranger", let_in=False))
    async with passes(tmp_path, source, one, ssh=ssh) as opened:
        outcome = only(await opened.run_pass(source.manifest()))
    assert outcome.result is Result.FAILED
    assert "Permission denied" in outcome.why


async def test_a_worker_without_its_folder_is_told_from_one_that_is_new(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    workers = Workers(tmp_path / "workers", server, ["new", "none"])
    (workers.parts[0][0]).rmdir()  # is made, as rsync would
    (workers.parts[1][0]).rmdir()
    workers.parts[1][0].parent.rmdir()  # not mounted, say
    async with passes(tmp_path, source, workers) as opened:
        good, bad = await opened.run_pass(source.manifest())
    assert (good.result, bad.result) == (Result.BROUGHT, Result.FAILED)
    assert "No such file or directory" in bad.why
    assert not workers.parts[1][0].parent.exists()


async def test_workers_whose_manifests_are_damaged_are_compared_and_end_right(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    damages = ("no head", "no manifest", "half a manifest", "nothing left")
    workers = Workers(tmp_path / "workers", server, damages)
    async with passes(tmp_path, source, workers) as opened:
        await opened.run_pass(source.manifest())
    for damage, (root, _) in zip(damages, workers.parts, strict=True):
        head, manifest = (root / ".gatesync" / name for name in ("head", "manifest"))
        if damage == "half a manifest":
            manifest.write_bytes(manifest.read_bytes()[:100])
        if damage in {"no head", "nothing left"}:
            head.unlink()
        if damage in {"no manifest", "nothing left"}:
            manifest.unlink()
        (root / "synapse-configs/default/sequences/menu--In.xml").write_text("damaged, too")
    source.write(API, "<api new='1'/>")
    async with passes(tmp_path, source, workers) as opened:
        outcomes = await opened.run_pass(source.manifest())
    assert {(outcome.why, outcome.compared) for outcome in outcomes} == {("", True)}
    workers.assert_all_like(source)


async def test_a_worker_of_a_newer_gatesync_is_left_alone(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    folder = one.parts[0][0] / ".gatesync"
    folder.mkdir()
    (folder / "head").write_text('{"format": "gatesync.worker/9"}')
    async with passes(tmp_path, source, one) as opened:
        outcome = only(await opened.run_pass(source.manifest()))
    assert "gatesync.worker/9" in outcome.why
    assert one.files() == {}


async def test_pauses_grow_and_news_do_not_hurry_a_worker_in_trouble(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    lines = ["ssh://u@127.0.0.1:1/x/tenants"]
    async with passes(
        tmp_path,
        source,
        lines,
        ssh=one.ssh(),
        now=lambda: 1000.0,
        backoff_first=2.0,
        backoff_cap=5.0,
        jitter=lambda: 0.5,
    ) as opened:
        tried = [only(await opened.run_pass(source.manifest())) for _ in range(4)]
    assert [outcome.next_try for outcome in tried] == [1001.5, 1003.0, 1003.75, 1003.75]
    assert [outcome.failures for outcome in tried] == [1, 2, 3, 4]


async def test_a_source_that_moves_on_meanwhile_leaves_a_manifest_that_is_true(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
        source.write(API, "<api settled='1'/>")
        source.write(QUOTED, "<api settled='2'/>")
        manifest = source.manifest()
        source.write(API, "<api settled='not'/>")
        outcome = only(await opened.run_pass(manifest))
        assert (outcome.result, outcome.revision) == (Result.BEHIND, None)
        assert outcome.left_out == ("synapse-configs/default/api/menu.xml",)
        assert one.files()[API] == FILES[API]
        assert one.files()[QUOTED] == "<api settled='2'/>"
        one.assert_true()
        assert one.head().state is State.PARTIAL
        outcome = only(await opened.run_pass(manifest, compare=True))
        assert outcome.result is Result.BEHIND
        one.assert_true()
        assert only(await opened.run_pass(source.manifest())).result is Result.BROUGHT
    one.assert_all_like(source)


async def test_what_is_withheld_stays_on_workers_as_it_was(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    async with passes(tmp_path, source, one) as opened:
        good = source.manifest()
        await opened.run_pass(good)
        (source.root / API).write_text("<api broken")
        for compare in (False, True):
            outcome = only(await opened.run_pass(good, compare=compare))
            assert (outcome.result, outcome.revision) == (Result.IN_STEP, 1)
    assert one.files()[API] == FILES[API]
