"""Every decoder that strangers' bytes reach refuses what is wrong: no crash, no hang, no flood.

Each is fed in a process of its own, whose memory is limited and which a hang ends (`run`). The
seeds are fixed, so that a build fails for what changed in it; `make fuzz` looks at others.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatesync.artifacts.compression import compress
from gatesync.artifacts.errors import FormatError
from gatesync.stores.wire import unpack_contents
from tests.fuzz.run import LEAST, MEMORY_BYTES
from tests.fuzz.targets import TARGETS
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.promise(8)

SEED = os.environ.get("GATESYNC_FUZZ_SEED", "1")
SECONDS = 1.0 * BUDGET
MIB = 1024 * 1024


@pytest.mark.timeout(120 + 2 * SECONDS)
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_comes_is_read_or_refused(target: str, tmp_path: Path) -> None:
    place = tmp_path / "number"
    place.touch()
    command = [sys.executable, "-m", "tests.fuzz.run", target, SEED]
    done = subprocess.run(
        [*command, str(SECONDS), str(place)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    number = int.from_bytes(place.read_bytes(), "little")
    again = f"look at it with: python -m tests.fuzz.run {target!r} {SEED} {number}"
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{again}"
    told = json.loads(done.stdout)
    print(done.stdout)
    assert told["inputs"] >= LEAST
    assert told["memory_mib"] * MIB < MEMORY_BYTES


@pytest.mark.fast
def test_a_frame_whose_names_are_no_text_is_refused() -> None:
    with pytest.raises(FormatError, match="not contents"):
        unpack_contents(compress(b"\x81\xa1\xff\xc4\x00"), MIB)
