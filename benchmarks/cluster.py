"""A cluster of real processes: broker, publisher on SQLite, and any number of gateways."""

import asyncio
import subprocess
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import psutil

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Head
from gatesync.publisher.answers import GatewaysAnswer, ReceiptsAnswer
from gatesync.publisher.receipts import ReceiptStatus
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import HttpClient, open_client
from parts import GATESYNC, artifact_of, cpu_seconds, free_port, role, wait_until

__all__ = ["LABEL", "Cluster", "cluster", "proportional_mb"]

LABEL = "Default"
WAIT_SECONDS = 10.0  # one long poll
SECONDS_MOST = 120.0


class Cluster:
    """Broker and publisher, which run; and a client that may do everything.

    Attributes:
        pids: of all processes that run, those of gateways last.
    """

    def __init__(
        self, folder: Path, url: str, client: HttpClient, stack: ExitStack, pids: list[int]
    ) -> None:
        self.pids = pids
        self.folder = folder
        self.url = url
        self.client = client
        self._stack = stack

    def start_gateway(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a process; it is ended with the cluster."""
        control = self.folder / "control.toml"
        create = [GATESYNC, "token", "create", "--role", "node", "--id", name, "--label", LABEL]
        token = subprocess.check_output([*create, "--config", str(control)], text=True).strip()
        config = self.folder / f"{name}.toml"
        config.write_text(
            f"[gatesync]\ndata = '{name}'\nnode_id = '{name}'\n"
            f"[gatesync.gateway]\nlisten = '127.0.0.1:{free_port()}'\ntoken = '{token}'\n"
            f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{LABEL}']\n"
            "save_artifacts_locally = false\n"
            f"[apim.event_hub]\nservice_url = '{self.url}'\n"
        )
        log = self.folder / f"{name}.log"
        process = self._stack.enter_context(role("gateway", config, log))
        self.pids.append(process.pid)
        return process

    def cpu_seconds(self) -> dict[str, float]:
        """What its processes have taken of the cores since they started, by what they are."""
        names = ("broker", "publisher", *("gateways" for _ in self.pids[2:]))
        spent = dict.fromkeys(names, 0.0)
        for name, pid in zip(names, self.pids, strict=True):
            tree = psutil.Process(pid)
            spent[name] += sum(
                cpu_seconds(each.pid) for each in [tree, *tree.children(recursive=True)]
            )
        return spent

    async def until_ready(self, gateways: int) -> None:
        """Wait until so many gateways have reported that they are ready."""
        deadline = time.monotonic() + SECONDS_MOST
        while True:
            answer = await self.client.get("/v1/gateways", GatewaysAnswer)
            if sum(each.status == "ready" for each in answer.gateways) >= gateways:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(answer.gateways)} of {gateways} gateways are there")
            await asyncio.sleep(0.1)

    async def publish(self, number: int, size: int, edit: int, gateways: int) -> float:
        """Milliseconds from the request until so many gateways have it deployed and said so."""
        content = msgspec.Raw(canonical.encode(artifact_of(number, size, edit)))
        body = {"labels": [LABEL], "publish": [{"artifact": content}]}
        began = time.perf_counter()
        answer = await self.client.post("/v1/changes", body, ChangeAnswer)
        await self._until_applied(answer.heads[0], gateways)
        return (time.perf_counter() - began) * 1000

    async def _until_applied(self, head: Head, gateways: int) -> None:
        asked = [("label", head.label), ("epoch", head.epoch), ("revision", head.revision)]
        asked += [("applied", gateways), ("wait", WAIT_SECONDS)]
        deadline = time.monotonic() + SECONDS_MOST
        while time.monotonic() < deadline:
            answer = await self.client.get("/v1/receipts", ReceiptsAnswer, asked)
            if sum(each.status is ReceiptStatus.APPLIED for each in answer.receipts) >= gateways:
                return
        raise TimeoutError(f"not everywhere: {answer.receipts}")


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Run broker and publisher, and whatever gateways are started, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything runs
    with ExitStack() as stack:
        url, pids = stack.enter_context(_control(folder))
        known = tomllib.loads((folder / "control" / "client.toml").read_text())
        async with open_client(url, known["token"], timeout=60.0) as client:
            yield Cluster(folder, url, client, stack, pids)


@contextmanager
def _control(folder: Path) -> Iterator[tuple[str, list[int]]]:
    publisher, broker = free_port(), free_port()
    config = folder / "control.toml"
    config.write_text(
        f"[gatesync]\ndata = 'control'\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{publisher}'\n"
        f"[gatesync.traffic_manager]\nlisten = '127.0.0.1:{broker}'\n"
    )
    with role("traffic-manager", config, folder / "traffic-manager.log") as manager:
        credentials = folder / "control" / "broker-credentials.json"
        deadline = time.monotonic() + SECONDS_MOST
        while not credentials.exists():  # the publisher reads it when it starts
            ended = manager.poll() is not None or time.monotonic() > deadline
            assert not ended, (folder / "traffic-manager.log").read_text()
            time.sleep(0.01)
        with role("publisher", config, folder / "publisher.log") as process:
            url = f"http://127.0.0.1:{publisher}"
            wait_until(f"{url}/health/ready")
            yield url, [manager.pid, process.pid]


def proportional_mb(pid: int) -> float:
    """Megabytes of a process and its children; what they share is counted once."""
    process = psutil.Process(pid)
    tree = [process, *process.children(recursive=True)]
    return sum(each.memory_full_info().pss for each in tree) / 1e6
