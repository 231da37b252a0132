"""Passes over folders of workers, with real rsync through a real sshd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.mirroring.outcome import Result
from tests.mirroring.workers import (
    API,
    CONFIGS,
    FILES,
    SEQUENCE,
    Source,
    Workers,
    needs_rsync,
    only,
    passes,
)
from tests.servers.sshd import Sshd, sshd

EIGHT = ("w1", "w2", "w3", "w4", "a space", "it's", 'a "quote"', "$HOME;`x`&")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Source:
    source = Source(tmp_path / "repository")
    for path, content in FILES.items():
        source.write(path, content)
    return source


@pytest.fixture
def one(tmp_path: Path, server: Sshd) -> Workers:
    return Workers(tmp_path / "workers", server, ["w"])


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
            import os

            os.utime(source.root / API, (1_700_000_000, 1_700_000_000))
            await opened.run_pass(source.manifest())
            one.assert_all_like(source)


async def test_what_is_removed_or_renamed_goes_and_what_others_put_there_stays(
    tmp_path: Path, source: Source, one: Workers
) -> None:
    theirs = one.parts[0][0] / "synapse-configs/default/api/theirs.xml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("<api/>")
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
        import os

        os.utime(api, ns=(status.st_atime_ns, status.st_mtime_ns))
        (root / "executionplans/app_50PerMin.siddhiql").unlink()
        assert only(await opened.run_pass(source.manifest())).result is Result.IN_STEP
        outcome = only(await opened.run_pass(source.manifest(), compare=True))
        assert outcome.repaired == (
            "executionplans/app_50PerMin.siddhiql",
            "synapse-configs/default/api/menu.xml",
        )
        one.assert_all_like(source)
        outcome = only(await opened.run_pass(source.manifest(), compare=True))
        assert (outcome.result, outcome.compared) == (Result.IN_STEP, True)
