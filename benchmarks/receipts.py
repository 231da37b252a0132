"""Publishes per second while a thousand gateways answer each change, against none that do.

One publisher with SQLite, 16 publishes at a time. The gateways are simulated in another process:
over NATS each answers the newest change at most ten times a second, over HTTP each reports every
2.5 s, on a connection of its own. Three turns alternate: `quiet`, nobody reports; `deaf`, the
reports are made and sent, but to where nobody listens (over HTTP: to another server, in that same
process); `heard`, the publisher takes them. Heard against deaf is what receipts cost the publisher,
deaf against quiet is what the simulation takes from a machine that both share. Where others share
it too, its own processor time for a publish says more than publishes per second.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import nats
import psutil
import uvloop
from prometheus_client import CollectorRegistry

from figures import Target, print_figure
from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Cursor
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.events.messages import (
    ChangeAnnounced,
    LabelReport,
    NodeReport,
    decode_announcement,
    decode_report,
    encode,
)
from gatesync.events.nats import open_nats_hub
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.fleet import Fleet, ReceiptStatus
from gatesync.publisher.http import publisher_app
from gatesync.publisher.requests import ChangeRequest, PublishItem
from gatesync.publisher.service import Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.stores.sql import open_sql_store
from gatesync.web.app import AppState
from gatesync.web.guard import Guard
from gatesync.web.server import serve
from parts import artifact_of, free_port

LABEL = "Default"
TURNS = ("quiet", "deaf", "heard")
AT_ONCE = 16  # publishes under way
NATS_PAUSE = 0.1  # seconds between two reports of a gateway
HTTP_PAUSE = 2.5
CONTROL = "gatesync.label.bench-control"
HEARD = Target(
    "ratio",
    at_least=0.95,
    why="A publisher is one thread: what it takes to read the reports from the socket and to note "
    "them, it does not have for publishes. The floor is the reports that were heard meanwhile, and "
    "the processor time of a publish with and without them.",
)


def main() -> None:
    """Run the benchmark, or its simulated gateways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--publishes", type=int, default=2_000, help="in each turn")
    parser.add_argument("--over", choices=["nats", "http"], nargs="+", default=["nats", "http"])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    if options.worker:
        uvloop.run(_simulate(json.loads(options.worker)))
        return
    _print_alone(options.gateways, **_fleet_alone(options.gateways))
    for way in options.over:
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            uvloop.run(_measure(Path(folder), way, options))


def _print_alone(gateways: int, *, report_us: float, **more: Any) -> None:
    what = f"a report is read and noted, {gateways:,} gateways"
    print_figure("receipts", what, gateways=gateways, unit="us", value=report_us, **more)


