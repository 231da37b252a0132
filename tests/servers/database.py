"""What the database servers of the tests have in common: how one starts, ends and hangs."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from tests.servers.gatesync import free_ports, until

USER, PASSWORD = "gatesync", "s3cret p@ss/word"
_NOBODY: Final = 65534
_IN_MEMORY: Final = Path("/dev/shm")


class Databases(Protocol):
    """Where tests get empty databases from."""

    def database(self) -> AbstractContextManager[str]:
        """An empty database, by its URL; it is dropped at the end."""
        ...


class DatabaseProcess:
    """A server on 127.0.0.1: it can be killed, frozen, and started again on the same data.

    It does not run as root: database servers refuse to.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it accepts connections."""
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, f"--port={self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **not_as_root(),
            )
        until(self._has_started, f"the server of {self.folder} accepts connections")

    def _has_started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        return self.accepts()

    def accepts(self) -> bool:
        raise NotImplementedError

    def stop(self) -> None:
        """End it at once, but so that it gives back what it has from the system."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it like a power cut, with every process of its own."""
        if self._process is not None:
            for each in self._family():
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """None of its processes does anything any more; the kernel still accepts for it."""
        for each in self._family():
            with suppress(psutil.NoSuchProcess):
                each.suspend()

    def thaw(self) -> None:
        for each in self._family():
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A folder of whom the server runs as: in memory where there is such a place.

    GATESYNC_TEST_FOLDER names another, such as one on a disk.
    """
    place = os.environ.get("GATESYNC_TEST_FOLDER")
    if place is None and os.access(_IN_MEMORY, os.W_OK):
        place = str(_IN_MEMORY)
    folder = Path(tempfile.mkdtemp(prefix=f"gatesync-{name}-", dir=place))
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def not_as_root() -> dict[str, Any]:
    """Arguments for `subprocess`."""
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"}


def run_once(*command: str | Path) -> None:
    """Run a program that makes a server's files, as whom the server runs as."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **not_as_root())
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
