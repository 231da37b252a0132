"""docs/history.md shows what the commands really print: each is run again and compared."""

import re
import shlex
from pathlib import Path

from tests.servers.gatesync import place

PAGE = Path(__file__).parents[2] / "docs" / "history.md"
CONFIGS = Path("repository/deployment/server/synapse-configs/default")
NAMESPACE = "http://ws.apache.org/ns/synapse"

MENU = f"""<api xmlns="{NAMESPACE}" name="admin--Menu" context="/menu/1.0.0" version="1.0.0">
  <resource methods="GET" uri-template="/items/{{id}}">
    <inSequence>
      <sequence key="audit"/>
      <sequence key="conf:/sequences/custom"/>
      <send>
        <endpoint key="MenuBackend"/>
      </send>
    </inSequence>
  </resource>
</api>
"""
BACKEND = f"""<endpoint xmlns="{NAMESPACE}" name="MenuBackend">
  <address uri="http://menu.example:8080/v1"/>
</endpoint>
"""


def sequence(name: str, level: str = "headers") -> str:
    return f'<sequence xmlns="{NAMESPACE}" name="{name}">\n  <log level="{level}"/>\n</sequence>\n'


WITH_THREE_FAULTS = {
    "api/admin--Menu_v1.0.0.xml": MENU,
    "sequences/audit.xml": sequence("audit"),
    "sequences/notice.xml": sequence("notice"),
    "sequences/notice2.xml": sequence("notice"),
    "sequences/broken.xml": f'<sequence xmlns="{NAMESPACE}" name="broken">\n  <log>\n</sequence>\n',
}


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = folder / CONFIGS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def mend(folder: Path) -> None:
    for path in ("sequences/notice2.xml", "sequences/broken.xml"):
        (folder / CONFIGS / path).unlink()
    write(folder, {"endpoints/MenuBackend.xml": BACKEND})


def edit(folder: Path) -> None:
    write(folder, {"sequences/audit.xml": sequence("audit", "full")})


BEFORE = {1: mend, 2: edit}
"""What its reader does to the tree before each of the page's blocks, numbered from 0."""


def blocks() -> list[list[str]]:
    """The page's transcripts, each as its lines without the indent."""
    found: list[list[str]] = [[]]
    for line in PAGE.read_text().splitlines():
        if line.startswith("    "):
            found[-1].append(line[4:])
        elif found[-1] and line:
            found.append([])
    return [block for block in found if block and block[0].startswith("$ ")]


def steady(line: str) -> str:
    """The line without what differs from run to run: times, sizes of columns, digests, hosts."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN", line)
    line = re.sub(r"\(\S+@\S+\)", "(SENDER)", line)
    line = re.sub(r"after \d+(\.\d+)? m?s", "after TIME", line)
    return re.sub(r" +", " ", line).rstrip()


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    with place(tmp_path, labels=["Production"]) as cluster:
        cluster.role("up").start()
        write(cluster.folder, WITH_THREE_FAULTS)
        for number, block in enumerate(blocks()):
            if number in BEFORE:
                BEFORE[number](cluster.folder)
            expected: list[str] = []
            printed: list[str] = []
            for line in block:
                expected.append(steady(line))
                if line.startswith("$ "):
                    done = cluster.run(*shlex.split(line.removeprefix("$ gatesync ")))
                    printed.append(steady(line))
                    printed += [steady(each) for each in (done.err + done.out).splitlines()]
            assert printed == expected