async def _measure(folder: Path, way: str, options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        url = f"nats://127.0.0.1:{free_port()}"
        await _start(stack, _nats_server(), "-a", "127.0.0.1", "-p", url.rpartition(":")[2])
        hub = await stack.enter_async_context(
            open_nats_hub([url], user=None, password=None, name="bench")
        )
        store = await stack.enter_async_context(open_sql_store(f"sqlite:///{folder}/a.db"))
        book = await stack.enter_async_context(store.receipt_book())
        publisher = Publisher(store, hub, "bench", book=book)
        running = asyncio.create_task(publisher.run())
        stack.push_async_callback(_cancel, running)
        tokens = TokenFile(folder / "tokens.json")
        nodes = range(options.gateways if way == "http" else 0)
        known = [tokens.create(Role.NODE, _name(node), [LABEL]) for node in nodes]
        port = await stack.enter_async_context(_serving(publisher, folder))
        control = await nats.connect(url)
        stack.push_async_callback(control.close)
        await _publish(publisher, 0, AT_ONCE)
        gc.collect()
        alone = psutil.Process().memory_info().rss
        work = {"way": way, "gateways": options.gateways, "broker": url,
                "port": port, "tokens": known, "epoch": store.epoch}  # fmt: skip
        await _start(stack, sys.executable, __file__, "--worker", json.dumps(work))

        async def turn_to(name: str) -> None:
            await control.publish(CONTROL, name.encode())
            await control.flush()

        async with asyncio.timeout(60):
            while len(publisher.fleet) < options.gateways:
                await turn_to("heard")
                await asyncio.sleep(0.2)
        rates: dict[str, list[float]] = {name: [] for name in TURNS}
        reports: list[float] = []
        busy: dict[str, list[float]] = {name: [] for name in TURNS}
        for number in range(options.rounds + 1):
            for name in TURNS:
                await turn_to(name)
                await asyncio.sleep(0.5)
                before, began = publisher.fleet.version, time.perf_counter()
                busy_before = time.process_time()
                await _publish(publisher, number * 10 + TURNS.index(name), options.publishes)
                took = time.perf_counter() - began
                if number:  # the first round warms up
                    rates[name].append(options.publishes / took)
                    spent = (time.process_time() - busy_before) / options.publishes
                    busy[name].append(spent * 1e6)
                    if name == "heard":
                        reports.append((publisher.fleet.version - before) / took)
        await turn_to("heard")
        await asyncio.sleep(2 * HTTP_PAUSE if way == "http" else 1.0)
        gc.collect()
        grown = psutil.Process().memory_info().rss - alone
        cost = median(h / d for h, d in zip(rates["heard"], rates["deaf"], strict=True))
        per_second = {name: round(median(each)) for name, each in rates.items()}
        heard_per_second = round(median(reports))
        cpu_us = {name: round(median(each)) for name, each in busy.items()}
        print_figure(
            "receipts",
            f"publishes a second while {options.gateways:,} gateways report over {way}",
            gateways=options.gateways,
            n=options.rounds,
            publishes=options.publishes,
            unit="a second",
            value=per_second["heard"],
            nobody_reports=per_second["quiet"],
            limit={"what": "with reports that it does not hear", "value": per_second["deaf"]},
            ratio=round(cost, 3),
            cpu_us_per_publish=cpu_us,
            reports_per_second=heard_per_second,
            bytes_per_gateway=round(grown / options.gateways),
            answered=await _answered(publisher),
            target=HEARD,
            floor={"reports_per_second": heard_per_second, "cpu_us_per_publish": cpu_us},
        )


async def _publish(publisher: Publisher, edit: int, count: int) -> None:
    """Publish `count` changes, `AT_ONCE` at a time."""
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for number in left:
            artifact = artifact_of(number % 500, 1_024, edit * 1_000 + number)
            item = PublishItem(msgspec.json.decode(canonical.encode(artifact)))
            request = ChangeRequest(labels=(LABEL,), publish=(item,))
            await publisher.change(request, str(uuid.uuid4()), 1_024)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one_after_the_other())


async def _answered(publisher: Publisher) -> int:
    """How many gateways have the last revision."""
    [head] = await publisher.saver.labels()
    receipts = publisher.fleet.receipts(LABEL, head.cursor)
    return sum(each.status is ReceiptStatus.APPLIED for each in receipts)


def _fleet_alone(gateways: int) -> dict[str, Any]:
    """What a report costs a publisher, and what it keeps of a gateway after a hundred changes."""
    fleet = Fleet()
    gc.collect()
    empty = psutil.Process().memory_info().rss
    took: list[float] = []
    for revision in range(1, 101):
        messages = [_report(node, "epoch", revision, revision) for node in range(gateways)]
        began = time.perf_counter()
        for message in messages:
            fleet.receive(decode_report(message), everywhere=True)
        took.append((time.perf_counter() - began) / gateways * 1e6)
    gc.collect()
    grown = psutil.Process().memory_info().rss - empty
    began = time.perf_counter()
    receipts = fleet.receipts(LABEL, Cursor("epoch", 100))
    asked = time.perf_counter() - began
    assert sum(each.status is ReceiptStatus.APPLIED for each in receipts) == gateways
    return {
        "report_us": round(median(took), 2),
        "bytes_per_gateway": round(grown / gateways),
        "receipts_of_all_ms": round(asked * 1_000, 2),
    }


