"""The cluster: a traffic manager, a publisher, three gateways; each a process."""

import asyncio
import os
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from demo.faults import FOLDER_VARIABLE
from demo.layout import GATEWAYS, Layout
from demo.processes import DemoError, Process, run_command, until
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client

__all__ = ["Cluster", "Gateway", "open_cluster"]

READY_SECONDS: Final = 60.0  # it takes one or two; a machine may be busy
_SCRIPTS: Final = Path(__file__).resolve().parents[1]


class Gateway(msgspec.Struct, frozen=True):
    """One gateway: its label, its process, its admin HTTP, and where its Envoy answers."""

    name: str
    label: str
    envoy: str
    process: Process
    client: HttpClient


class Cluster:
    """All processes. Use `open_cluster`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.gateways: list[Gateway] = []
        self.publisher_client: HttpClient
        self._program = str(Path(sys.executable).with_name("gatesync"))
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESYNC_")}
        self.traffic_manager = self._process("traffic-manager", "traffic-manager", {})
        path = os.pathsep.join(filter(None, (str(_SCRIPTS), os.environ.get("PYTHONPATH"))))
        faulty = {"PYTHONPATH": path, FOLDER_VARIABLE: str(layout.faults)}
        self.publisher = self._process("publisher", "publisher", faulty)

    @property
    def processes(self) -> list[Process]:
        """Every process, in the order in which they are started."""
        return [self.traffic_manager, self.publisher, *(each.process for each in self.gateways)]

    async def gatesync(self, *arguments: str) -> tuple[int, str]:
        """Run the command line as an operator would; answers with exit code and output."""
        return await run_command([self._program, *arguments], self._environment)

    async def start(self, clients: AsyncExitStack) -> None:
        """Start everything, in order; returns when everyone is ready and has found the broker."""
        async with asyncio.TaskGroup() as tasks:
            for name, label in GATEWAYS.items():
                tasks.create_task(self._make_token(name, "--label", label))
            tasks.create_task(self._start_control_plane(clients))
        for name, label in GATEWAYS.items():
            url = f"http://{self.layout.gateways[name]}"
            opening = open_client(url, self.layout.admin_tokens[name])
            client = await clients.enter_async_context(opening)
            gateway = Gateway(
                name, label, self.layout.envoys[name], self._process(name, "gateway", {}), client
            )
            self.gateways.append(gateway)
            await gateway.process.start()
        for gateway in self.gateways:
            await _until(gateway.process, "to be ready", partial(_ready, gateway.client))
        await until(self.everyone_connected, READY_SECONDS, "everyone to find the broker")

    async def start_traffic_manager(self) -> None:
        """Start the broker; returns when it listens."""
        await self.traffic_manager.start()
        await _until(self.traffic_manager, "to listen", self._broker_listens)

    async def start_publisher(self) -> None:
        """Start the publisher; returns when it is ready and connected to the broker."""
        await self.publisher.start()
        await _until(self.publisher, "to be ready", self._publisher_connected)

    async def everyone_connected(self) -> bool:
        """Whether the publisher and every gateway have the broker."""
        answers = [await _answer(each.client, "/v1/status") for each in self.gateways]
        return await self._publisher_connected() and all(a.get("connected") for a in answers)

    async def stop(self) -> list[str]:
        """Stop everything that runs, gateways first; answers with what was not in order."""
        said = list(await asyncio.gather(*(each.process.stop() for each in self.gateways)))
        said += [await self.publisher.stop(), await self.traffic_manager.stop()]
        return [each for each in said if each]

    async def _start_control_plane(self, clients: AsyncExitStack) -> None:
        url = f"http://{self.layout.publisher}"
        self.publisher_client = await clients.enter_async_context(open_client(url))
        # It has a data folder of its own, and so asks the publisher which nodes there are.
        await self._make_token("traffic-manager", "--role", "read")
        await self.start_traffic_manager()
        await self.start_publisher()
        token = str(tomllib.loads(self.layout.client_file.read_text())["token"])
        self._environment |= {"GATESYNC_PUBLISHER": url, "GATESYNC_TOKEN": token}
        self.publisher_client = await clients.enter_async_context(open_client(url, token))

    async def _make_token(self, name: str, *what_for: str) -> None:
        config = str(self.layout.config("publisher"))
        arguments = ("token", "create", "--config", config, "--id", name, *what_for)
        code, output = await self.gatesync(*arguments)
        if code != 0:
            raise DemoError(f"no token for {name}: gatesync token create ended with {code}")
        self.layout.keep_token(name, output.strip())

    async def _publisher_connected(self) -> bool:
        ready = await _answer(self.publisher_client, "/health/ready")
        return ready.get("event_hub") == "connected"

    async def _broker_listens(self) -> bool:
        host, _, port = self.layout.broker.partition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        return True

    def _process(self, name: str, role: str, more: dict[str, str]) -> Process:
        command = [self._program, role, "--config", str(self.layout.config(name))]
        return Process(name, command, self.layout.log(name), self._environment | more)


@asynccontextmanager
async def open_cluster(layout: Layout) -> AsyncIterator[Cluster]:
    """Run the cluster for as long as the block runs; afterwards none of it is left.

    Raises `DemoError` when it does not start, or does not stop in order.
    """
    cluster = Cluster(layout)
    async with AsyncExitStack() as clients:
        try:
            await cluster.start(clients)
            yield cluster
        finally:
            problems = await cluster.stop()
        if problems:
            raise DemoError("; ".join(problems))


async def _until(process: Process, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a process to do something; notice when it ends instead."""

    async def happened() -> bool:
        if not process.alive:
            raise DemoError(f"{process.name} ended; its last words:\n{process.last_words()}")
        return await condition()

    await until(happened, READY_SECONDS, f"{process.name} {what}")


async def _ready(client: HttpClient) -> bool:
    return bool(await _answer(client, "/health/ready"))


async def _answer(client: HttpClient, path: str) -> dict[str, Any]:
    try:
        return await client.get(path, dict[str, Any])
    except (UnreachableError, AnsweredError):
        return {}
