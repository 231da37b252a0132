"""100 gateways start at once against one publisher, and, in turn, one alone: bytes a second.

The publisher is a process of its own, on SQLite. The gateways are real agents with a connection and
a token of their own, spread over a few processes that are up before the clock starts. It runs until
the last gateway has verified and deployed all of the label, and counts the artifacts' bytes, as
they are when unpacked. No broker: whoever starts pulls. A publisher hands out at most 64 full pulls
at a time and tells the others when to come back; that is in the time. What agents warn of meanwhile
is searched for time-outs.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from figures import Target, print_figure
from fleet_workers import shares
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.agent import Agent
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.web.client import open_client
from parts import free_port, publish_all, role, wait_until

LABEL = "Default"
READY_SECONDS = 300.0
LOOK_SECONDS = 0.005
TARGET = Target(
    "ratio",
    at_least=1.2,
    why="Gateways and publisher share the cores: what many gain is the second core, while the "
    "publisher sends each byte as often as there are gateways.",
)
NONE_AT_ALL = Target("value", at_most=0, why="The publisher was too slow for the clients' limits.")


def main() -> None:
    """Measure, and print two lines; or be one of the processes with gateways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=100)
    parser.add_argument("--artifacts", type=int, default=1_500)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=4, help="that share the gateways")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        configure_logs(LogFormat.JSON, LogLevel.WARNING)
        uvloop.run(_start(json.loads(options.worker)))
        return
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        _measure(Path(folder), options)


def _measure(folder: Path, options: argparse.Namespace) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    control = folder / "control.toml"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n"
    )
    rates: dict[str, list[float]] = {"alone": [], "together": []}
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{url}/health/ready")
        publish_all(folder / "control" / "client.toml", LABEL, options.artifacts, options.size)
        file = TokenFile(folder / "control" / "tokens.json")
        tokens = [file.create(Role.NODE, f"gw{n}", [LABEL]) for n in range(options.gateways)]
        warm_up = int(options.rounds > 1)
        for number in range(options.rounds + warm_up):
            for way, those in (("alone", tokens[:1]), ("together", tokens)):
                took = _round(folder, url, those, options)
                if number >= warm_up:  # the first one makes what the publisher keeps from then on
                    seconds[way].append(took)
                    moved = len(those) * options.artifacts * options.size
                    rates[way].append(moved / took / 1e6)
    medians = {way: round(statistics.median(each), 1) for way, each in rates.items()}
    print_figure(
        "starting_together",
        f"{options.gateways} gateways at once, bytes a second of all of them",
        gateways=options.gateways,
        artifacts=options.artifacts,
        bytes=options.size,
        n=options.rounds,
        unit="MB/s",
        value=medians["together"],
        seconds={way: round(statistics.median(each), 2) for way, each in seconds.items()},
        limit={"what": "one alone", "unit": "MB/s", "value": medians["alone"]},
        ratio=round(medians["together"] / medians["alone"], 2),
        target=TARGET,
        floor={"MB_per_second_alone": medians["alone"]},
    )
    warnings = [line for log in folder.glob("worker*.log") for line in log.read_text().splitlines()]
    print_figure(
        "starting_together",
        f"time-outs while {options.gateways} gateways start at once",
        gateways=options.gateways,
        unit="time-outs",
        value=sum("time" in line and "out" in line for line in warnings),
        warnings=len(warnings),
        target=NONE_AT_ALL,
        floor={"warnings": len(warnings)},
    )


def _round(folder: Path, url: str, tokens: list[str], options: argparse.Namespace) -> float:
    """Seconds from the word to start until the last gateway is ready."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                _worker(
                    folder / f"worker{first}.log",
                    {
                        "url": url,
                        "tokens": tokens[first : first + count],
                        "artifacts": options.artifacts,
                    },
                )
            )
            for first, count in shares(len(tokens), options.processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "up\n", "a process with gateways did not come up"
        began = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("start\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n", "some gateways did not become ready"
        return time.perf_counter() - began


@contextmanager
def _worker(log: Path, work: dict[str, Any]) -> "Iterator[subprocess.Popen[str]]":
    with log.open("a") as warnings:
        process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=warnings,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


# A process with gateways ------------------------------------------------------------------------


async def _start(work: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(work["url"], token, timeout=60.0))
            for token in work["tokens"]
        ]
        agents = [
            Agent(f"gw{number}", [LABEL], client, MemoryEngine(), _no_hub)
            for number, client in enumerate(clients)
        ]
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(agent.run()) for agent in agents]
            async with asyncio.timeout(READY_SECONDS):
                for agent in agents:
                    while not agent.informer.ready:  # noqa: ASYNC110 - there is nothing to await
                        await asyncio.sleep(LOOK_SECONDS)
            held = [sum(label.applied for label in agent.status().labels) for agent in agents]
            assert held == [work["artifacts"]] * len(agents), held
            print("ready", flush=True)
            for each in running:
                each.cancel()


@asynccontextmanager
async def _no_hub() -> AsyncIterator[None]:
    yield None


if __name__ == "__main__":
    main()