def _report(node: int, epoch: str, sequence: int, revision: int) -> bytes:
    label = LabelReport(LABEL, epoch, revision, revision, EMPTY_LABEL, 500, took_us=1_000)
    return encode(
        NodeReport(
            _name(node),
            f"incarnation-{node}",
            sequence,
            "1",
            "memory",
            "http://127.0.0.1:9641",
            1_000_000 + sequence,
            (label,),
            status="ready",
            mode="sync",
        )
    )


def _name(node: int) -> str:
    return f"gateway-{node:05d}"


class _Turn:
    """What the simulated gateways do now."""

    def __init__(self) -> None:
        self.name = "quiet"
        self.revision = 0
        self.sequence = 0


async def _simulate(work: dict[str, Any]) -> None:
    """The other process: gateways that do nothing but report."""
    turn = _Turn()
    client = await nats.connect(work["broker"])

    async def told(message: Any) -> None:
        turn.name = message.data.decode()

    async def announced(message: Any) -> None:
        change = decode_announcement(message.data)
        if isinstance(change, ChangeAnnounced):
            turn.revision = max(turn.revision, change.change_set.revision)
        else:
            turn.revision = max(turn.revision, *(head.revision for head in change.heads))

    await client.subscribe(CONTROL, cb=told)
    subject = hashlib.sha256(LABEL.encode()).hexdigest()
    await client.subscribe(f"gatesync.label.{subject}", cb=announced)
    if work["way"] == "nats":
        await _report_over_nats(client, work, turn)
    else:
        await _report_over_http(work, turn)


async def _report_over_nats(client: Any, work: dict[str, Any], turn: _Turn) -> None:
    said = 0
    while True:
        await asyncio.sleep(NATS_PAUSE)
        if turn.name == "quiet" or (turn.revision == said and turn.sequence):
            continue
        said, turn.sequence = turn.revision, turn.sequence + 1
        subject = "gatesync.report" if turn.name == "heard" else "gatesync.nobody"
        for node in range(work["gateways"]):
            message = _report(node, work["epoch"], turn.sequence, turn.revision)
            await client.publish(f"{subject}.{_name(node)}", message)


async def _report_over_http(work: dict[str, Any], turn: _Turn) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(work["size"])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    work["size"] = len(_report(0, work["epoch"], 2**17, 2**17))
    nobody = await asyncio.start_server(swallow, "127.0.0.1", 0)
    ports = {"heard": work["port"], "deaf": nobody.sockets[0].getsockname()[1]}

    async def gateway(node: int) -> None:
        await asyncio.sleep(HTTP_PAUSE * node / work["gateways"])
        wires = {
            name: await asyncio.open_connection("127.0.0.1", port) for name, port in ports.items()
        }
        sequence = 2**16  # so that all reports have the same size
        while True:
            if turn.name in wires:
                reader, writer = wires[turn.name]
                sequence += 1
                revision = 2**16 + turn.revision if turn.name == "deaf" else turn.revision
                body = _report(node, work["epoch"], sequence, revision)
                head = (
                    f"POST /v1/reports HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
                    f"Authorization: Bearer {work['tokens'][node]}\r\n"
                    "Content-Type: application/octet-stream\r\n\r\n"
                )
                writer.write(head.encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                assert b" 200 " in answer.partition(b"\r\n")[0], answer
            await asyncio.sleep(HTTP_PAUSE)

    async with asyncio.TaskGroup() as tasks:
        for node in range(work["gateways"]):
            tasks.create_task(gateway(node))


@asynccontextmanager
async def _serving(publisher: Publisher, folder: Path) -> AsyncIterator[int]:
    async def ready() -> tuple[bool, str]:
        return True, ""

    cluster = ClusterAnswer("bench", publisher.saver.epoch, 5_000, None)
    app = publisher_app(publisher, cluster, AppState(ready, CollectorRegistry()))
    registry = TokenRegistry(folder / "tokens.json")
    async with serve(Guard(app, registry.authenticate, 1 << 26), "127.0.0.1", 0) as port:
        yield port


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def _start(stack: AsyncExitStack, *command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)


def _nats_server() -> str:
    """Without the permissions of ours: `deaf` reports go to a subject of no meaning."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"


if __name__ == "__main__":
    main()
