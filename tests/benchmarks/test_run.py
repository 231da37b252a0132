"""The benchmarks still run: small, and without a look at their figures. And what runs them all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stores.budget import BUDGET

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import report  # noqa: E402 - it stands in the benchmarks' own folder
import run  # noqa: E402

MACHINE = {
    "cores": 2,
    "memory_gb": 8.0,
    "cpu": "",
    "python": "3.11.7",
    "kernel": "6.1",
    "system": "Linux x86_64",
}
SECONDS = 100


RUN = ["catching_up", "proof", "propagation", "reading_rights", "signing", "starting_together"]
if BUDGET >= 1:  # each of these starts several processes
    RUN += ["cold_start", "envoy_serving", "idle_gateway"]


@pytest.mark.parametrize("name", RUN)
def test_it_prints_what_it_measured(name: str) -> None:
    (benchmark,) = (each for each in run.BENCHMARKS if each.name == name)
    assert benchmark.quick is not None
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *benchmark.quick],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert {line["benchmark"] for line in lines} == {name}
    assert all("skipped" not in line for line in lines), lines
    assert all({"floor", "why"} <= line.keys() for line in lines if line.get("met") is False)


def test_who_names_one_that_is_not_there_is_told_which_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "propagations"])
    assert run.main() == 2
    said = capsys.readouterr().out
    assert "'propagations'" in said
    assert "propagation, fleet" in said


def test_one_that_does_not_end_in_its_time_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    _, failed = run._lines_of(command, 1.0)
    assert failed == "it did not end in 1 s"


def test_what_else_is_printed_is_no_figure_and_a_failure_is_told() -> None:
    text = "print('{\"benchmark\": \"a\"}'); print('something else'); raise SystemExit(3)"
    lines, failed = run._lines_of([sys.executable, "-c", text], SECONDS)
    assert lines == [{"benchmark": "a"}]
    assert failed == "it ended with 3"


def test_when_the_time_of_all_is_over_the_rest_is_not_run() -> None:
    ran = run._run(run.BENCHMARKS[0], 0.0, quick=True)
    assert [line["skipped"] for line in ran["lines"]] == ["the time of all was over"]


def test_figures_of_one_take_the_place_of_its_last_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "versions", dict[str, str])
    monkeypatch.setattr(run, "machine", lambda: MACHINE)
    path = tmp_path / "benchmarks" / "results.json"

    def ran(name: str, value: int) -> dict[str, Any]:
        line = {"benchmark": name, "what": "a thing", "value": value}
        return {
            "name": name,
            "about": "",
            "command": name,
            "date": "2026-01-02 03:04 UTC",
            "seconds": 1.0,
            "busy_cores_before": 0.0,
            "failed": "",
            "lines": [line],
        }

    run._keep(path, [ran("proof", 1), ran("fleet", 1)], merge=False)
    run._keep(path, [ran("proof", 2)], merge=True)
    kept = json.loads(path.read_text())["benchmarks"]
    assert [(each["name"], each["lines"][0]["value"]) for each in kept] == [
        ("fleet", 1),
        ("proof", 2),
    ]
    report.write(path)
    assert "| `proof`: a thing | 2 |" in path.with_name("README.md").read_text()
