"""What runs for long runs on uvloop, whose pipes end otherwise than asyncio's own."""

from pathlib import Path

import uvloop

from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.passes import PassSettings, open_passes
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.workers import parse_workers
from tests.mirroring.workers import FILES, Source
from tests.servers.gatesync import free_ports


def test_a_host_that_refuses_is_a_worker_that_failed(tmp_path: Path) -> None:
    source = Source(tmp_path / "repository")
    for path, content in FILES.items():
        source.write(path, content)
    line = f"ssh://nobody@127.0.0.1:{free_ports(1)[0]}/srv/repository/deployment/server"
    settings = PassSettings(
        source=source.root,
        folder=tmp_path / "runner",
        ssh=SshSettings(known_hosts=tmp_path / "known_hosts"),
        silence_seconds=60.0,
    )

    async def tried() -> list[Outcome]:
        async with open_passes(settings, parse_workers(line.encode(), "list").workers) as passes:
            return [each for _ in range(10) for each in await passes.run_pass(source.manifest())]

    outcomes = uvloop.run(tried())
    assert {each.result for each in outcomes} == {Result.FAILED}
    assert all("Connection refused" in each.why for each in outcomes)
