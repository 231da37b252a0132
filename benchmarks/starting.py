"""What benchmarks of a gateway's start share: a node's folder, and the time until it is ready."""

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from parts import GATESYNC, cpu_seconds, free_port, role

__all__ = ["EMPTY", "LABEL", "Node", "Start", "median_start", "node_token", "until_ready"]

LABEL, EMPTY = "Default", "Empty"
READY_SECONDS = 300.0


class Start(msgspec.Struct):
    """What a start took: seconds, those of them on a CPU, and the most megabytes resident."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def median_start(starts: Sequence[Start]) -> Start:
    """Of each figure by itself."""
    return Start(
        statistics.median(each.seconds for each in starts),
        statistics.median(each.cpu_seconds for each in starts),
        statistics.median(each.peak_mb for each in starts),
    )


class Node:
    """A gateway's folder and configuration, with `more` at its end."""

    def __init__(
        self, folder: Path, name: str, label: str, token: str, url: str, more: str = ""
    ) -> None:
        self.port = free_port()
        self.data = folder / name
        self.config = folder / f"{name}.toml"
        self._folder = folder
        self.config.write_text(
            f"[gatesync]\ndata = '{name}'\nnode_id = 'bench'\n"
            f"[gatesync.gateway]\nlisten = '127.0.0.1:{self.port}'\ntoken = '{token}'\n"
            "start_from_cache = true\n"
            f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{label}']\n"
            "save_artifacts_locally = false\n"
            f"[apim.event_hub]\nenable = false\nservice_url = '{url}'\n{more}"
        )

    def start(self, artifacts: int, *, kept: bool = False) -> Start:
        """Start it, see that it has so many artifacts, and end it; once its disk has them: `kept`.

        A node writes its disk when its start is over, and has five seconds for that at its end.
        """
        with until_ready() as wait:
            started = time.perf_counter()
            with role("gateway", self.config, self._folder / "gateway.log") as process:
                wait(process)
                seconds = time.perf_counter() - started
                start = Start(seconds, cpu_seconds(process.pid), _peak_mb(process.pid))
                applied = _applied(self.port, self.data / "admin.token")
                assert applied == artifacts, f"it has {applied} artifacts"
                if kept:
                    _until_kept(self.data / "cache" / "cache.db", artifacts)
        return start


@contextmanager
def until_ready() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
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


def _until_kept(path: Path, artifacts: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with (
            suppress(sqlite3.OperationalError),  # it is made just now
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as cache,
        ):
            if cache.execute("SELECT count(*) FROM content").fetchone() == (artifacts,):
                return
        time.sleep(0.05)
    raise TimeoutError


def _applied(port: int, token: Path) -> int:
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        status = json.load(answer)
    return sum(label["applied"] for label in status["labels"])


def _peak_mb(pid: int) -> float:
    """The most that was ever resident, as /proc tells it in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def node_token(control: Path) -> str:
    """A token of that publisher for a node of both labels."""
    create = [GATESYNC, "token", "create", "--role", "node", "--id", "bench"]
    labels = ["--label", LABEL, "--label", EMPTY]
    command = [*create, *labels, "--config", str(control)]
    return subprocess.check_output(command, text=True).strip()
