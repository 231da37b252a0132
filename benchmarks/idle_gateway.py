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

from figures import Target, print_figure
from parts import GATESYNC, free_port, publish_all, role, wait_until

LABEL = "Default"
MEMORY = Target("value", at_most=80.0, why="Python, its libraries, and the bytes that are served.")
CPU = Target("value", at_most=0.1, why="Heartbeats, reports, and the timers of the loop.")


def main() -> None:
    """Measure, and print two lines for each of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--seconds", type=float, default=60.0, help="idle seconds measured")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds before, of start-up")
    options = parser.parse_args()
    for broker in (True, False):
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            figures = _measure(Path(folder), options, broker=broker)
        _print(options, figures, broker=broker)


def _print(options: argparse.Namespace, figures: dict[str, float], *, broker: bool) -> None:
    way = "with a broker" if broker else "over HTTP alone"
    shared = {"way": way, "artifacts": options.artifacts, "bytes": options.size}
    print_figure(
        "idle_gateway",
        f"resident memory of an idle gateway with {options.artifacts:,} artifacts, {way}",
        **shared,
        n=1,
        unit="MB",
        value=figures["resident_mb"],
        target=None if broker else MEMORY,
        floor={"MB": figures["resident_mb"]},
    )
    print_figure(
        "idle_gateway",
        f"of a core that an idle gateway takes, {way}",
        **shared,
        n=1,
        seconds=options.seconds,
        unit="%",
        value=figures["cpu_percent"],
        target=None if broker else CPU,
        floor={"seconds": figures["cpu_seconds"]},
    )


def _measure(folder: Path, options: argparse.Namespace, *, broker: bool) -> dict[str, float]:
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
        time.sleep(options.settle)  # its disk and the first heartbeats are start-up, not idleness
        before = _cpu_seconds(gateway.pid)
        time.sleep(options.seconds)
        cpu, resident = _cpu_seconds(gateway.pid) - before, _resident_mb(gateway.pid)
    return {
        "resident_mb": round(resident, 1),
        "cpu_seconds": round(cpu, 3),
        "cpu_percent": round(cpu / options.seconds * 100, 3),
    }


def _cpu_seconds(pid: int) -> float:
    """Of all threads, which the kernel counts here in nanoseconds and not in ticks."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
