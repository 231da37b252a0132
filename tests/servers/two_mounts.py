"""One folder, mounted twice over a network file system: sshfs over a real sshd on loopback.

Each mount is a FUSE process of its own with caches of its own, as two hosts have them.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.servers.gatesync import TIMEOUT, until
from tests.servers.sshd import HOST, Sshd, sshd

__all__ = ["Mount", "TwoMounts", "two_mounts"]

FUSE: Final = Path("/dev/fuse")


class Mount:
    """A mounted folder, which can be taken away and brought back."""

    def __init__(self, folder: Path, exported: Path, server: Sshd) -> None:
        self.folder = folder
        self._exported = exported
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    def is_mounted(self) -> bool:
        return os.path.ismount(self.folder)

    def mount(self) -> None:
        """Mount it (again); returns once it is there."""
        server = self._server
        ssh = f"ssh -F none -i {server.identity_file} -o UserKnownHostsFile={server.known_hosts}"
        options = f"ssh_command={ssh} -o BatchMode=yes -o IdentitiesOnly=yes,port={server.port}"
        source = f"{server.user}@{HOST}:{self._exported}"
        command = ["sshfs", "-f", source, str(self.folder), "-o", options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until(lambda: self.is_mounted or self._has_ended(), "the folder is mounted")
        assert not self._has_ended(), f"sshfs ended with {self._process.returncode}"

    def unmount(self) -> None:
        """Take it away: an empty folder is left, whoever has it open."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=TIMEOUT)
        self._end()

    def break_off(self) -> None:
        """Kill what serves the mount: every question is answered with an error from then on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(TIMEOUT)

    def end(self) -> None:
        """Leave nothing behind, in whichever state it is."""
        subprocess.run(
            ["umount", "--lazy", str(self.folder)],
            check=False,
            capture_output=True,
            timeout=TIMEOUT,
        )
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


class TwoMounts:
    """`exported` is the folder on the server; `one` and `two` are its mounts."""

    def __init__(self, exported: Path, one: Mount, two: Mount, server: Sshd) -> None:
        self.exported = exported
        self.one = one
        self.two = two
        self.server = server


@contextmanager
def two_mounts(folder: Path) -> Iterator[TwoMounts]:
    """Mounted in this folder, which exists, while the block runs."""
    if os.geteuid() != 0 or not FUSE.exists() or shutil.which("sshfs") is None:
        pytest.skip("needs root, /dev/fuse, and: apt-get install sshfs openssh-server")
    exported = folder / "exported"
    exported.mkdir()
    with sshd(folder / "sshd") as server:
        one, two = (Mount(folder / name, exported, server) for name in ("one", "two"))
        try:
            one.mount()
            two.mount()
            yield TwoMounts(exported, one, two, server)
        finally:
            for mount in (one, two):
                mount.end()
