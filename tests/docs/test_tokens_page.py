"""docs/tokens.md shows what the commands really print: each is run again and compared."""

import re
import shlex
from pathlib import Path

import pytest

from tests.servers.gatesync import place, sequence_xml
from tests.servers.in_process import runner

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"
TOKEN = re.compile(r"gs_[0-9a-f]{12}_\S+")


def steady(line: str) -> str:
    """The line without what differs from run to run: ids, secrets, times."""
    line = TOKEN.sub("TOKEN", line)
    line = re.sub(r"\b[0-9a-f]{12}\b", "ID", line)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN", line).rstrip()


def test_the_page_shows_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    with place(tmp_path, labels=["Production"]) as cluster:
        with cluster.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        (tmp_path / "notice.xml").write_bytes(sequence_xml("notice"))
        cluster.role("publisher").start()
        run = runner(tmp_path, monkeypatch, capsys)
        printed: list[str] = []
        made = {"ci-shop": ""}
        for line in shown:
            if not line.startswith("$ "):
                continue
            arguments = shlex.split(line.removeprefix("$ gatesync "))
            done = run(arguments, made["ci-shop"] if arguments[0] == "publish" else "")
            if arguments[:2] == ["token", "create"]:
                made[arguments[arguments.index("--id") + 1]] = done.out.strip()
            printed += [line, *(done.err + done.out).splitlines()]
        assert TOKEN.fullmatch(made["ci-shop"])
        assert len(printed) > 15
        assert [steady(line) for line in printed] == [steady(line) for line in shown]
