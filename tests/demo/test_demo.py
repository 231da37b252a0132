"""The demo itself, with fewer artifacts: its last line, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.stores.budget import BUDGET

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo"
# The servers are shown where there is time: `make test`, `make long`. CI has 20 minutes for all.
EVERY = "sqlite,postgresql,mariadb,git" if BUDGET >= 1 else "sqlite"
DATABASES = (os.environ.get("GATESYNC_TEST_DB") or EVERY).split(",")


@pytest.mark.promise(1)
@pytest.mark.promise(3)
@pytest.mark.timeout(170)
@pytest.mark.parametrize("database", DATABASES)
def test_the_short_demo_loses_nothing_and_leaves_nothing(tmp_path: Path, database: str) -> None:
    folder = tmp_path / "demo"
    store = ["--store", "git"] if database == "git" else ["--database", database]
    options = ["--quick", "--folder", str(folder), *store]
    command = [sys.executable, str(DEMO), *options]

    done = subprocess.run(command, capture_output=True, text=True, timeout=160, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (f"   {database} " in done.stdout) == (database != "sqlite")
    for name in ("publish_to_all_ms", "publish_to_answer_ms"):
        latency = summary.pop(name)
        assert 0 < latency["p50"] <= latency["p99"]
    if database == "git":
        pushed = summary.pop("push_to_all_ms")
        assert all(0 < pushed[way]["p50"] for way in ("poll", "webhook"))
    assert summary.pop("calls") > 100
    assert summary == {"ok": True, "artifacts": 16, "gateways": 3, "in_step": 3, "lost": 0}
    assert not folder.exists()
    assert processes_about(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_its_processes_end_with_it(tmp_path: Path, number: int) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    folder = tmp_path / "demo"
    command = [sys.executable, str(DEMO), "--quick", "--folder", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        started = next(line for line in demo.stdout if "all ready" in line or "{" in line)
        assert "all ready" in started
        assert len(processes_about(folder)) >= 7  # the demo, its five, the broker
        demo.send_signal(number)
        said = demo.stdout.read()
        demo.wait(timeout=30)

    deadline = time.monotonic() + 20
    while processes_about(folder) and time.monotonic() < deadline:
        time.sleep(0.05)  # they are not ours to wait for
    assert processes_about(folder) == []
    if number != signal.SIGKILL:
        assert demo.returncode == 1
        assert json.loads(said.splitlines()[-1])["ok"] is False
        assert not folder.exists()


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    command = [sys.executable, str(DEMO), "--folder", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert (tmp_path / "mine").read_text() == "keep"


def processes_about(folder: Path) -> list[str]:
    """Whatever runs with this folder in its command line."""
    lines = (" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(folder) in line]
