"""docs/export.md shows what the commands really print: each is run again and compared."""

import shlex
import shutil
import subprocess
from pathlib import Path

from tests.servers.gatesync import EXAMPLES, Place, place, sequence_xml, until

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
GATEWAY = "http://127.0.0.1:9641"


def _printed(cluster: Place, command: str) -> list[str]:
    if GATEWAY in command:
        until(lambda: len(cluster.held()) == 2, "the gateway serves both artifacts")
    if command.startswith("gatesync "):
        done = cluster.run(*shlex.split(command.replace(GATEWAY, cluster.gateway))[1:])
        return (done.err + done.out).splitlines()
    run = subprocess.run(
        shlex.split(command), cwd=cluster.folder, capture_output=True, text=True, check=True
    )
    return sorted(run.stdout.splitlines())  # find's order is the disk's


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    shown = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    with place(tmp_path, labels=["Production"]) as cluster:
        shutil.copytree(EXAMPLES / "pizzashack", tmp_path / "pizzashack")
        (tmp_path / "audit.xml").write_bytes(sequence_xml("audit"))
        cluster.role("up").start()
        printed: list[str] = []
        for line in shown:
            if line.startswith("$ "):
                printed += [line, *_printed(cluster, line.removeprefix("$ "))]
        assert printed == shown
