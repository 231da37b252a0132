"""The demo of a shared file system: its last line, and what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.test_demo import DEMO, processes_about
from tests.stores.budget import BUDGET

if BUDGET >= 1:  # CI has 20 minutes for all

    @pytest.mark.promise(6)
    @pytest.mark.timeout(170)
    def test_the_demo_of_a_share_ends_in_step_and_leaves_nothing(tmp_path: Path) -> None:
        folder = tmp_path / "demo"
        command = [sys.executable, str(DEMO), "--mechanism", "shared", "--quick"]
        command += ["--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=160, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        expected = {"ok": True, "artifacts": 13, "gateways": 3, "in_step": 3, "tree": True}
        assert summary == expected
        assert not folder.exists()
        assert processes_about(folder) == []
