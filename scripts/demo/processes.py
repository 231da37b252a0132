"""Operating-system processes: started in a group of their own, ended by their own pids."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Final

import psutil

__all__ = ["DemoError", "Process", "free_ports", "run_command", "until"]

STOP_SECONDS: Final = 10.0  # between SIGTERM and SIGKILL
COMMAND_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
# Below what systems hand out for outgoing connections, so that nobody gets the port of a process
# that is down just now.
PORTS: Final = range(20_000, 32_000)

_PR_SET_PDEATHSIG: Final = 1


class DemoError(Exception):
    """The demo cannot go on; says why."""


class Process:
    """One role. Its output goes to `log`, which is kept when it is started again."""

    def __init__(
        self, name: str, command: Iterable[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._outlived: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """The process id while it runs, else 0."""
        return self._process.pid if self._process and self.alive else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; whether it works is for the caller to find out."""
        with self._log.open("ab") as log:
            self._process = await _spawn(self._command, self._environment, log, log)

    async def ended(self, seconds: float) -> None:
        """Wait for it to end by itself. Raises `DemoError` when it does not."""
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            raise DemoError(
                f"{self.name} (pid {self.pid}) still runs after {seconds:g} s"
            ) from None

    async def kill(self) -> None:
        """SIGKILL, to it and then to what it had started and outlived it."""
        await self._end(signal.SIGKILL)

    async def kill_alone(self) -> None:
        """SIGKILL to it and to nothing that it had started; that is ended by `stop`."""
        assert self._process is not None
        self._outlived += _children(self._process.pid)
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> str:
        """SIGTERM, then SIGKILL; answers with what was not in order, or an empty string."""
        outlived, self._outlived = self._outlived, []
        if not self.alive:
            for each in outlived:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            return ""
        assert self._process is not None
        left = await self._end(signal.SIGTERM)
        if self._process.returncode != 0:
            return f"{self.name} ended with {self._process.returncode} when it was asked to stop"
        return f"{self.name} left processes behind: {left}" if left else ""

    def last_words(self) -> str:
        """The end of its log, for messages."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-12:]) or "(it said nothing)"

    async def _end(self, number: signal.Signals) -> list[int]:
        """End it and its children; answers with the pids of children that had to be killed."""
        if self._process is None or not self.alive:
            return []
        children = _children(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(DemoError):  # on Linux they die of it; elsewhere by our hand
            await until(lambda: _all_gone(children), 2.0, "the children to end")
        left = [child for child in children if not _gone(child)]
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        return [child.pid for child in left]


async def run_command(command: Iterable[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run to its end; answers with the exit code and standard output. Errors go to ours."""
    process = await _spawn(list(command), environment, asyncio.subprocess.PIPE, None)
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise DemoError(f"{' '.join(command)} took more than {COMMAND_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str, poll: float = POLL_SECONDS
) -> None:
    """Wait for a condition. Raises `DemoError` when it takes longer than this."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - of other processes
                await asyncio.sleep(poll)
    except TimeoutError:
        raise DemoError(f"waited {seconds:g} s in vain for {what}") from None


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    found: list[int] = []
    for port in SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise DemoError(f"fewer than {count} ports are free")


async def _spawn(
    command: list[str], environment: Mapping[str, str], output: object, errors: object
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,  # type: ignore[arg-type]
        stderr=errors,  # type: ignore[arg-type]
        start_new_session=True,  # Ctrl-C is for us: we stop them in order
        preexec_fn=_end_with_us(),
    )


def _end_with_us() -> Callable[[], None] | None:
    """Should somebody SIGKILL the demo, Linux asks its processes to stop."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


async def _all_gone(processes: Iterable[psutil.Process]) -> bool:
    return all(_gone(each) for each in processes)


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
