"""Publish → durable → deployed and acked on N gateways, against the raw broker.

The gateways are real agents (informer, digest check, label digest, memory engine, report), each
with a connection of its own, spread over a few processes. The limit is measured in the same run,
in alternation: one durable commit of the same bytes into SQLite, and raw NATS delivering the same
message to as many subscribers, in as many processes, that answer once.

Beside it: by how much this process, which is the publisher, grew for each gateway that reported
(its first bytes and its HTTP connections included), and the processor time of publisher and broker
for each gateway in a round.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import nats
import uvloop
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Cursor
from gatesync.artifacts.names import label_token
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.engines.memory import MemoryEngine
from gatesync.events.access import BrokerAccess
from gatesync.events.messages import announce_change, encode
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_server import run_nats_server
from gatesync.events.nats_users import LABEL_SUBJECT, REPORT_SUBJECT, NodeUser, node_user
from gatesync.events.nkeys import key_of_token
from gatesync.gateway.agent import Agent
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.fleet import ReceiptStatus
from gatesync.publisher.http import publisher_app
from gatesync.publisher.requests import ChangeRequest, PublishItem
from gatesync.publisher.service import Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.stores.sql import open_sql_store
from gatesync.web.app import AppState
from gatesync.web.client import open_client
from gatesync.web.guard import Guard
from gatesync.web.server import serve
from parts import artifact_of, cpu_seconds, print_result, quantiles

LABEL, RAW = "Default", "raw"
RAW_SUBJECT = LABEL_SUBJECT + label_token(RAW)
HEARTBEAT = 30.0  # seconds; so that heartbeats do not fall into what is timed
TARGET = 1.4  # times the limit


def main(
    name: str = "propagation",
    gateways: Sequence[int] = (1, 10, 100),
    rounds: int = 50,
    processes: int = 2,
) -> None:
    """Run the benchmark, or one of its worker processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, nargs="+", default=gateways)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of an artifact, canonical")
    parser.add_argument("--processes", type=int, default=processes, help="that share the gateways")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    if options.worker:
        work = json.loads(options.worker)
        uvloop.run((_agents if work["kind"] == "agents" else _answerers)(work))
        return
    for gateways in options.gateways:
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            uvloop.run(_measure(name, Path(folder), gateways, options))


async def _measure(name: str, folder: Path, gateways: int, options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        secret = secrets.token_hex(16)
        nodes = [_node(secret, f"{kind}-{number}", label)[1]
                 for kind, label in (("bench", LABEL), ("raw", RAW))
                 for number in range(gateways)]  # fmt: skip
        broker = await stack.enter_async_context(
            run_nats_server(folder / "broker", port=0, nodes=nodes)
        )
        who = broker.credentials.publisher
        hub = await stack.enter_async_context(
            open_nats_hub([broker.connect_url], user=who.user, password=who.password, name="bench")
        )
        store = await stack.enter_async_context(open_sql_store(f"sqlite:///{folder}/a.db"))
        publisher = Publisher(store, hub, "bench", heartbeat=HEARTBEAT)
        before = _resident()
        running = asyncio.create_task(publisher.run())
        stack.push_async_callback(_cancel, running)
        token = TokenFile(folder / "tokens.json").create(Role.READ, "bench")
        url = await stack.enter_async_context(_serve(publisher, folder))
        work = {"url": url, "token": token, "broker": broker.connect_url, "secret": secret}
        shares = _shares(gateways, options.processes)
        for first, count in shares:
            await _start(stack, work | {"kind": "agents", "first": first, "count": count})
        await _until(lambda: len(publisher.fleet.nodes()) == gateways)
        grown = _resident() - before
        for first, count in shares:
            await _start(stack, work | {"kind": "answerers", "first": first, "count": count})
        raw = await _raw_limit(stack, work, folder, gateways)
        ours: list[float] = []
        limit: list[float] = []
        costs: dict[str, list[float]] = {"publisher": [], "broker": []}
        for number in range(options.rounds + 5):
            artifact = artifact_of(number, options.size)
            spent = time.process_time(), cpu_seconds(broker.pid)
            mine = await _publish(publisher, artifact, gateways)
            publisher_spent = time.process_time() - spent[0]
            broker_spent = cpu_seconds(broker.pid) - spent[1]
            message = _message(artifact, number)
            theirs = await raw(canonical.encode(artifact), message)
            if number >= 5:  # the first ones warm up caches and connections
                ours.append(mine)
                limit.append(theirs)
                costs["publisher"].append(publisher_spent / gateways * 1e6)
                costs["broker"].append(broker_spent / gateways * 1e6)
        ratio = quantiles(ours)["p50"] / quantiles(limit)["p50"]
        print_result(
            name,
            gateways=gateways,
            n=options.rounds,
            bytes=options.size,
            processes=len(shares),
            ms=quantiles(ours),
            limit_ms=quantiles(limit),
            ratio=round(ratio, 2),
            publisher_kb_per_gateway=round(grown / gateways / 1000, 1),
            cpu_us_per_gateway={who: round(statistics.mean(all_)) for who, all_ in costs.items()},
            target=TARGET,
            met=ratio <= TARGET,
        )


async def _publish(publisher: Publisher, artifact: Any, gateways: int) -> float:
    """Milliseconds from the request to the last gateway's ack."""
    document = msgspec.json.decode(canonical.encode(artifact))
    request = ChangeRequest(labels=(LABEL,), publish=(PublishItem(document),))
    fleet = publisher.fleet
    before = fleet.version
    started = time.perf_counter()
    answer = await publisher.change(request, str(uuid.uuid4()), 0)
    cursor = Cursor(answer.heads[0].epoch, answer.heads[0].revision)
    while True:
        version = fleet.version
        # looked at only when enough reports came: looking is not part of what is measured
        if version >= before + gateways and _all_have(publisher, cursor, gateways):
            return (time.perf_counter() - started) * 1000
        await fleet.change(version, 10.0)


def _all_have(publisher: Publisher, cursor: Cursor, gateways: int) -> bool:
    receipts = publisher.fleet.receipts(LABEL, cursor)
    return sum(each.status is ReceiptStatus.APPLIED for each in receipts) == gateways


async def _raw_limit(
    stack: AsyncExitStack, work: dict[str, Any], folder: Path, gateways: int
) -> Callable[[bytes, bytes], Awaitable[float]]:
    """Get ready to measure the limit; answers with what measures it once."""
    users = json.loads((folder / "broker" / "broker-credentials.json").read_text())["publisher"]
    client = await nats.connect(work["broker"], user=users["user"], password=users["password"])
    stack.push_async_callback(client.close)
    answers, enough = 0, asyncio.Event()

    async def answered(message: Any) -> None:
        nonlocal answers
        answers += message.data == b"ok"  # the agents' heartbeats come here, too
        if answers == gateways:
            enough.set()

    await client.subscribe(REPORT_SUBJECT + "*", cb=answered)
    await client.flush()
    database = sqlite3.connect(folder / "raw.db", isolation_level=None)
    stack.callback(database.close)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, artifact BLOB)")

    async def measure(content: bytes, message: bytes) -> float:
        nonlocal answers
        answers = 0
        enough.clear()
        started = time.perf_counter()
        database.execute("INSERT INTO a (artifact) VALUES (?)", (content,))
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


