"""docs/receipts.md and README.md show what the commands really print: each is run again."""

import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.gatesync import Place, Role, place, sequence_xml, until

ROOT = Path(__file__).parents[2]
LABEL = "Production"
SEQUENCES = Path("repository/deployment/server/synapse-configs/default/sequences")


class Site:
    """Three gateways, of which gw3 is an installation that has a sequence `fault`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.one: Place = stack.enter_context(place(folder / "one", labels=[LABEL]))
        self.up = self.one.role("up").start()
        self.gateways: dict[str, Role] = {}
        for name in ("gw2", "gw3"):
            other = stack.enter_context(
                place(folder / name, node=name, labels=[LABEL], publisher=self.one.publisher)
            )
            self.one.give_token(other, LABEL)
            if name == "gw3":
                (other.folder / SEQUENCES).mkdir(parents=True)
                (other.folder / SEQUENCES / "fault.xml").write_bytes(sequence_xml("fault"))
            self.gateways[name] = other.role("gateway").start()
        until(lambda: set(self.states()) == {"gw1", "gw2", "gw3"}, "all are known")
        for name in ("fault", "notice"):
            (self.one.folder / f"{name}.xml").write_bytes(sequence_xml(name, "logged"))

    def states(self) -> dict[str, bool]:
        """Who is known, and whether it is lost."""
        answer = self.one.ask("/v1/gateways").json()
        return {each["node"]: each["lost"] for each in answer["gateways"]}

    def lose(self) -> None:
        """gw2 is killed; and the publisher is started again, which remembers it."""
        self.gateways["gw2"].stop(signal.SIGKILL)
        until(lambda: self.states()["gw2"], "gw2 is lost")
        self.up.stop()
        self.up = self.one.role("up").start()
        until(lambda: self.states() == {"gw1": False, "gw2": True, "gw3": False}, "all are known")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("receipts"), stack)


def blocks(page: str) -> list[list[str]]:
    """The page's transcripts about gw3's cluster, each as its lines without the indent."""
    found: list[list[str]] = [[]]
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("    "):
            found[-1].append(line[4:])
        elif found[-1] and line:
            found.append([])
    return [each for each in found if each and any("gw3" in line for line in each)]


def steady(line: str) -> str:
    """The line without what differs from run to run: times, hosts, sizes of columns."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "WHEN", line)
    line = re.sub(r"\(\S+@\S+\)", "(SENDER)", line)
    line = re.sub(r"\b\d+(\.\d+)? (ms|s|min|h)\b", "TIME", line)
    line = re.sub(r"attempt \d+", "attempt N", line)
    return re.sub(r" +", " ", line).rstrip()


def run_again(site: Site, block: list[str]) -> list[str]:
    printed: list[str] = []
    for line in block:
        if line.startswith("$ "):
            done = site.one.run(*shlex.split(line.removeprefix("$ gatesync ")))
            printed += [line, *(done.err + done.out).splitlines()]
    return printed


@pytest.mark.promise(9)
def test_the_page_shows_what_the_commands_print(site: Site) -> None:
    refused, where, lost = blocks("docs/receipts.md")
    for block in (refused, where):
        assert [steady(each) for each in run_again(site, block)] == [steady(e) for e in block]
    site.lose()
    assert [steady(each) for each in run_again(site, lost)] == [steady(each) for each in lost]


def test_the_readme_shows_the_beginning_of_the_page() -> None:
    [shown] = blocks("README.md")
    assert shown == blocks("docs/receipts.md")[0][: len(shown)]
