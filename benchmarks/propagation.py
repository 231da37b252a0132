"""Publish → durable → deployed and acked on N gateways, against the raw broker.

The gateways are real agents, each with a connection of its own, spread over a few processes
(`fleet_workers`). The limit is measured in the same run, in alternation: one durable commit of the
same bytes into the same kind of database, and raw NATS delivering the same message to as many
subscribers, in as many processes, that answer once. `signed`: the publisher signs, and each
gateway verifies before it deploys.

Beside it: by how much this process, which is the publisher, grew for each gateway that reported,
from the second process with gateways on (their HTTP connections included), and the processor time
of publisher, broker and gateways for each gateway in a round.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import nats
import uvloop

from databases import MissingError, database, driver
from figures import Peer, Target, milliseconds, print_figure, print_skipped
from fleet_workers import LABEL, RAW, RAW_SUBJECT, SIGNER, node, shares, start
from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Change, ChangeSet, Cursor, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.events.messages import announce_change, encode
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_server import NatsServer, run_nats_server
from gatesync.events.nats_users import REPORT_SUBJECT
from gatesync.publisher.fleet import ReceiptStatus
from gatesync.publisher.requests import ChangeRequest, PublishItem, entry_of
from gatesync.publisher.service import Publisher
from gatesync.stores.sql import open_sql_store
from in_process import running, serving
from parts import artifact_of, cpu_seconds

HEARTBEAT = 30.0  # seconds; so that heartbeats do not fall into what is timed
WARM_UP = 5  # rounds
REST = 0.1  # seconds after a round of ours; what a gateway does behind its ack counts as its cost
FEW_GATEWAYS = 100  # below, a ratio is mostly fixed costs, which the target of one is for
MANY_GATEWAYS = 1_000  # from here on a page more or less is nothing
_WHY = (
    "The floor is the processor time of all processes for one change, over the cores. Of a "
    "gateway's, a third is what a raw subscriber takes, too: socket, nats-py's reading, one write. "
    "The rest decodes, checks both digests, decides, swaps and reports, in nearly 300 calls of "
    "Python, none of which takes a twentieth of it."
)
UNSIGNED = Target("ratio", at_most=1.4, why=_WHY)
SIGNED = Target("ratio", at_most=2.2, why=f"{_WHY} Each verifies one Ed25519 signature, too.")
ONE = Target(
    "p50",
    at_most=5.0,
    why="One step waits for the other: the request and its checks, the store's three trips and its "
    "commit (`sql_store`, 1 at once, has that alone), the event, the gateway, its report.",
)
MEMORY = Target("value", at_most=10.0, why="A connection, its buffers, and what a node reported.")

NATS = Peer(
    "plain NATS",
    settings={
        "server": "a nats-server as ours, with the same permissions",
        "subscribers": "nats-py, a connection each, as many processes as ours; each answers `ok`",
        "commit": "SQLite: WAL, synchronous = FULL; PostgreSQL: as it is by default",
    },
)


class Variant(NamedTuple):
    """One way to measure it."""

    gateways: int
    database: str = "sqlite"
    signed: bool = False

    @property
    def words(self) -> str:
        """What it is, in words."""
        many = f"{self.gateways:,} gateways" if self.gateways > 1 else "one gateway"
        return f"{many}, {self.database}{', signed' if self.signed else ''}"


VARIANTS = (
    Variant(1),
    Variant(1, "postgresql"),
    Variant(10),
    Variant(100),
    Variant(100, signed=True),
)


def main(
    name: str = "propagation",
    variants: Sequence[Variant] = VARIANTS,
    rounds: int = 50,
    processes: int = 2,
) -> None:
    """Measure, and print lines for each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, nargs="+", help="these, in place of all variants")
    parser.add_argument("--db", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--signed", action="store_true")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of an artifact, canonical")
    parser.add_argument("--processes", type=int, default=processes, help="that share the gateways")
    options = parser.parse_args()
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    if not options.gateways:
        for variant in variants:
            _in_a_process(variant)
        return
    for variant in [Variant(each, options.db, options.signed) for each in options.gateways]:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder,
                database(variant.database) as url,
            ):
                uvloop.run(_measure(name, Path(folder), url, variant, options))
        except MissingError as error:
            print_skipped(name, f"publish to {variant.words}", str(error))


def _in_a_process(variant: Variant) -> None:
    """In one of its own, so that memory which another has left is not used again."""
    more = ["--signed"] if variant.signed else []
    arguments = ["--gateways", str(variant.gateways), "--db", variant.database, *more]
    subprocess.run([sys.executable, *sys.argv, *arguments], check=True)


