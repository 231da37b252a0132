"""A real nginx in a folder of its own, with a configuration file as it is printed, for tests."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from tests.servers.gatesync import free_ports

TIMEOUT = 10.0


def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found, "nginx is missing: apt-get install nginx-light"
    return found


@asynccontextmanager
async def nginx(folder: Path, printed: str, upstream: int) -> AsyncIterator[str]:
    """Run it while the block runs, before the upstream's port; yields its URL.

    Of what is printed, ports alone are changed: the upstream's, and the one that it listens on.
    """
    port = free_ports(1)[0]
    config = re.sub(r"server 127\.0\.0\.1:\d+", f"server 127.0.0.1:{upstream}", printed)
    config = re.sub(r"listen 127\.0\.0\.1:\d+", f"listen 127.0.0.1:{port}", config)
    # Where a package's own file would put these, which tests have no business in.
    own = "".join(
        f"{name}_temp_path temp-{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = config.replace("http {\n", f"http {{\naccess_log off;\n{own}", 1)
    path = folder / "nginx.conf"
    path.write_text(f"daemon off;\npid nginx.pid;\n{_user()}{config}")
    log = folder / "nginx.log"
    with log.open("wb") as out:
        command = [nginx_binary(), "-p", str(folder), "-c", str(path), "-e", str(log)]
        process = _spawn(command, out)
    try:
        async with asyncio.timeout(TIMEOUT):
            while True:
                assert process.poll() is None, log.read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)  # another process: nothing to await
                    continue
                writer.close()
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)


def _spawn(command: list[str], out: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=out, stderr=out)


def _user() -> str:
    """Root's workers would become someone who may not enter a test's folder."""
    return "user root;\n" if os.geteuid() == 0 else ""
