"""Gateways, or raw subscribers, many to a process: `propagation` and others start it as one.

    python benchmarks/fleet_workers.py '{"kind": "agents", ...}'

The gateways are real agents (informer, digest check, label digest, memory engine, report), each
with a connection to the broker of its own. A raw subscriber answers each message once.
"""

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import uvloop
from nats.aio.client import Client

from gatesync.artifacts.names import label_token
from gatesync.artifacts.signatures import Signer, Trust
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.engines.memory import MemoryEngine
from gatesync.events.access import BrokerAccess
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_users import LABEL_SUBJECT, NodeUser, node_user
from gatesync.events.nkeys import key_of_token
from gatesync.gateway.agent import Agent
from gatesync.web.client import open_client

__all__ = ["LABEL", "RAW", "RAW_SUBJECT", "SIGNER", "node", "shares", "start"]

LABEL, RAW = "Default", "raw"
RAW_SUBJECT = LABEL_SUBJECT + label_token(RAW)
SIGNER = Signer(bytes(range(32)))


async def start(stack: AsyncExitStack, work: dict[str, Any]) -> int:
    """Start a process with its work; it is ended with the stack. Answers with its pid."""
    command = [sys.executable, __file__, json.dumps(work)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process.pid


def shares(count: int, processes: int) -> list[tuple[int, int]]:
    """The first of each process, and how many it has."""
    processes = min(processes, count)
    bounds: Sequence[int] = [count * number // processes for number in range(processes + 1)]
    return [(first, last - first) for first, last in pairwise(bounds)]


def node(secret: str, name: str, label: str) -> tuple[str, NodeUser]:
    """A token that every process works out for itself, and who its holder is at the broker."""
    digest = hashlib.sha256(f"{secret} {name}".encode()).digest()
    token = f"gs_{'0' * 12}_{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    return token, node_user(name, key_of_token(token).public, [label])


def main() -> None:
    """Run until ended."""
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    work = json.loads(sys.argv[1])
    uvloop.run((_agents if work["kind"] == "agents" else _answerers)(work))


async def _agents(work: dict[str, Any]) -> None:
    trust = Trust([SIGNER.key]) if work["signed"] else None
    async with open_client(work["url"], work["token"], timeout=60.0) as client:
        async with asyncio.TaskGroup() as tasks:
            for number in range(work["first"], work["first"] + work["count"]):
                name = f"bench-{number}"
                token = node(work["secret"], name, LABEL)[0]
                access = BrokerAccess(node_token=partial(str, token))

                def open_hub(name: str = name, access: BrokerAccess = access) -> Any:
                    return open_nats_hub(
                        [work["broker"]], user=None, password=None, name=name, access=access
                    )

                agent = Agent(
                    name,
                    [LABEL],
                    client,
                    MemoryEngine(),
                    open_hub,
                    heartbeat=work["heartbeat"],
                    trust=trust,
                )
                tasks.create_task(agent.run())


async def _answerers(work: dict[str, Any]) -> None:
    for number in range(work["first"], work["first"] + work["count"]):
        token, user = node(work["secret"], f"raw-{number}", RAW)
        key, client = key_of_token(token), Client()
        client._public_nkey = key.public
        await client.connect([work["broker"]], signature_cb=key.sign)

        async def answer(_: Any, client: Any = client, subject: str = user.reports) -> None:
            await client.publish(subject, b"ok")

        await client.subscribe(RAW_SUBJECT, cb=answer)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