async def _measure(
    name: str, folder: Path, url: str, variant: Variant, options: argparse.Namespace
) -> None:
    gateways, signed = variant.gateways, variant.signed
    async with AsyncExitStack() as stack:
        secret = secrets.token_hex(16)
        # A broker for each, so that nobody hears what the other's subscribers say.
        broker, raw_broker = [
            await stack.enter_async_context(
                run_nats_server(
                    folder / kind,
                    port=0,
                    nodes=[
                        node(secret, f"{kind}-{number}", label)[1] for number in range(gateways)
                    ],
                )
            )
            for kind, label in (("bench", LABEL), ("raw", RAW))
        ]
        who = broker.credentials.publisher
        hub = await stack.enter_async_context(
            open_nats_hub([broker.connect_url], user=who.user, password=who.password, name="bench")
        )
        store = await stack.enter_async_context(open_sql_store(url))
        signer = SIGNER if signed else None
        publisher = Publisher(store, hub, "bench", heartbeat=HEARTBEAT, signer=lambda: signer)
        await stack.enter_async_context(running(publisher))
        served, token = await stack.enter_async_context(serving(publisher, folder, HEARTBEAT))
        work: dict[str, Any] = {
            "url": served,
            "token": token,
            "broker": broker.connect_url,
            "secret": secret,
        }
        work |= {"signed": signed, "heartbeat": HEARTBEAT}
        split = shares(gateways, options.processes)
        workers: list[int] = []
        before = _resident()
        for first, count in split:
            share = work | {"kind": "agents", "first": first, "count": count}
            workers.append(await start(stack, share))
            if len(workers) == 1 and len(split) > 1:
                # What the first share brings into memory is mostly the publisher's own.
                await _until(lambda: len(publisher.fleet.nodes()) == split[0][1])
                before = _resident()
        await _until(lambda: len(publisher.fleet.nodes()) == gateways)
        grown = (_resident() - before) / max(1, gateways - split[0][1])
        work |= {"kind": "answerers", "broker": raw_broker.connect_url}
        answerers = [
            await start(stack, work | {"first": first, "count": count}) for first, count in split
        ]
        raw = await _raw_limit(stack, raw_broker, folder, url, gateways)
        ours: list[float] = []
        limit: list[float] = []
        costs: dict[str, list[float]] = {"publisher": [], "broker": [], "gateways": []}
        raw_costs: dict[str, list[float]] = {"client": [], "broker": [], "subscribers": []}
        for number in range(options.rounds + WARM_UP):
            artifact = artifact_of(number, options.size)
            before_it = _spent(broker, workers)
            mine = await _publish(publisher, artifact, gateways)
            await asyncio.sleep(REST)
            after_it = _spent(broker, workers)
            content, message = canonical.encode(artifact), _message(artifact, number)
            before_raw = _spent(raw_broker, answerers)
            theirs = await raw(content, message)
            after_raw = _spent(raw_broker, answerers)
            if number >= WARM_UP:
                ours.append(mine)
                limit.append(theirs)
                _add(costs, before_it, after_it)
                _add(raw_costs, before_raw, after_raw)
    _print(name, variant, options, milliseconds(ours), milliseconds(limit), costs, raw_costs)
    _print_memory(name, variant, grown / 1000)


def _print(
    name: str,
    variant: Variant,
    options: argparse.Namespace,
    ours: dict[str, Any],
    limit: dict[str, Any],
    costs: dict[str, list[float]],
    raw_costs: dict[str, list[float]],
) -> None:
    gateways = variant.gateways
    target: Target | None = SIGNED if variant.signed else UNSIGNED
    if gateways < FEW_GATEWAYS:
        target = ONE if gateways == 1 else None
    cores = os.cpu_count() or 1
    series = f"gatesync, {variant.database}{', signed' if variant.signed else ''}"
    plots = [{"chart": "propagation", "series": series, "x": gateways, "y": ours["p50"]}]
    if variant == Variant(gateways):
        raw = "one commit and plain NATS"
        plots.append({"chart": "propagation", "series": raw, "x": gateways, "y": limit["p50"]})
    print_figure(
        name,
        f"publish until acked by {variant.words}",
        gateways=gateways,
        database=variant.database,
        signed=variant.signed,
        bytes=options.size,
        processes=len(shares(gateways, options.processes)),
        **ours,
        limit={
            "what": "one durable commit and plain NATS",
            **limit,
            "cpu_us_per_gateway": _each(raw_costs, gateways),
        },
        ratio=round(ours["p50"] / limit["p50"], 2),
        cpu_us_per_gateway=_each(costs, gateways),
        target=target,
        floor={"ms_if_all_cores_were_busy": round(_sum(costs) / cores, 2)},
        plots=plots,
        peer=NATS,
    )


