"""The benchmarks that start processes still run: small, and without a look at their figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cold_start", ("--artifacts", "20", "--rounds", "1")),
        ("reading_rights", ("--artifacts", "20", "--requests", "20", "--rounds", "1")),
        ("signing", ("--artifacts", "20", "--changes", "20", "--rounds", "1", "--starts", "0")),
        ("idle_gateway", ("--artifacts", "20", "--seconds", "1")),
        ("envoy_serving", ("--apis", "5", "--publishes", "3", "--seconds", "0")),
    ],
)
def test_it_prints_what_it_measured(name: str, options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert {line["benchmark"] for line in lines} == {name}
