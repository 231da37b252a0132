"""A runner whose turn is over writes nothing, wherever it is in its work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.mirroring.outcome import Result
from gatesync.mirroring.passes import PassSettings, open_passes
from gatesync.mirroring.worker_manifest import State
from gatesync.mirroring.workers import parse_workers
from tests.mirroring.workers import API, FILES, Source, Workers, needs_rsync, only, tree
from tests.servers.sshd import Sshd, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


async def test_each_step_of_the_work_is_the_last_where_the_turn_ends(
    tmp_path: Path, server: Sshd
) -> None:
    source = Source(tmp_path / "repository")
    for path, content in FILES.items():
        source.write(path, content)
    workers = Workers(tmp_path / "workers", server, ["w"])
    settings = PassSettings(
        source=source.root, folder=tmp_path / "runner", ssh=workers.ssh(), silence_seconds=60.0
    )
    left = 0

    def may_write() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    listed = parse_workers("\n".join(workers.lines).encode(), "list").workers
    async with open_passes(settings, listed, may_write=may_write) as passes:
        for steps in range(20):
            before, left = tree(workers.folder), steps
            outcome = only(await passes.run_pass(source.manifest()))
            if outcome.result is Result.BROUGHT:
                break
            assert outcome.why == "this runner's turn is over: another one may be at it"
            if steps == 0:
                assert tree(workers.folder) == before
            else:
                assert workers.head().state is State.CHANGING
        assert steps >= 3
        workers.assert_all_like(source)

        left = 0
        assert only(await passes.run_pass(source.manifest())).result is Result.IN_STEP
        source.write(API, "<api new='1'/>")
        before = tree(workers.folder)
        assert only(await passes.run_pass(source.manifest())).result is Result.FAILED
        assert tree(workers.folder) == before