def _print_memory(name: str, variant: Variant, kb_each: float) -> None:
    if variant.gateways < FEW_GATEWAYS:
        return  # a page of memory is as large as what so few take
    whole = round(kb_each * variant.gateways, 1)
    series = "signed" if variant.signed else "unsigned"
    point = {"chart": "memory_by_gateways", "series": series, "x": variant.gateways, "y": whole}
    print_figure(
        name,
        f"publisher's memory for each of {variant.words}",
        gateways=variant.gateways,
        signed=variant.signed,
        unit="kB",
        value=round(kb_each, 1),
        target=MEMORY if variant.gateways >= MANY_GATEWAYS else None,
        floor={"kB": round(kb_each, 1)},
        plots=[point],
    )


def _add(
    costs: dict[str, list[float]], before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    """Note the milliseconds of processor time that a round took of each."""
    for spent, then, now in zip(costs.values(), before, after, strict=True):
        spent.append((now - then) * 1000)


def _sum(costs: dict[str, list[float]]) -> float:
    return sum(statistics.mean(each) for each in costs.values())


def _each(costs: dict[str, list[float]], gateways: int) -> dict[str, int]:
    """Microseconds for each gateway in a round."""
    return {who: round(statistics.mean(each) * 1000 / gateways) for who, each in costs.items()}


def _spent(broker: NatsServer, workers: Sequence[int]) -> tuple[float, float, float]:
    """Processor seconds until now: of this process, the broker, and all gateways."""
    assert broker.pid is not None
    return (
        time.process_time(),
        cpu_seconds(broker.pid),
        sum(cpu_seconds(worker) for worker in workers),
    )


async def _publish(publisher: Publisher, artifact: Any, gateways: int) -> float:
    """Milliseconds from the request to the last gateway's ack."""
    document = msgspec.json.decode(canonical.encode(artifact))
    request = ChangeRequest(labels=(LABEL,), publish=(PublishItem(document),))
    started = time.perf_counter()
    answer = await publisher.change(request, str(uuid.uuid4()), 0)
    cursor = Cursor(answer.heads[0].epoch, answer.heads[0].revision)
    await publisher.fleet.reached(LABEL, cursor, cursor.revision, gateways, 10.0)
    took = (time.perf_counter() - started) * 1000
    assert _all_have(publisher, cursor, gateways)
    return took


def _all_have(publisher: Publisher, cursor: Cursor, gateways: int) -> bool:
    receipts = publisher.fleet.receipts(LABEL, cursor)
    return sum(each.status is ReceiptStatus.APPLIED for each in receipts) == gateways


async def _raw_limit(
    stack: AsyncExitStack, broker: NatsServer, folder: Path, url: str, gateways: int
) -> Callable[[bytes, bytes], Awaitable[float]]:
    """Get ready to measure the limit; answers with what measures it once."""
    who = broker.credentials.publisher
    client = await nats.connect(broker.connect_url, user=who.user, password=who.password)
    stack.push_async_callback(client.close)
    answers, enough = 0, asyncio.Event()

    async def answered(message: Any) -> None:
        nonlocal answers
        answers += message.data == b"ok"
        if answers == gateways:
            enough.set()

    await client.subscribe(REPORT_SUBJECT + "*", cb=answered)
    await client.flush()
    commit = _committing(stack, folder, url)

    async def measure(content: bytes, message: bytes) -> float:
        nonlocal answers
        answers = 0
        enough.clear()
        started = time.perf_counter()
        commit(content)
        await client.publish(RAW_SUBJECT, message)
        async with asyncio.timeout(30):
            await enough.wait()
        return (time.perf_counter() - started) * 1000

    for _ in range(60):  # all answerers are there when all have answered once
        try:
            async with asyncio.timeout(1):
                await measure(b"", b"")
        except TimeoutError:
            continue
        break
    return measure


def _committing(stack: AsyncExitStack, folder: Path, url: str) -> Callable[[bytes], Any]:
    """What inserts a row with the bare driver, durably."""
    lite = url.startswith("sqlite")
    run, close = driver(f"sqlite:///{folder}/raw.db" if lite else url)
    stack.callback(close)
    key, kind = ("INTEGER", "BLOB") if lite else ("SERIAL", "BYTEA")
    run(f"CREATE TABLE raw (id {key} PRIMARY KEY, artifact {kind})")
    insert = f"INSERT INTO raw (artifact) VALUES ({'?' if lite else '%s'})"
    return lambda content: run(insert, (content,))


def _message(artifact: Any, revision: int) -> bytes:
    """The bytes that an event with this artifact has."""
    content = canonical.encode(artifact)
    entry = entry_of(artifact, "/bench", content)
    change_set = ChangeSet(
        label=LABEL,
        epoch=str(uuid.uuid4()),
        revision=revision + 1,
        previous=revision,
        changes=(Change(Instruction.PUBLISH, entry),),
        digest=EMPTY_LABEL,
        published_at=0,
    )
    return encode(announce_change(change_set, {entry.digest: content}))


def _resident() -> int:
    """Bytes of this process that are in memory: the second field of statm, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - polled rarely, outside what is timed
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
