"""docs/shared-file-system.md shows configurations that can be used, and what commands print."""

import re
import shlex
from pathlib import Path

from gatesync.config import load
from tests.servers.gatesync import run

PAGE = Path(__file__).parents[2] / "docs" / "shared-file-system.md"
_EPOCH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_the_configurations_can_be_used_and_the_commands_print_what_is_shown(
    tmp_path: Path,
) -> None:
    text = PAGE.read_text()
    share, config = tmp_path / "apim", tmp_path / "deployment.toml"
    share.mkdir()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    for block in reversed(blocks):  # the publisher's stays
        config.write_text(block.replace("/mnt/apim", str(share)))
        source = load(config).settings.share.source
        assert source is not None
        assert source.path == share
    shown = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    commands = [line for line in shown if line.startswith("$ ")]
    assert [line.split()[2] for line in commands] == ["share", "publisher"]
    for command in reversed(commands):  # before the share is made it is not there
        done = run(tmp_path, *shlex.split(command)[2:])
        said = _EPOCH.sub("EPOCH", (done.err + done.out).replace(str(share), "/mnt/apim"))
        after = shown[shown.index(command) + 1]
        assert _EPOCH.sub("EPOCH", after) == said.splitlines()[0]