def _message(artifact: Any, revision: int) -> bytes:
    """The bytes that an event with this artifact has."""
    from gatesync.artifacts.changes import Change, ChangeSet, Entry, Instruction
    from gatesync.artifacts.digests import EMPTY_LABEL, digest_of

    content = canonical.encode(artifact)
    identity = artifact.identity
    entry = Entry(artifact.api_id, identity.tenant, identity.kind, identity.name,
                  identity.version, "/bench", digest_of(content), len(content))  # fmt: skip
    change = Change(Instruction.PUBLISH, entry)
    change_set = ChangeSet(LABEL, str(uuid.uuid4()), revision + 1, revision, (change,),
                           EMPTY_LABEL, 0)  # fmt: skip
    return encode(announce_change(change_set, {entry.digest: content}))


def _serve(publisher: Publisher, folder: Path) -> Any:
    @asynccontextmanager
    async def serving() -> Any:
        async def ready() -> tuple[bool, str]:
            return True, ""

        cluster = ClusterAnswer("bench", publisher.saver.epoch, int(HEARTBEAT * 1000), None)
        app = publisher_app(publisher, cluster, AppState(ready, CollectorRegistry()))
        registry = TokenRegistry(folder / "tokens.json")
        async with serve(Guard(app, registry.authenticate, 1 << 26), "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}"

    return serving()


async def _agents(work: dict[str, Any]) -> None:
    """A worker: gateways that follow one label."""
    async with open_client(work["url"], work["token"], timeout=60.0) as client:
        async with asyncio.TaskGroup() as tasks:
            for number in range(work["first"], work["first"] + work["count"]):
                name = f"bench-{number}"

                token = _node(work["secret"], name, LABEL)[0]
                access = BrokerAccess(node_token=partial(str, token))

                def open_hub(name: str = name, access: BrokerAccess = access) -> Any:
                    return open_nats_hub(
                        [work["broker"]], user=None, password=None, name=name, access=access
                    )

                agent = Agent(name, [LABEL], client, MemoryEngine(), open_hub, heartbeat=HEARTBEAT)
                tasks.create_task(agent.run())


async def _answerers(work: dict[str, Any]) -> None:
    """A worker: raw subscribers that answer each message once."""
    for number in range(work["first"], work["first"] + work["count"]):
        token, user = _node(work["secret"], f"raw-{number}", RAW)
        key, client = key_of_token(token), Client()
        client._public_nkey = key.public
        await client.connect([work["broker"]], signature_cb=key.sign)

        async def answer(_: Any, client: Any = client, subject: str = user.reports) -> None:
            await client.publish(subject, b"ok")

        await client.subscribe(RAW_SUBJECT, cb=answer)
    await asyncio.Event().wait()


def _node(secret: str, name: str, label: str) -> tuple[str, NodeUser]:
    """A token that every process works out for itself, and who its holder is at the broker."""
    digest = hashlib.sha256(f"{secret} {name}".encode()).digest()
    token = f"gs_{'0' * 12}_{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    return token, node_user(name, key_of_token(token).public, [label])


async def _start(stack: AsyncExitStack, work: dict[str, Any]) -> None:
    command = [sys.executable, __file__, "--worker", json.dumps(work)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)


def _resident() -> int:
    """Bytes of this process that are in memory: the second field of statm, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _shares(gateways: int, processes: int) -> list[tuple[int, int]]:
    processes = min(processes, gateways)
    bounds = [gateways * number // processes for number in range(processes + 1)]
    return [(first, last - first) for first, last in pairwise(bounds)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - polled rarely, outside what is timed
            await asyncio.sleep(0.05)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


if __name__ == "__main__":
    main()
