"""Passes over folders of workers, with real rsync through a real sshd."""

import os
from pathlib import Path

import pytest

from gatesync.mirroring import remote
from gatesync.mirroring.outcome import Result
from tests.mirroring.workers import (
    API,
    CONFIGS,
    FILES,
    QUOTED,
    SEQUENCE,
    Source,
    Workers,
    only,
    passes,
)
from tests.servers.sshd import Sshd

EIGHT = ("w1", "w2", "w3", "w4", "a space", "it's", 'a "quote"', "$HOME;{word}`x`&")


async def test_eight_workers_are_brought_in_step_and_kept_there(
    tmp_path: Path, server: Sshd, source: Source
) -> None:
    workers = Workers(tmp_path / "workers", server, EIGHT)
    workers.add(workers.homes[0] / "tenants", "tenants")
    async with passes(tmp_path, source, workers) as opened:
        outcomes = await opened.run_pass(source.manifest())
        assert [outcome.why for outcome in outcomes] == [""] * 9
        assert {outcome.result for outcome in outcomes} == {Result.BROUGHT}
        workers.assert_all_like(source)

        outcomes = await opened.run_pass(source.manifest())
        assert {outcome.result for outcome in outcomes} == {Result.IN_STEP}
        assert {outcome.revision for outcome in outcomes} == {1}

        source.write(API, "<api new='1'/>")
        outcomes = await opened.run_pass(source.manifest())
        assert [outcome.offered for outcome in outcomes[:8]] == [
            ("synapse-configs/default/api/menu.xml",)
        ] * 8
        assert outcomes[8].result is Result.IN_STEP
        assert {outcome.revision for outcome in outcomes} == {2}
        workers.assert_all_like(source)
    assert not (tmp_path / "runner" / "staged").exists()


