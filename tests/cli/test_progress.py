"""Long work shows progress on a terminal, and is silent in a pipe."""

import contextlib
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.servers.gatesync import GATESYNC, LABEL, TIMEOUT, Place, environment, sequence_xml


@pytest.fixture
def tree(tmp_path: Path, name: str) -> Path:
    """Two artifacts: the least that there is progress in."""
    sequences = tmp_path / "configs" / "sequences"
    sequences.mkdir(parents=True)
    for each in (f"{name}a", f"{name}b"):
        (sequences / f"{each}.xml").write_bytes(sequence_xml(each))
    return sequences.parent


def on_a_terminal(cluster: Place, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, and what a terminal that is standard error was sent."""
    terminal, stderr = pty.openpty()
    shown = b""
    try:
        with subprocess.Popen(
            [GATESYNC, *arguments],
            cwd=cluster.folder,
            env=environment(TERM="xterm", COLUMNS="100"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process:
            os.close(stderr)
            with contextlib.suppress(OSError):  # as Linux tells that nobody writes to it any more
                while some := os.read(terminal, 65_536):
                    shown += some
            out, _ = process.communicate(timeout=TIMEOUT)
    finally:
        os.close(terminal)
    return process.returncode, out.decode(), shown.decode()


def test_publishing_shows_a_bar_that_fills_and_is_gone_in_the_end(
    cluster: Place, tree: Path, name: str
) -> None:
    code, out, shown = on_a_terminal(cluster, "publish", tree, "-l", LABEL, "--wait", "all")
    assert code == 0, shown
    assert out.startswith(f"published sequence {name}a")
    assert "publishing" in shown
    assert shown.index("  0%") < shown.index("100%")
    assert "1 of 1 gateways have it" in shown
    assert shown.rstrip("\r").endswith("\x1b[2K"), "the last line is erased"


def test_json_has_the_terminal_to_itself(cluster: Place, tree: Path) -> None:
    code, out, shown = on_a_terminal(cluster, "publish", tree, "-l", LABEL, "--json")
    assert code == 0, shown
    assert out.startswith("{")
    assert shown == ""


def test_in_a_pipe_nothing_is_said_on_the_side(cluster: Place, tree: Path) -> None:
    done = cluster.run("publish", tree, "-l", LABEL, "--wait", "all", TERM="xterm")
    assert done.code == 0
    assert done.err == ""
    assert "\x1b" not in done.out
