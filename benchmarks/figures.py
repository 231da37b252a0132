"""What a benchmark tells: lines of JSON, one a figure, each judged by its target where it has one.

    print_figure("proof", "compare a label of 100,000", milliseconds(took), target=TARGET)

A target stands beside what it is about, in the benchmark's own file, with the reason that is told
where it is missed. Whoever misses it says the floor, too: a figure of the same run which shows
what it is that stops us.
"""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

__all__ = [
    "Peer",
    "Target",
    "cpu_model",
    "machine",
    "milliseconds",
    "print_figure",
    "print_skipped",
]


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a figure is to be.

    Attributes:
        figure: its name in the line: `ratio`, `p50`...
        at_most: it is met up to and with this.
        at_least: it is met from this on.
        why: what stops us, told only where it is missed.
    """

    figure: str
    at_most: float | None = None
    at_least: float | None = None
    why: str = ""

    def is_met(self, value: float) -> bool:
        """Whether a measured value is what it is to be."""
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


class Peer(msgspec.Struct, frozen=True):
    """Somebody else's program that was measured in the same run, and how it was set up."""

    name: str
    version: str = ""
    settings: dict[str, str] = {}


def print_figure(
    benchmark: str,
    what: str,
    /,
    *,
    target: Target | None = None,
    floor: Any = None,
    peer: Peer | None = None,
    **figures: Any,
) -> None:
    """Print a line for one figure.

    Args:
        benchmark: its name, as `make bench NAME=...` takes it.
        what: was measured, in words, with its unit where the figures do not say it.
        target: what it is to be, of one of the figures.
        floor: measured in the same run, and what stops us; told where the target is missed.
        peer: whose program `limit` is, or the whole line.
        figures: `p50`, `p99`, `max` or `value`, `unit`, `n`, `bytes`, `limit`, `ratio`, and
            whatever else tells one line of a benchmark from another.
    """
    line: dict[str, Any] = {"benchmark": benchmark, "what": what, **figures}
    if target is not None:
        wanted = msgspec.to_builtins(target)
        wanted.pop("why", None)
        line["target"] = wanted
        line["met"] = target.is_met(figures[target.figure])
        if not line["met"]:
            line |= {"floor": floor, "why": target.why}
    if peer is not None:
        line["peer"] = msgspec.to_builtins(peer)
    print(json.dumps(line | {"machine": machine()}, ensure_ascii=False), flush=True)


def print_skipped(benchmark: str, what: str, reason: str, peer: Peer | None = None) -> None:
    """Print that something was not measured here, and why."""
    line: dict[str, Any] = {"benchmark": benchmark, "what": what, "skipped": reason}
    if peer is not None:
        line["peer"] = msgspec.to_builtins(peer)
    print(json.dumps(line | {"machine": machine()}, ensure_ascii=False), flush=True)


def milliseconds(values: Sequence[float]) -> dict[str, Any]:
    """p50, p99 and max of measured milliseconds, rounded to microseconds, and how many they are."""
    ordered = sorted(values)
    at99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "unit": "ms",
        "p50": round(statistics.median(ordered), 3),
        "p99": round(at99, 3),
        "max": round(ordered[-1], 3),
        "n": len(ordered),
    }


def machine() -> dict[str, Any]:
    """What this was measured on; nothing that tells whose machine it is."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """The processor's name, as the kernel tells it; empty where it does not."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    lines = [line for line in told.splitlines() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else ""
