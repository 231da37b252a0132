"""docs/rsync.md shows what the commands really print: each is typed again."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirroring.workers import Source, Workers, needs_rsync
from tests.promises.rsync_hosts import write
from tests.servers.gatesync import GATESYNC, Place, place, sequence_xml
from tests.servers.sshd import Sshd, sshd

PAGE = Path(__file__).parents[2] / "docs" / "rsync.md"
FOLDER = "/home/ubuntu/setup"
PROGRAM = "/opt/gatesync/bin/gatesync"
PUBLISHER = "http://127.0.0.1:9640"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "setup", node="manager1") as made:
        with made.config.open("a") as config:
            config.write("[apim.event_hub]\nenable = false\n")
        yield made


def transcript() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("    $ "):
            found.append((line.removeprefix("    $ "), []))
        elif line.startswith("    "):
            found[-1][1].append(line.removeprefix("    "))
    return found


def steady(line: str) -> str:
    """The line without times and the widths of columns."""
    line = re.sub(r"\b\d+(\.\d+)? (ms|s|min)\b", "TIME", line)
    return re.sub(r" {2,}", "  ", line).rstrip()


def test_the_page_shows_what_the_commands_print(tmp_path: Path, site: Place, server: Sshd) -> None:
    commands = transcript()
    source = Source(site.folder / "repository")
    write(source, "fault", "logged")
    tenant = "tenants/1/synapse-configs/default/sequences/notice.xml"
    source.write(tenant, sequence_xml("notice").decode())
    workers = Workers(tmp_path / "workers", server, ["w1", "w2"])
    workers.parts.insert(1, (tmp_path / "workers" / "w1" / "tenants", "tenants"))
    (command, listed), *rest = commands
    assert command == "cat workers-list.txt"
    names = [line for line in listed if not line.startswith("#")]
    ours = dict(zip(names, workers.lines, strict=True))
    (site.folder / "workers-list.txt").write_text("\n".join(ours.values()))
    key = site.folder / "key.pem"
    key.write_bytes(server.identity_file.read_bytes())
    key.chmod(0o600)
    site.role("publisher").start()
    for command, shown in rest:
        words = shlex.split(command.replace(PUBLISHER, site.publisher))
        assert words.pop(0) == "gatesync"
        more = ["--config", str(site.config)] if "status" in words else []
        if "--workers" in words:
            more = ["--known-hosts", str(server.known_hosts)]
            more += ["--config", str(site.config)] if "install" not in words else []
        done = site.run(*words, *more)
        assert done.code == 0, done
        printed = done.out + done.err
        for name, line in ours.items():
            printed = printed.replace(line, name)
        printed = printed.replace(f" {shlex.join(more)}", "") if "install" in words else printed
        printed = printed.replace(str(GATESYNC), PROGRAM).replace(str(site.folder), FOLDER)
        assert [steady(each) for each in printed.splitlines()] == [
            steady(each) for each in shown
        ], command
    assert len(rest) == 6
    workers.assert_all_like(source)
