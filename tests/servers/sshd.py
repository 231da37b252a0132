"""A real OpenSSH server on a loopback port and in a folder of its own, for tests.

It has its own host key, and lets in the user who runs the tests, with one key of its own.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.servers.gatesync import TIMEOUT, free_ports, until

HOST: Final = "127.0.0.1"
_PRIVILEGE_SEPARATION: Final = Path("/run/sshd")  # what sshd wants to find as root

_CONFIG: Final = """\
ListenAddress {host}:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserRC no
# The test's folder is no home folder, and may be anyone's.
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
# Many sessions may begin at once, or come through one connection.
MaxStartups 1000
MaxSessions 1000
# A second level of shells: so bash does not read the user's own startup files.
SetEnv SHLVL=1 "PATH={path}"
Subsystem sftp internal-sftp
"""


class Sshd:
    """One server. Use `sshd`.

    `identity_file` is the private key that it lets in, for `user`; `known_hosts` has its own key.
    """

    def __init__(self, binary: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.user = getpass.getuser()
        self.identity_file = folder / "identity"
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "sshd_config"
        self.log = folder / "sshd.log"
        self.process: subprocess.Popen[bytes]
        self._binary = binary
        self._write_files()

    @property
    def ssh_options(self) -> Sequence[str]:
        """What `ssh` (or `sftp`, but for `-p`) needs to be let in, and to ask nobody anything."""
        return (
            *("-F", "none", "-p", str(self.port), "-i", str(self.identity_file)),
            *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}"),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
        )

    def make_key(self, name: str, *, let_in: bool) -> Path:
        """Another private key, in the server's folder; it is let in, too, or it is a stranger's."""
        path = self.folder / name
        _make_key(path)
        if let_in:
            with (self.folder / "authorized_keys").open("a") as file:
                file.write(path.with_suffix(".pub").read_text())
        return path

    def start(self) -> None:
        """Listen (again), on the same port; returns once it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._binary, "-D", "-e", "-f", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._answers, "sshd answers")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and every session that it has: new connections are refused."""
        everyone = self._everyone()
        for each in everyone:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(TIMEOUT)
        psutil.wait_procs(everyone, TIMEOUT)

    def pause(self) -> None:
        """Stop it and its sessions where they are: connections are taken, and nobody answers."""
        self._tell_everyone(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._tell_everyone(signal.SIGCONT)

    def _tell_everyone(self, number: signal.Signals) -> None:
        for each in self._everyone():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def _everyone(self) -> list[psutil.Process]:
        """The server and its sessions, with what runs in them; the server first."""
        try:
            server = psutil.Process(self.process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _write_files(self) -> None:
        path = os.environ.get("PATH", os.defpath)
        config = _CONFIG.format(host=HOST, port=self.port, folder=self.folder, path=path)
        self.config.write_text(config)
        for key in (self.folder / "host_key", self.identity_file):
            _make_key(key)
        public = self.identity_file.with_suffix(".pub").read_text()
        (self.folder / "authorized_keys").write_text(public)
        host_key = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {host_key}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with socket.create_connection((HOST, self.port), TIMEOUT) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT)


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Run one in this folder, which is made, while the block runs.

    Several may run at once, each in a folder of its own. Skips the test where there is no sshd.
    """
    binary = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH: apt-get install openssh-server openssh-client")
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    server = Sshd(binary, folder.resolve())
    server.start()
    try:
        yield server
    finally:
        server.stop()
