"""docs/audit.md shows what the commands really print: each is run again and compared."""

import re
import shlex
from pathlib import Path

from tests.servers.gatesync import place, sequence_xml

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def steady(line: str) -> str:
    """The line without what differs from run to run: times, sizes of columns, hashes, hosts."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN", line)
    line = re.sub(r"\(\S+@\S+\)", "(SENDER)", line)
    line = re.sub(r"\S+ \(here\)", "ACCOUNT", line)
    line = re.sub(r"\b[0-9a-f]{64}\b", "HASH", line)
    line = re.sub(r"operator, [0-9a-f]{12}\b", "operator, TOKEN", line)
    line = re.sub(r"gw1 \d+\.\d+\.\d+\S*", "gw1 RELEASE", line)
    return re.sub(r" +", " ", line).rstrip()


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    transcript = PAGE.read_text().partition("\n\n`audit` asks")[0]
    shown = [line[4:] for line in transcript.splitlines() if line.startswith("    ")]
    with place(tmp_path, labels=["Production"]) as cluster:
        with cluster.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        (tmp_path / "notice.xml").write_bytes(sequence_xml("notice"))
        cluster.role("publisher").start()
        printed: list[str] = []
        for line in shown:
            if line.startswith("$ "):
                done = cluster.run(*shlex.split(line.removeprefix("$ gatesync ")))
                printed += [line, *(done.err + done.out).splitlines()]
        assert len(printed) > 10
        assert [steady(line) for line in printed] == [steady(line) for line in shown]


def test_the_head_that_the_page_names_is_one_that_verify_prints() -> None:
    heads = re.findall(r"\b\d+:[0-9a-f]{64}\b", PAGE.read_text())
    assert len(heads) == 2
    assert len(set(heads)) == 1
