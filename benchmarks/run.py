"""Run all benchmarks, or those that are named, one after the other: each prints lines of JSON.

    python -m benchmarks.run                    all of them, into docs/benchmarks/, in 20 minutes
    python -m benchmarks.run proof fleet        two of them; nothing is kept
    python -m benchmarks.run --save proof       one of them, in the place of its last figures
    python benchmarks/peers.py install          what is measured beside ours, before the first run
    python -m benchmarks.run --quick            each in seconds, to see that they run; none is kept

Whoever commits figures has a machine for himself: how busy it was before each benchmark is kept,
too. A benchmark that does not end in its time is ended, and that is told in the place of figures;
all together have 20 minutes.
"""

import argparse
import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))  # for `python -m benchmarks.run`
import report
from figures import machine
from versions import versions

HERE = Path(__file__).parent
WHOLE_SECONDS = 20 * 60 - 15.0
GRACE_SECONDS = 10.0


class Benchmark(msgspec.Struct, frozen=True):
    """A file of this folder, and how it is run.

    Attributes:
        name: of the file.
        seconds: its time; then it is ended.
        full: arguments where all are run; they fit into 20 minutes together.
        quick: arguments with which it ends in seconds; None where it cannot.
    """

    name: str
    seconds: float
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None


FEW = ("--artifacts", "20")
SHORT = ("--rounds", "1")

BENCHMARKS = (
    Benchmark("propagation", 150, quick=("--gateways", "1", "--rounds", "3")),
    Benchmark("fleet", 180),
    Benchmark("against_opal", 240),
    Benchmark("against_etcd", 60, quick=("--watchers", "2", "--rounds", "3")),
    Benchmark("against_lsyncd", 90, quick=("--targets", "1", *SHORT)),
    Benchmark("cold_start", 300, quick=(*FEW, *SHORT)),
    Benchmark(
        "starting_together", 150, quick=(*FEW, *SHORT, "--gateways", "3", "--processes", "1")
    ),
    Benchmark("catching_up", 120, quick=(*FEW, "--db", "sqlite", "--few", "5", "--rounds", "3")),
    Benchmark("sql_store", 150, full=("--sizes",)),
    Benchmark(
        "idle_gateway",
        120,
        full=("--seconds", "30"),
        quick=(*FEW, "--seconds", "0.5", "--settle", "0"),
    ),
    Benchmark(
        "envoy_serving",
        150,
        full=("--apis", "10000"),
        quick=("--apis", "5", "--publishes", "3", "--seconds", "0"),
    ),
    Benchmark("proof", 60, quick=(*FEW, "--few", "5", "--rounds", "20")),
    Benchmark("rsync", 90),
    Benchmark("git_store", 120),
    Benchmark("large_publish", 90),
    Benchmark(
        "receipts",
        90,
        full=("--rounds", "3"),
        quick=("--gateways", "5", "--publishes", "20", *SHORT),
    ),
    Benchmark(
        "reading_rights", 60, full=("--rounds", "3"), quick=(*FEW, "--requests", "20", *SHORT)
    ),
    Benchmark(
        "signing",
        90,
        full=("--rounds", "3", "--starts", "0"),
        quick=(*FEW, "--changes", "20", "--starts", "0", *SHORT),
    ),
)


def main() -> int:
    """Run them; answers with 1 where one failed, and with 2 for a name that nobody has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, unless some are named")
    parser.add_argument("--quick", action="store_true", help="each in seconds")
    parser.add_argument("--save", action="store_true", help="keep the figures of those named")
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="the file with all")
    options = parser.parse_args()
    known = {each.name: each for each in BENCHMARKS if (HERE / f"{each.name}.py").exists()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are {', '.join(known)}")
        return 2
    chosen = [known[name] for name in options.names] or list(known.values())
    deadline = time.monotonic() + WHOLE_SECONDS
    ran = [
        _run(each, deadline, quick=options.quick)
        for each in chosen
        if not options.quick or each.quick
    ]
    kept = (options.save or not options.names) and not options.quick
    if kept:
        _keep(options.output, ran, merge=bool(options.names))
        report.write(options.output)
    return int(any(each["failed"] for each in ran))


def _run(benchmark: Benchmark, deadline: float, *, quick: bool) -> dict[str, Any]:
    """Run one, in its time and in that of all; answers with its lines, and how it went."""
    arguments = benchmark.quick if quick and benchmark.quick else benchmark.full
    command = [sys.executable, str(HERE / f"{benchmark.name}.py"), *arguments]
    busy = _busy_cores()
    started = time.monotonic()
    most = min(benchmark.seconds, deadline - GRACE_SECONDS - started)
    lines, failed = _lines_of(command, most) if most > 0 else ([], "the time of all was over")
    seconds = time.monotonic() - started
    if failed:
        lines.append({"benchmark": benchmark.name, "what": "all of it", "skipped": failed})
        print(json.dumps(lines[-1]), flush=True)
    return {
        "name": benchmark.name,
        "about": _docstring(HERE / f"{benchmark.name}.py"),
        "command": " ".join(["python", f"benchmarks/{benchmark.name}.py", *arguments]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds, 1),
        "busy_cores_before": busy,
        "failed": failed,
        "lines": lines,
    }


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def _lines_of(command: Sequence[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """What it printed, shown at once; and why it failed, or an empty text."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=HERE.parent
    )
    assert process.stdout is not None
    timer = _Timer(process, seconds)
    lines: list[dict[str, Any]] = []
    with process, timer:
        for line in process.stdout:
            print(line, end="", flush=True)
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # a program that it started said something
        code = process.wait()
    if timer.ended:
        return lines, f"it did not end in {seconds:g} s"
    return lines, f"it ended with {code}" if code else ""


class _Timer:
    """Ends what a process started, when its time is up: politely, then not."""

    def __init__(self, process: "subprocess.Popen[str]", seconds: float) -> None:
        self.ended = False
        self._process = process
        self._timers = [
            threading.Timer(seconds, self._end, [signal.SIGINT]),
            threading.Timer(seconds + GRACE_SECONDS, self._end, [signal.SIGKILL]),
        ]

    def __enter__(self) -> None:
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def _end(self, number: signal.Signals) -> None:
        self.ended = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)  # the session is its own


def _busy_cores() -> float:
    """How many cores others kept busy during a second: of /proc/stat, all but idle and waiting."""

    def ticks() -> int:
        fields = [
            int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ]
        return sum(fields[:8]) - fields[3] - fields[4]

    before = ticks()
    time.sleep(1)
    return round((ticks() - before) / os.sysconf("SC_CLK_TCK"), 2)


def _keep(path: Path, ran: Sequence[dict[str, Any]], *, merge: bool) -> None:
    """Write them; a merge puts each in the place of its last figures."""
    kept: list[dict[str, Any]] = []
    if merge and path.exists():
        kept = json.loads(path.read_text())["benchmarks"]
    by_name = {each["name"]: each for each in kept} | {each["name"]: each for each in ran}
    order = [each.name for each in BENCHMARKS]
    benchmarks = sorted(by_name.values(), key=lambda each: order.index(each["name"]))
    results = {
        "format": report.FORMAT,
        "machine": machine(),
        "versions": versions(),
        "benchmarks": benchmarks,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
