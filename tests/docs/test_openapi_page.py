"""docs/openapi.md shows what the commands really print: each is run again and compared."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.servers.gatesync import Place, place

PAGE = Path(__file__).parents[2] / "docs" / "openapi.md"


def steady(line: str) -> str:
    """The line without what differs from run to run."""
    line = re.sub(r"after \d+(\.\d+)? m?s", "after TIME", line)
    return re.sub(r" +", " ", line).rstrip()


def printed(cluster: Place, command: str) -> list[str]:
    words = shlex.split(command)
    if words[0] == "gatesync":
        done = cluster.run(*words[1:])
        return (done.err + done.out).splitlines()
    found = subprocess.run(words, cwd=cluster.folder, capture_output=True, text=True, check=True)
    return sorted(found.stdout.splitlines())  # find's order is the disk's


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    page = PAGE.read_text()
    (library,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "library.yaml").write_text(library)
    (tmp_path / "misspelt.yaml").write_text(library.replace("post:", "pots:"))
    last = library.rindex("get:")
    (tmp_path / "tracing.yaml").write_text(library[:last] + "trace:" + library[last + 4 :])
    shown = [line[4:] for line in page.splitlines() if line.startswith("    ")]
    shown = shown[len([line for line in library.splitlines() if line.startswith("    ")]) :]
    with place(tmp_path, labels=["Production"]) as cluster:
        cluster.role("up").start()
        found: list[str] = []
        for line in shown:
            if line.startswith("$ "):
                found += [line, *printed(cluster, line.removeprefix("$ "))]
    assert [steady(each) for each in found] == [steady(each) for each in shown]
