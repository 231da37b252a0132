"""systemd takes the units as they are, and what they forbid is not needed."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.gatesync import EXAMPLES, GATESYNC, LABEL, ask, place, run, until

FOLDER = Path(__file__).parents[2] / "packaging" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
INSTALLED = "/opt/gatesync/bin/gatesync"
EXPOSURE = 20  # tenths, of 100: what `systemd-analyze security` calls OK
RESTRICTIONS = "# What it may do"

# From prctl(2): memory that can be written cannot be made executable, here and in children.
LOCKED = """
import ctypes, mmap, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0:  # a kernel before 6.3 does not know it
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        sys.exit("it is not in force")
    except PermissionError:
        pass
os.execv(sys.argv[1], sys.argv[1:])
"""


def systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def directives(unit: Path) -> list[tuple[str, str]]:
    lines = (line.partition("=") for line in unit.read_text().splitlines() if line[:1].isalpha())
    return [(name, value) for name, _, value in lines]


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, with a program that is there."""
    for unit in UNITS:
        text = unit.read_text()
        assert text.count(INSTALLED) == 1
        (tmp_path / unit.name).write_text(text.replace(INSTALLED, str(GATESYNC)))
    return sorted(tmp_path.glob("*.service"))


@pytest.mark.fast
def test_systemd_has_nothing_to_say_against_the_units(installed: list[Path]) -> None:
    assert {unit.stem for unit in installed} == {
        "gatesync-publisher",
        "gatesync-gateway",
        "gatesync-traffic-manager",
    }
    done = systemd_analyze("verify", *installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.fast
def test_the_verdict_of_systemd_is_not_empty(installed: list[Path]) -> None:
    broken = installed[0]
    broken.write_text(broken.read_text().replace("ProtectSystem=strict", "ProtectSystem=strct"))
    assert "strct" in systemd_analyze("verify", broken).stderr


@pytest.mark.fast
def test_backoff_is_in_a_drop_in_since_systemd_knows_it_from_254_on(tmp_path: Path) -> None:
    version = re.match(r"systemd (\d+)", systemd_analyze("--version").stdout)
    assert version
    unit = tmp_path / "gatesync-x.service"
    text = (FOLDER / "gatesync-.service.d" / "backoff.conf").read_text()
    unit.write_text(f"{text}ExecStart=/bin/true\nRestart=on-failure\nRestartSec=5\n")
    done = systemd_analyze("verify", unit)
    assert done.returncode == 0
    assert ("Unknown key" in done.stderr) == (int(version[1]) < 254), done.stderr


@pytest.mark.fast
def test_a_service_can_do_little_harm(installed: list[Path]) -> None:
    options = ("--offline=true", f"--threshold={EXPOSURE}")
    done = systemd_analyze("security", *options, *installed)
    assert done.returncode == 0, done.stdout


@pytest.mark.fast
def test_what_is_forbidden_is_the_same_for_each_role() -> None:
    parts = [unit.read_text().partition(RESTRICTIONS)[2] for unit in UNITS]
    assert all(parts)
    assert len({re.sub(r"UMask=\d+", "", part) for part in parts}) == 1


@pytest.mark.fast
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_there_is(unit: Path, tmp_path: Path) -> None:
    (start,) = (value for name, value in directives(unit) if name == "ExecStart")
    program, role, option, _ = start.split()
    assert (program, unit.stem) == (INSTALLED, f"gatesync-{role}")
    done = run(tmp_path, role, "--help")
    assert done.code == 0
    assert option in done.out


@pytest.mark.fast
def test_no_directive_is_said_twice() -> None:
    twice = {"SystemCallFilter"}  # the second takes from the first
    for unit in UNITS:
        names = [name for name, _ in directives(unit) if name not in twice]
        assert len(names) == len(set(names)), unit.name
        assert configparser.ConfigParser(strict=False, interpolation=None).read(unit)


def test_every_role_runs_where_memory_is_never_both_written_and_executed(tmp_path: Path) -> None:
    with place(tmp_path) as where, (tmp_path / "up.log").open("wb") as log:
        command = [sys.executable, "-c", LOCKED, str(GATESYNC), "up", "--config", str(where.config)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)

        def is_ready() -> bool:
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            try:
                return ask(where.gateway, "/health/ready").status == 200
            except OSError:
                return False

        try:
            until(is_ready, "the gateway is ready")
            options = ("--label", LABEL, "--wait", "all")
            assert where.run("publish", EXAMPLES / "menu", *options).code == 0
        finally:
            process.terminate()
            assert process.wait(30) == 0
