"""The demo of rsync: its last line, and what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.test_demo import DEMO, processes_about
from tests.stores.budget import BUDGET

if BUDGET >= 1:  # `make test`, `make long`; CI has 20 minutes for all

    @pytest.mark.timeout(280)
    def test_the_demo_of_rsync_ends_in_step_and_leaves_nothing(tmp_path: Path) -> None:
        folder = tmp_path / "demo"
        command = [sys.executable, str(DEMO), "--mechanism", "rsync", "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=270, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary.pop("last_worker_ms") > 0
        assert summary == {"ok": True, "workers": 4, "in_step": 4}
        assert not folder.exists()
        assert processes_about(folder) == []
