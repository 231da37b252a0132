"""The cluster of the demo of a share: two publishers, three gateways, no broker, no database.

Each host reaches the share by a path of its own, which can be taken away as a mount can.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from demo.cluster import Gateway
from demo.layout import GATEWAYS, LABELS
from demo.processes import DemoError, Process, free_ports, run_command, until
from gatesync.private_file import write_private_file
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client

__all__ = ["PUBLISHERS", "ShareCluster", "open_share_cluster"]

PUBLISHERS: Final = ("publisher-1", "publisher-2")
READY_SECONDS: Final = 60.0
GATESYNC: Final = str(Path(sys.executable).with_name("gatesync"))

_COMMON: Final = """\
[gatesync]
node_id = "{name}"
data = "data"
heartbeat_interval = 1000

[apim.sync_runtime_artifacts.shared]
path = "apim"
labels = {labels}
check_interval = 250
verify_interval = 2000

[apim.event_hub]
enable = false
service_url = "http://{service}"
"""
_PUBLISHER: Final = """
[apim.sync_runtime_artifacts.publisher]
artifact_saver = "SharedFileSystemSaver"

[gatesync.publisher]
listen = "{listen}"
"""
_GATEWAY: Final = """
[apim.sync_runtime_artifacts.gateway]
gateway_labels = ["{label}"]
artifact_retriever = "SharedFileSystemRetriever"
save_artifacts_locally = false
deployment_retry_duration = 500

[gatesync.gateway]
listen = "{listen}"
token_file = "token"
admin_token = "{admin_token}"
"""


class ShareCluster:
    """Everything that runs. Use `open_share_cluster`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.share = folder / "share"
        names = (*PUBLISHERS, *GATEWAYS)
        ports = free_ports(len(names))
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)
        }
        self.processes: dict[str, Process] = {}
        self.gateways: list[Gateway] = []
        self._admin = {name: secrets.token_urlsafe(32) for name in GATEWAYS}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESYNC_")}

    async def gatesync(self, *arguments: str, publisher: str = "") -> tuple[int, str]:
        """Run the command line, of this publisher's operator where one is named."""
        more = {}
        if publisher:
            path = self.folder / publisher / "data" / "client.toml"
            token = path.read_text().partition('token = "')[2].partition('"')[0]
            url = f"http://{self.addresses[publisher]}"
            more = {"GATESYNC_PUBLISHER": url, "GATESYNC_TOKEN": token}
        return await run_command([GATESYNC, *arguments], self._environment | more)

    async def start(self, clients: AsyncExitStack) -> None:
        """From an empty folder to everybody ready."""
        self.share.mkdir(parents=True)
        for name in (*PUBLISHERS, *GATEWAYS):
            self._write(name)
        code, said = await self.gatesync("share", "create", "--config", self.config(PUBLISHERS[0]))
        if code:
            raise DemoError(f"gatesync share create ended with {code}: {said}")
        for name in PUBLISHERS:
            await self.start_one(name, "publisher")
        # Gateways report to the second one: the first is going to be killed.
        for name in GATEWAYS:
            options = ("--id", name, "--label", GATEWAYS[name])
            config = self.config(PUBLISHERS[1])
            code, token = await self.gatesync("token", "create", "--config", config, *options)
            if code:
                raise DemoError(f"gatesync token create ended with {code}")
            write_private_file(self.folder / name / "token", token.strip().encode())
        await asyncio.gather(*(self.start_one(name, "gateway") for name in GATEWAYS))
        for name, label in GATEWAYS.items():
            opening = open_client(f"http://{self.addresses[name]}", self._admin[name])
            client = await clients.enter_async_context(opening)
            self.gateways.append(Gateway(name, label, "", self.processes[name], client))

    async def start_one(self, name: str, role: str) -> None:
        """Start a process (again); returns when it is ready."""
        command = [GATESYNC, role, "--config", self.config(name)]
        log = self.folder / name / "log.txt"
        process = self.processes[name] = Process(name, command, log, self._environment)
        await process.start()
        async with open_client(f"http://{self.addresses[name]}") as client:

            async def ready() -> bool:
                if not process.alive:
                    raise DemoError(f"{name} ended; its last words:\n{process.last_words()}")
                return bool(await _answer(client, "/health/ready"))

            await until(ready, READY_SECONDS, f"{name} to be ready")

    def unmount(self, name: str) -> None:
        """Leave this host an empty folder in the share's place."""
        place = self.folder / name / "apim"
        place.unlink()
        place.mkdir()

    def mount(self, name: str) -> None:
        """Give it the share (back)."""
        place = self.folder / name / "apim"
        if place.is_dir():
            place.rmdir()  # raises where anything was written there
        place.symlink_to(self.share)

    async def stop(self) -> list[str]:
        """Stop everything that runs, gateways first; answers with what was not in order."""
        said = [await each.stop() for each in reversed(self.processes.values())]
        return [each for each in said if each]

    def config(self, name: str) -> str:
        """The deployment.toml of a process."""
        return str(self.folder / name / "deployment.toml")

    def _write(self, name: str) -> None:
        (self.folder / name).mkdir()
        self.mount(name)
        service = self.addresses[PUBLISHERS[1]]
        text = _COMMON + (_PUBLISHER if name in PUBLISHERS else _GATEWAY)
        content = text.format(
            name=name,
            labels=list(LABELS),
            service=service,
            listen=self.addresses[name],
            label=GATEWAYS.get(name),
            admin_token=self._admin.get(name),
        )
        write_private_file(Path(self.config(name)), content.encode())


@asynccontextmanager
async def open_share_cluster(folder: Path) -> AsyncIterator[ShareCluster]:
    """Run it for as long as the block runs; afterwards none of it is left.

    Raises `DemoError` when it does not start, or does not stop in order.
    """
    cluster = ShareCluster(folder)
    async with AsyncExitStack() as clients:
        try:
            await cluster.start(clients)
            yield cluster
        finally:
            problems = await cluster.stop()
        if problems:
            raise DemoError("; ".join(problems))


async def _answer(client: HttpClient, path: str) -> dict[str, Any]:
    try:
        return await client.get(path, dict[str, Any])
    except (UnreachableError, AnsweredError):
        return {}
