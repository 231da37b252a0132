"""What `gatesync rsync install` prints is what cron and systemd take, whatever paths are in it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gatesync.artifacts.errors import Problem
from gatesync.cli.rsync_install import cron_line, systemd_unit
from tests.servers.gatesync import GATESYNC

pytestmark = pytest.mark.fast

AWKWARD = "a b'c\"d%e$f\\g;h&i"


def verified(unit: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", "verify", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_cron_runs_exactly_these_words_in_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / AWKWARD
    folder.mkdir()
    line = cron_line(["printf", "%s\\n", "--once", AWKWARD, ""], str(folder))
    schedule, _, command = line.partition(" cd ")
    assert schedule == "* * * * *"
    # What cron does with it: a % that is not escaped ends the line, then it goes to sh.
    assert "%" not in command.replace("\\%", "")
    shell = "cd " + command.replace("\\%", "%") + "; pwd"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout == f"--once\n{AWKWARD}\n\n{folder}\n"


@pytest.mark.parametrize(
    ("seconds", "schedule"),
    [
        (60, "* * * * *"),
        (300, "*/5 * * * *"),
        (1800, "*/30 * * * *"),
        (3600, "0 * * * *"),
        (7200, "0 */2 * * *"),
        (86400, "0 0 * * *"),
    ],
)
def test_cron_is_told_how_often(seconds: float, schedule: str) -> None:
    assert cron_line(["true"], "/", seconds) == f"{schedule} cd / && true"


@pytest.mark.parametrize("seconds", [0.5, 30, 90, 7 * 60, 100 * 60, 2 * 86400])
def test_what_cron_cannot_do_is_refused(seconds: float) -> None:
    with pytest.raises(Problem, match="--systemd"):
        cron_line(["true"], "/", seconds)


@pytest.mark.parametrize("word", ["a\nb", "a\0b", "\x1b[2J"])
def test_no_path_begins_a_line_of_its_own(word: str) -> None:
    with pytest.raises(Problem, match="control character"):
        cron_line(["true", word], "/")
    for command, folder in ((["true", word], "/"), (["true"], word)):
        with pytest.raises(Problem, match="control character"):
            systemd_unit(command, folder, "root")


def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    command = [str(GATESYNC), "rsync", "--watch", "--workers", "/etc/list.txt", "--source", AWKWARD]
    unit = tmp_path / "gatesync-rsync.service"
    unit.write_text(systemd_unit(command, str(tmp_path / "a b 100%"), "root"))
    done = verified(unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectSystem=full", "ProtectSystem=fll"))
    assert "fll" in verified(unit).stderr


def test_systemd_runs_exactly_these_words() -> None:
    unit = systemd_unit(["/bin/x", AWKWARD, "", "plain-1.2/3"], "/", "someone")
    [line] = [each for each in unit.splitlines() if each.startswith("ExecStart=")]
    assert line == 'ExecStart=/bin/x "a b\'c\\"d%%e$$f\\\\g;h&i" "" plain-1.2/3'