async def test_a_second_edit_of_one_size_in_one_second_arrives(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    async with passes(tmp_path, source, one) as opened:
        for text in ("<api v='1'/>", "<api v='2'/>"):
            source.write(API, text)
            os.utime(source.root / API, (1_700_000_000, 1_700_000_000))
            await opened.run_pass(source.manifest())
            one.assert_all_like(source)


async def test_what_is_removed_or_renamed_goes_and_what_others_put_there_stays(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    theirs = one.parts[0][0] / "synapse-configs/default/api/theirs.xml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("<api/>")
    source.write(f"{CONFIGS}/api/other.xml", "<api context='/other'/>")  # half of it goes
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
        source.remove(SEQUENCE)
        (source.root / API).rename(source.root / CONFIGS / "api" / "card.xml")
        outcome = only(await opened.run_pass(source.manifest()))
    assert len(outcome.removed) == 2
    assert theirs.read_text() == "<api/>"
    theirs.unlink()
    one.assert_all_like(source)


async def test_what_people_change_on_a_worker_is_found_and_mended(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    root = one.parts[0][0]
    api = root / "synapse-configs/default/api/menu.xml"
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
        status = api.stat()
        api.write_text("<API/>")  # as many bytes, and as old
        os.utime(api, ns=(status.st_atime_ns, status.st_mtime_ns))
        (root / "synapse-configs/default/sequences/menu--In.xml").unlink()
        assert only(await opened.run_pass(source.manifest())).result is Result.IN_STEP
        outcome = only(await opened.run_pass(source.manifest(), compare=True))
        assert outcome.repaired == (
            "synapse-configs/default/api/menu.xml",
            "synapse-configs/default/sequences/menu--In.xml",
        )
        one.assert_all_like(source)
        outcome = only(await opened.run_pass(source.manifest(), compare=True))
        assert (outcome.result, outcome.compared) == (Result.IN_STEP, True)


async def test_after_a_new_start_of_its_host_all_of_a_worker_is_compared(
    tmp_path: Path, source: Source, one: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk may never have had what was written a moment before its power failed."""
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(remote, "BOOT_ID", str(boot))
    boot.write_text("11111111-1111-4111-8111-111111111111\n")
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
    (one.parts[0][0] / API.removeprefix("deployment/server/")).write_text("")
    async with passes(tmp_path, source, one) as opened:
        assert not only(await opened.run_pass(source.manifest())).compared
    boot.write_text("22222222-2222-4222-8222-222222222222\n")
    async with passes(tmp_path, source, one) as opened:
        outcome = only(await opened.run_pass(source.manifest()))
        assert (outcome.compared, len(outcome.repaired)) == (True, 1)
        assert only(await opened.run_pass(source.manifest())).result is Result.IN_STEP
    one.assert_all_like(source)


@pytest.mark.promise(6)
async def test_a_source_that_came_to_nothing_or_is_another_removes_nothing_until_confirmed(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
        for path in (API, QUOTED, SEQUENCE):
            source.remove(path)
        outcome = only(await opened.run_pass(source.manifest()))
        assert (outcome.removed, len(outcome.held)) == ((), 3)
        source.epoch = "22222222-2222-4222-8222-222222222222"
        source.write(API, "<api epoch='2'/>")
        outcome = only(await opened.run_pass(source.manifest()))
        assert (outcome.offered, outcome.removed) == (("synapse-configs/default/api/menu.xml",), ())
        assert len(outcome.held) == 2
        assert len(one.files()) == 3
    async with passes(tmp_path, source, one) as opened:
        assert len(only(await opened.run_pass(source.manifest())).held) == 2  # in step all the same
        outcome = only(await opened.run_pass(source.manifest(), confirm_removals=True))
        assert (len(outcome.removed), outcome.held) == (2, ())
        one.assert_all_like(source)
        assert only(await opened.run_pass(source.manifest())).result is Result.IN_STEP


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    async with passes(tmp_path, source, one) as opened:
        assert len(only(await opened.run_pass(source.manifest(), dry_run=True)).offered) == 3
        assert not (one.parts[0][0] / ".gatesync").exists()
        await opened.run_pass(source.manifest())
        source.remove(SEQUENCE)
        before = one.head()
        outcome = only(await opened.run_pass(source.manifest(), dry_run=True))
        assert outcome.result is Result.PLANNED
        assert outcome.removed == ("synapse-configs/default/sequences/menu--In.xml",)
    assert one.head() == before
    assert SEQUENCE in one.files()


async def test_a_mirrored_worker_has_nothing_else(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    root = one.parts[0][0]
    theirs = root / "their's" / "deep"
    theirs.mkdir(parents=True)
    (theirs / "new\nline").write_text("x")
    (root / "link").symlink_to(source.root)
    os.close(os.open(bytes(root) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    async with passes(tmp_path, source, one, mirror=True) as opened:
        outcome = only(await opened.run_pass(source.manifest()))
        assert len(outcome.held) == 5  # more than the half of what is there
        assert theirs.exists()
        outcome = only(await opened.run_pass(source.manifest(), confirm_removals=True))
        assert outcome.removed == ("\\xff", "link", "their's/")
        one.assert_all_like(source)
        assert sorted(path.name for path in root.iterdir()) == [".gatesync", "synapse-configs"]
        (root / "theirs.xml").write_text("<api/>")
        assert only(await opened.run_pass(source.manifest(), compare=True)).removed == (
            "theirs.xml",
        )
    assert len(list(source.root.rglob("*.xml"))) == len(FILES)


async def test_a_file_and_a_folder_may_take_each_others_place(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    folder = f"{CONFIGS}/api/folder"
    source.write(f"{folder}/deep.xml", "<api/>")
    async with passes(tmp_path, source, one) as opened:
        await opened.run_pass(source.manifest())
        source.remove(f"{folder}/deep.xml")
        (source.root / folder).rmdir()
        source.write(folder, "a file now")
        source.remove(QUOTED)
        source.write(f"{QUOTED}/deep.xml", "<api/>")
        outcome = only(await opened.run_pass(source.manifest()))
        assert outcome.why == ""
    one.assert_all_like(source)
