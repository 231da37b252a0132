"""docs/signing.md shows what the commands really print: each is run again and compared."""

import re
import shlex
from pathlib import Path

from tests.servers.gatesync import place, sequence_xml

PAGE = Path(__file__).parents[2] / "docs" / "signing.md"
_NAMED = re.compile(r"\bgspk_[\w-]{43}|\b[0-9a-f]{16}\b")


class Names:
    """Keys by the order in which they come, and times by a word: what differs from run to run."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def steady(self, line: str) -> str:
        line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", line)
        return re.sub(r" +", " ", _NAMED.sub(self._name, line)).rstrip()

    def _name(self, found: re.Match[str]) -> str:
        if found[0] not in self.known:
            self.known.append(found[0])
        return f"KEY{self.known.index(found[0])}"


def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    shown = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    written, real = Names(), Names()
    wanted = [written.steady(line) for line in shown]
    printed: list[str] = []
    with place(tmp_path, labels=["Production"]) as cluster:
        with cluster.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        (tmp_path / "notice.xml").write_bytes(sequence_xml("notice"))
        cluster.role("publisher").start()
        for line in wanted:
            if line.startswith("$ "):
                asked = re.sub(r"KEY(\d)", lambda found: real.known[int(found[1])], line)
                done = cluster.run(*shlex.split(asked.removeprefix("$ gatesync ")))
                said = (done.out + done.err).splitlines()
                printed += [real.steady(each) for each in (asked, *said)]
    assert len(printed) > 20
    assert printed == wanted
