"""What an idle gateway costs: memory, and CPU over idle seconds, as /proc tells it.

A publisher on SQLite holds artifacts; one gateway, a process of its own, follows them over HTTP:
once with a broker, and once without one, when it asks for heads itself each heartbeat.
"""

import argparse
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from parts import GATESYNC, cpu_seconds, free_port, print_result, publish_all, role, wait_until

LABEL = "Default"
MEMORY_MB = 80.0
CPU_SECONDS = 0.06  # in 60 idle seconds: a thousandth of a core


def main() -> None:
    """Measure, and print one line for each of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--seconds", type=float, default=60.0, help="idle seconds measured")
    options = parser.parse_args()
    for broker in (True, False):
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            figures = _measure(Path(folder), options, broker=broker)
        print_result(
            "idle_gateway",
            broker=broker,
            n=options.artifacts,
            bytes=options.size,
            seconds=options.seconds,
            **figures,
        )


def _measure(folder: Path, options: argparse.Namespace, *, broker: bool) -> dict[str, Any]:
    ports = {name: free_port() for name in ("publisher", "gateway", "broker")}
    with ExitStack() as stack:
        shared = f"[apim.event_hub]\nenable = {str(broker).lower()}\n"
        hub = f"[gatesync.traffic_manager]\nlisten = '127.0.0.1:{ports['broker']}'\n"
        control = folder / "control.toml"
        listen = f"[gatesync.publisher]\nlisten = '127.0.0.1:{ports['publisher']}'\n"
        control.write_text(f"[gatesync]\ndata = 'control'\n{listen}{hub}{shared}")
        if broker:
            stack.enter_context(role("traffic-manager", control, folder / "tm.log"))
        stack.enter_context(role("publisher", control, folder / "publisher.log"))
        url = f"http://127.0.0.1:{ports['publisher']}"
        wait_until(f"{url}/health/ready")
        create = [GATESYNC, "token", "create", "--role", "node", "--id", "idle", "--label", LABEL]
        token = subprocess.check_output([*create, "--config", str(control)], text=True).strip()
        publish_all(folder / "control" / "client.toml", LABEL, options.artifacts, options.size)
        config = folder / "gateway.toml"
        config.write_text(
            f"[gatesync]\ndata = 'gateway'\nnode_id = 'idle'\n"
            f"[gatesync.gateway]\nlisten = '127.0.0.1:{ports['gateway']}'\ntoken = '{token}'\n"
            f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{LABEL}']\n"
            f"[apim.event_hub]\nservice_url = '{url}'\n"
        )
        gateway = stack.enter_context(role("gateway", config, folder / "gateway.log"))
        wait_until(f"http://127.0.0.1:{ports['gateway']}/health/ready")
        time.sleep(5)  # the first heartbeat's work is start-up, not idleness
        before = cpu_seconds(gateway.pid)
        time.sleep(options.seconds)
        cpu, resident = cpu_seconds(gateway.pid) - before, _resident_mb(gateway.pid)
    target = CPU_SECONDS * options.seconds / 60
    return {
        "resident_mb": round(resident, 1),
        "cpu_seconds": round(cpu, 3),
        "target": {"resident_mb": MEMORY_MB, "cpu_seconds": target},
        "met": resident < MEMORY_MB and cpu < target,
    }


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
