"""What is wrong with the options of `gatesync rsync` is said before anything is begun."""

from pathlib import Path
from typing import Any

import pytest

from gatesync.cli.rsync_job import Job, RsyncOptions, job_of, kept_paths
from gatesync.cli.session import CommandError
from gatesync.config import load
from gatesync.mirroring.workers import parse_workers

pytestmark = pytest.mark.fast


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repository" / "deployment" / "server").mkdir(parents=True)
    return tmp_path / "repository"


def job(source: Path, **options: Any) -> Job:
    known = {"workers": Path("list"), "source": source, "identity_file": Path("key.pem")}
    return job_of(RsyncOptions(**{**known, **options}), load(None))


def refused(source: Path, **options: Any) -> str:
    with pytest.raises(CommandError) as told:
        job(source, **options)
    assert told.value.code == 2
    return " ".join(told.value.reasons)


def test_what_was_asked_for_is_what_is_done(source: Path, tmp_path: Path) -> None:
    made = job(source, every="5m", jobs=3, bwlimit="500k", mirror=True, full_every="6h", name="b")
    assert (made.every, made.lease_name, made.lease_seconds) == (300.0, "rsync b", 30.0)
    passes = made.passes
    assert (passes.parallel, passes.bandwidth, passes.mirror) == (3, "500k", True)
    assert (passes.compare_every, passes.every) == (6 * 3600.0, 300.0)
    assert made.folder == tmp_path / "gatesync-data" / "rsync" / "b"
    assert not made.folder.exists()


def test_it_is_done_once_unless_said_otherwise(source: Path) -> None:
    assert job(source).every is None
    assert job(source, once=True).every is None
    assert job(source, watch=True).every == 60.0
    assert job(source, every="90s").every == 90.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"every": "60s", "watch": True}, "of --every, --watch and --once one can be given"),
        ({"once": True, "watch": True}, "of --every, --watch and --once one can be given"),
        ({"every": "soon"}, "--every 'soon' is not understood; write 60s, 10m or 6h"),
        ({"full_every": "0h"}, "--full-every '0h' is not understood"),
        ({"takeover_after": "100ms"}, "--takeover-after is 0.5s at least"),
        ({"watch": True, "dry_run": True}, "--dry-run goes with --once"),
        ({"bwlimit": "-1"}, "--bwlimit '-1' is no bandwidth; give KiB per second"),
        ({"bwlimit": "1 --rsh=x"}, "--bwlimit '1 --rsh=x' is no bandwidth"),
        ({"name": "../x"}, "--name '../x' has to be of letters"),
        ({"name": ""}, "--name '' has to be of letters"),
    ],
)
def test_options_that_make_no_sense(source: Path, options: dict[str, Any], reason: str) -> None:
    assert reason in refused(source, **options)


def test_the_seeds_source_is_answered_with_the_whole_repository(source: Path) -> None:
    server = source / "deployment" / "server"
    assert refused(server) == f"the source is the whole repository: --source {source}"
    assert refused(source / "gone") == f"the source {source / 'gone'} is no folder"
    assert "has neither deployment/server nor tenants" in refused(source.parent)


def test_a_list_without_workers_is_an_error(source: Path, tmp_path: Path) -> None:
    for content, reason in (
        (None, "the workers' list list cannot be read: No such file or directory"),
        ("# nobody\n\n", "list names no worker; write one user@host:/path a line"),
        ("-oProxyCommand=x:/repository/tenants\n", "list, line 1: "),
    ):
        if content is not None:
            (tmp_path / "list").write_text(content)
        with pytest.raises(CommandError) as told:
            job(source).read_workers()
        assert told.value.code == 2
        assert reason in " ".join(told.value.reasons)


@pytest.mark.parametrize(
    ("path", "server", "both", "whole"),
    [
        ("deployment/", True, True, True),
        ("deployment/server/", True, True, True),
        ("deployment/server/x/a.xml", True, True, True),
        ("deployment/patches/", False, False, True),
        ("tenants/", False, True, True),
        ("tenants/1/a.xml", False, True, True),
        ("database/h2.db", False, False, True),
        ("logs/", False, False, True),
    ],
)
def test_only_what_a_worker_is_to_have_is_read(
    path: str, server: bool, both: bool, whole: bool
) -> None:
    for expected, content in (
        (server, b"u@w:/r/deployment/server"),
        (both, b"u@w:/r/deployment/server\nu@w:/r/tenants"),
        (whole, b"u@w:/r/repository"),
    ):
        assert kept_paths(path, parse_workers(content, "list").workers) is expected
