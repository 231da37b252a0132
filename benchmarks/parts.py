"""What the benchmarks share: artifacts of a given size, processes, and one line of JSON."""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from figures import machine
from gatesync.artifacts import canonical
from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.synapse import SYNAPSE_NAMESPACE
from gatesync.cli.session import Target, call
from gatesync.config import Secret
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import HttpClient

__all__ = [
    "artifact_of",
    "cpu_seconds",
    "free_port",
    "print_result",
    "publish_all",
    "quantiles",
    "role",
    "wait_until",
]

GATESYNC = str(Path(sys.executable).parent / "gatesync")


def artifact_of(number: int, size: int = 4096, edit: int = 0) -> Artifact:
    """An API whose canonical form has exactly `size` bytes; `edit` makes another content.

    It is as XML is, and compresses as that does: 4 kB to some 1.5 kB.
    """
    name = f"Bench{number:06d}API"

    def make(filler: str) -> Artifact:
        xml = (
            f'<api xmlns="{SYNAPSE_NAMESPACE}" name="{name}" context="/bench/{number}" '
            f'version="1.0.0"><resource methods="GET" uri-template="/*"><inSequence>'
            f"<!-- {edit:08d} {filler} --><respond/></inSequence></resource></api>"
        )
        part = Part("api", name, f"api/{name}.xml", xml.encode())
        identity = Identity(SUPER_TENANT, "api", name, "1.0.0")
        return Artifact(identity, identity.default_api_id(), (part,))

    return make(_filler(size - len(canonical.encode(make(""))), number * 1_000_003 + edit))


@cache
def _words() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    chance = random.Random(1)
    return ["".join(chance.choices(letters, k=chance.randint(4, 9))) for _ in range(5_000)]


def _filler(length: int, seed: int) -> str:
    """So many characters of properties with values, none of which JSON writes in another way."""
    words = iter(random.Random(seed).choices(_words(), k=length // 10 + 4))
    lines = (
        f"<property name='{a}' value='{b} {c} {d}'/>"
        for a, b, c, d in zip(*[words] * 4, strict=False)
    )
    return "".join(lines).ljust(length, ".")[:length]


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max of measured milliseconds, rounded to microseconds."""
    ordered = sorted(values)
    at99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(at99, 3),
        "max": round(ordered[-1], 3),
    }


def print_result(benchmark: str, **figures: Any) -> None:
    """Print one line of JSON with the machine that it was measured on."""
    print(json.dumps({"benchmark": benchmark, **figures, "machine": machine()}), flush=True)


def publish_all(client_file: Path, label: str, artifacts: int, size: int) -> None:
    """Publish so many artifacts of `size` bytes to one label, 500 in a request."""
    known = tomllib.loads(client_file.read_text())
    target = Target((known["publisher"],), Secret(known["token"]))
    contents = [canonical.encode(artifact_of(n, size)) for n in range(artifacts)]

    async def work(client: HttpClient) -> None:
        for start in range(0, len(contents), 500):
            items = [{"artifact": msgspec.Raw(each)} for each in contents[start : start + 500]]
            await client.post("/v1/changes", {"labels": [label], "publish": items}, ChangeAnswer)

    call(target, work)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process: fields 14 and 15 of /proc/PID/stat, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(url: str, seconds: float = 60.0) -> None:
    """Wait until a health URL answers with 200."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


@contextmanager
def role(name: str, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `gatesync NAME --config FILE` while the block runs."""
    with ExitStack() as stack:
        out = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [GATESYNC, name, "--config", str(config)], stdout=out, stderr=out, cwd=config.parent
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
