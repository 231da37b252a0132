"""The cluster of the demo of rsync: a manager's tree, workers behind real sshds, a runner."""

import asyncio
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from demo.processes import DemoError, Process, free_ports, run_command, until

__all__ = ["SERVER", "RsyncCluster", "Worker", "open_rsync_cluster"]

SERVER: Final = "deployment/server"
READY_SECONDS: Final = 30.0
COMPARE: Final = "3s"  # a demo should not be waited for; 10m by default
HOSTS: Final = {"host-1": ("worker-1", "worker-2"), "host-2": ("worker-3", "worker 4's")}
GATESYNC: Final = str(Path(sys.executable).parent / "gatesync")
SSHD: Final = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {keys}
AuthenticationMethods publickey
StrictModes no
UsePAM no
MaxStartups 100
MaxSessions 100
"""


class Worker(msgspec.Struct, frozen=True):
    """A gateway's folder, on a host that sshd leads to."""

    name: str
    host: str
    line: str
    folder: Path

    def files(self) -> dict[str, str]:
        """SHA-256 of each file, by its path; but for gatesync's own."""
        return digests(self.folder)


class RsyncCluster:
    """Everything that runs. Use `open_rsync_cluster`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "manager" / "repository"
        self.key = folder / "manager" / "key.pem"
        self.list = folder / "manager" / "workers-list.txt"
        ports = free_ports(len(HOSTS) + 1)
        self.publisher = f"127.0.0.1:{ports[0]}"
        self.ports = dict(zip(HOSTS, ports[1:], strict=True))
        self.workers: list[Worker] = []
        self.processes: dict[str, Process] = {}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESYNC_")}

    def expected(self) -> dict[str, str]:
        """What each worker is to have: what lies in the manager's tree."""
        return digests(self.source / SERVER)

    async def start(self) -> None:
        """A publisher for the receipts, the hosts, and the runner."""
        self._write_files()
        for host in HOSTS:
            await self.start_host(host)
        control = self.folder / "control"
        control.mkdir()
        (control / "deployment.toml").write_text(
            f'[apim.event_hub]\nenable = false\n[gatesync.publisher]\nlisten = "{self.publisher}"\n'
        )
        await self._run("publisher", ["publisher", "--config", str(control / "deployment.toml")])
        self._client = control / "gatesync-data" / "client.toml"
        await until(self._has_token, READY_SECONDS, "the publisher")
        token = self._client.read_text().partition('token = "')[2].partition('"')[0]
        self._environment |= {
            "GATESYNC_PUBLISHER": f"http://{self.publisher}",
            "GATESYNC_TOKEN": token,
        }
        await self.start_runner()

    async def start_host(self, host: str) -> None:
        """Its sshd, which ends with `stop_host`."""
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if sshd is None or shutil.which("rsync") is None:
            raise DemoError("this needs rsync and sshd: apt-get install rsync openssh-server")
        config = self.folder / host / "sshd_config"
        await self._run(host, ["-D", "-e", "-f", str(config)], program=sshd)
        await until(lambda: self._listens(host), READY_SECONDS, f"sshd of {host}")

    async def stop_host(self, host: str) -> None:
        """End its sshd, and every session: the host is down."""
        await self.processes[host].kill()

    async def start_runner(self) -> None:
        """`gatesync rsync --watch`."""
        options = [
            *("--workers", str(self.list), "--source", str(self.source)),
            *("--identity-file", str(self.key), "--known-hosts", f"{self.key.parent}/known_hosts"),
            *("--watch", "--full-every", COMPARE),
            *("--config", str(self.folder / "manager" / "deployment.toml")),
        ]
        await self._run("runner", ["rsync", *options])

    async def gateways(self) -> list[dict[str, Any]]:
        """What `gatesync gateways --json` says of the workers."""
        code, output = await run_command([GATESYNC, "gateways", "--json"], self._environment)
        if code:
            raise DemoError(f"gatesync gateways ended with {code}")
        workers: list[dict[str, Any]] = msgspec.json.decode(output)["workers"]
        return workers

    async def table(self) -> str:
        """What `gatesync gateways` prints."""
        _, output = await run_command([GATESYNC, "gateways"], self._environment)
        return output

    async def stop(self) -> list[str]:
        """End everything; answers with what was not in order."""
        said = []
        for name, process in reversed(self.processes.items()):
            if name in HOSTS:
                await process.kill()  # its sessions are processes that sshd does not end
            else:
                said.append(await process.stop())
        return [each for each in said if each]

    async def _run(self, name: str, arguments: list[str], program: str = GATESYNC) -> None:
        log = self.folder / f"{name}.log"
        process = Process(name, [program, *arguments], log, self._environment)
        self.processes.pop(name, None)
        self.processes[name] = process
        await process.start()

    async def _has_token(self) -> bool:
        return self._client.exists()

    async def _listens(self, host: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[host])) == 0

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True)
        (self.source / SERVER).mkdir(parents=True)
        config = '[apim.event_hub]\nenable = false\n[gatesync]\nnode_id = "manager"\n'
        (self.key.parent / "deployment.toml").write_text(config)
        _make_key(self.key)
        known_hosts = []
        for host, names in HOSTS.items():
            folder, port = self.folder / host, self.ports[host]
            folder.mkdir()
            _make_key(folder / "host_key")
            public = (folder / "host_key.pub").read_text()
            known_hosts.append(f"[127.0.0.1]:{port} {public}")
            keys = self.key.with_name("key.pem.pub")
            told = SSHD.format(port=port, folder=folder, keys=keys)
            (folder / "sshd_config").write_text(told)
            for name in names:
                place = folder / name / "repository" / SERVER
                place.mkdir(parents=True)
                line = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{place}"
                self.workers.append(Worker(name, host, line, place))
        (self.key.parent / "known_hosts").write_text("".join(known_hosts))
        self.list.write_text("".join(f"{each.line}\n" for each in self.workers))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what sshd wants as root


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, but for gatesync's own."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".gatesync" not in path.relative_to(folder).parts
    }


@asynccontextmanager
async def open_rsync_cluster(folder: Path) -> AsyncIterator[RsyncCluster]:
    """Start everything in a new folder, and end it."""
    cluster = RsyncCluster(folder)
    try:
        await cluster.start()
        yield cluster
        if said := await cluster.stop():
            raise DemoError("; ".join(said))
    finally:
        await asyncio.shield(cluster.stop())


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
