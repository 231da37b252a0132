"""A gateway starts with 10,000 artifacts: from its own disk and over HTTP, seconds and peak memory.

Real processes. Over HTTP the node's folder is empty, and a publisher on SQLite is up; from the
cache nobody else is. The clock runs from the start of the process until it tells its service
manager that it is ready, which is when everything in its first lists is deployed. `empty` is the
same with a label that holds nothing, in turn: Python and the libraries. The ratio is without that.

The limit, in the same run: read the same bytes with Python's own sqlite3 from the file that the
cache is, the entries decoded with msgspec and nothing verified.
"""

import argparse
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from gatesync.artifacts.changes import Entry
from parts import GATESYNC, cpu_seconds, free_port, print_result, publish_all, role, wait_until

LABEL, EMPTY = "Default", "Empty"
READY_SECONDS = 300.0


class Start(msgspec.Struct):
    """What a start took: seconds, those of them on a CPU, and the most megabytes resident."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    """Measure, and print one line for each of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is told")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        measured = _measure(Path(folder), options)
    limit = measured.pop("limit").seconds
    for way in ("http", "cache"):
        start, empty = measured[way], measured[f"{way} empty"]
        print_result(
            "cold_start",
            way=way,
            n=options.artifacts,
            bytes=options.size,
            rounds=options.rounds,
            megabytes=round(options.artifacts * options.size / 1e6, 1),
            start=_rounded(start),
            empty=_rounded(empty),
            limit_seconds=round(limit, 3),
            ratio=round((start.seconds - empty.seconds) / limit, 1),
            cpu_ratio=round((start.cpu_seconds - empty.cpu_seconds) / limit, 1),
        )


def _rounded(start: Start) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.structs.asdict(start).items()}


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Start]:
    """The median of each way."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    control = folder / "control.toml"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n"
    )
    starts: dict[str, list[Start]] = {}
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{url}/health/ready")
        token = _token(control)
        publish_all(folder / "control" / "client.toml", LABEL, options.artifacts, options.size)
        for number in range(options.rounds):
            full = _Node(folder, f"full-{number}", LABEL, token, url)
            empty = _Node(folder, f"empty-{number}", EMPTY, token, url)
            starts.setdefault("http", []).append(full.start(options.artifacts))
            starts.setdefault("http empty", []).append(empty.start(0))
    for _ in range(options.rounds):
        starts.setdefault("cache", []).append(full.start(options.artifacts))
        starts.setdefault("cache empty", []).append(empty.start(0))
        limit = _raw_read(full.data / "cache" / "cache.db", options.artifacts)
        starts.setdefault("limit", []).append(Start(limit, limit, 0.0))
    return {way: _median(measured) for way, measured in starts.items()}


def _median(starts: list[Start]) -> Start:
    return Start(
        statistics.median(each.seconds for each in starts),
        statistics.median(each.cpu_seconds for each in starts),
        statistics.median(each.peak_mb for each in starts),
    )


class _Node:
    """A gateway's folder and configuration."""

    def __init__(self, folder: Path, name: str, label: str, token: str, url: str) -> None:
        self.port = free_port()
        self.data = folder / name
        self._config = folder / f"{name}.toml"
        self._folder = folder
        self._config.write_text(
            f"[gatesync]\ndata = '{name}'\nnode_id = 'bench'\n"
            f"[gatesync.gateway]\nlisten = '127.0.0.1:{self.port}'\ntoken = '{token}'\n"
            "start_from_cache = true\n"
            f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{label}']\n"
            "save_artifacts_locally = false\n"
            f"[apim.event_hub]\nenable = false\nservice_url = '{url}'\n"
        )

    def start(self, artifacts: int) -> Start:
        """Start it, see that it has so many artifacts, and end it."""
        with _ready() as wait:
            started = time.perf_counter()
            with role("gateway", self._config, self._folder / "gateway.log") as process:
                wait(process)
                seconds = time.perf_counter() - started
                start = Start(seconds, cpu_seconds(process.pid), _peak_mb(process.pid))
                applied = _applied(self.port)
                assert applied == artifacts, f"it has {applied} artifacts"
        return start


@contextmanager
def _ready() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """A service manager's socket, for what is started in the block."""
    with tempfile.TemporaryDirectory(prefix="gatesync-notify-") as folder:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(f"{folder}/notify")
            notified.settimeout(1.0)

            def wait(process: "subprocess.Popen[bytes]") -> None:
                deadline = time.monotonic() + READY_SECONDS
                while time.monotonic() < deadline:
                    assert process.poll() is None, "it ended"
                    try:
                        if b"READY=1" in notified.recv(4096).splitlines():
                            return
                    except TimeoutError:
                        continue
                raise TimeoutError

            os.environ["NOTIFY_SOCKET"] = f"{folder}/notify"
            try:
                yield wait
            finally:
                del os.environ["NOTIFY_SOCKET"]


def _applied(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as answer:
            health = json.load(answer)
    except urllib.error.HTTPError as error:
        health = json.load(error)
    return sum(label["applied"] for label in health["labels"])


def _raw_read(path: Path, artifacts: int) -> float:
    decoder = msgspec.msgpack.Decoder(Entry)
    started = time.perf_counter()
    with closing(sqlite3.connect(path)) as database:
        entries = [decoder.decode(body) for (body,) in database.execute("SELECT body FROM entry")]
        contents = dict(database.execute("SELECT digest, body FROM content"))
    seconds = time.perf_counter() - started
    assert len(entries) == len(contents) == artifacts
    return seconds


def _peak_mb(pid: int) -> float:
    """The most that was ever resident, as /proc tells it in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _token(control: Path) -> str:
    create = [GATESYNC, "token", "create", "--role", "node", "--id", "bench"]
    labels = ["--label", LABEL, "--label", EMPTY]
    command = [*create, *labels, "--config", str(control)]
    return subprocess.check_output(command, text=True).strip()


if __name__ == "__main__":
    main()
