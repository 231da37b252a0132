"""docs/envoy.md shows what the commands really print, and names what is counted."""

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.envoy.test_gateway import with_envoy
from tests.servers.gatesync import ask, place

PAGE = Path(__file__).parents[2] / "docs" / "envoy.md"
OLD = """\
<api xmlns="http://ws.apache.org/ns/synapse" name="OldAPI" context="/old">
  <resource methods="GET">
    <inSequence>
      <script language="js">mc.setProperty("a", 1)</script>
      <respond/>
    </inSequence>
  </resource>
</api>
"""


def steady(line: str) -> str:
    """The line without what differs from run to run."""
    line = re.sub(r"after [\d.]+ m?s", "after TIME", line)
    return re.sub(r"\(attempt \d+, next in [^)]*\)", "(AGAIN)", line).rstrip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short name, in which there is room for sockets."""
    with tempfile.TemporaryDirectory(prefix="gatesync-") as name:
        yield Path(name)


def test_the_page_shows_what_the_commands_print(folder: Path) -> None:
    page = PAGE.read_text()
    served, _, _ = page.partition("## What an acknowledgement means")
    shown = [line[4:] for line in served.splitlines() if line.startswith("    ")]
    transcript = shown[shown.index("$ gatesync publish menu.xml --label Production --wait 1") :]
    assert len(transcript) > 10
    xml = page.partition("```xml\n")[2].partition("```")[0]
    with place(folder, labels=["Production"]) as cluster:
        url = with_envoy(cluster)
        (folder / "menu.xml").write_text(xml)
        (folder / "old.xml").write_text(OLD)
        cluster.role("up").start()
        printed: list[str] = []
        for line in transcript:
            command = shlex.split(line.removeprefix("$ "))
            if line.startswith("$ gatesync"):
                done = cluster.run(*command[1:])
                printed += [line, *(done.out + done.err).splitlines()]
            elif line.startswith("$ curl"):
                path = command[-1].partition(":8280")[2]
                printed += [line, *ask(url, path).body.decode().splitlines()]
        assert [steady(line) for line in printed] == [steady(line) for line in transcript]

        admin = cluster.data / "envoy" / "admin.sock"
        assert admin.is_socket()
        assert admin.parent.stat().st_mode & 0o777 == 0o700
        assert oct(admin.stat().st_mode & 0o777) == "0o600"
        counted = ask(cluster.gateway, "/metrics", token=cluster.admin_token()).body.decode()
        ours = set(re.findall(r"^(gatesync_gateway_envoy_\w+)", counted, re.MULTILINE))
        assert ours == set(re.findall(r"`(gatesync_gateway_envoy_\w+)`", page))
