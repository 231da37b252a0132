"""How ssh is told everything: a file for `ssh -F`, so that no command line holds what people wrote.

In the file each host has an alias (`worker-0`). A command is then `ssh -F FILE worker-0 ...`, and
no name, user or path of anyone's can be taken for an option or reach a shell. The user's own
`~/.ssh/config` is not read, unless it is included by `extra_config`.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from gatesync.mirroring.workers import SshHost

__all__ = ["ControlFolder", "SshConfig", "SshError", "SshSettings", "check_identity_file"]

# A socket's path has room for 107 bytes, and ssh makes it under a name that is 17 longer.
_CONTROL_PATH_MAX: Final = 107 - 17
_CONTROL_NAME_MAX: Final = len("/c99999")
_SHORT_FOLDER: Final = "/tmp"  # noqa: S108 - a new private folder is made in it
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_AWKWARD: Final = frozenset('"\\$%\n\r\0')  # what ssh's file would expand, or cannot hold

_CONFIG: Final = """\
# gatesync writes this file at every start; changes to it are lost.
{hosts}
Host *
  BatchMode yes
{identity}  StrictHostKeyChecking {checking}
{known_hosts}  UpdateHostKeys no
  PreferredAuthentications publickey
  ConnectTimeout {connect_seconds}
  ConnectionAttempts 1
  ServerAliveInterval {alive_seconds}
  ServerAliveCountMax 3
  ControlMaster no
  ControlPersist no
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  PermitLocalCommand no
  RequestTTY no
  EscapeChar none
  LogLevel ERROR
{extra}"""


class SshError(Exception):
    """What stands in the way of using ssh at all, and what to do about it."""


class SshSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How workers are logged in to.

    Args:
        identity_file: the private key; None: those of the user's agent and `~/.ssh`.
        strict_host_keys: refuse hosts that are not in `known_hosts`. Otherwise a host that was
            never seen is believed and remembered (`accept-new`), and one whose key changed is
            refused all the same.
        known_hosts: the file of hosts' keys; None: `~/.ssh/known_hosts`.
        extra_config: a file that is included after all this, such as for a jump host.
        connect_seconds: until a host has answered and let us in.
        alive_seconds: a host that says nothing is asked each so many seconds, and is given up
            after three.
    """

    identity_file: Path | None = None
    strict_host_keys: bool = False
    known_hosts: Path | None = None
    extra_config: Path | None = None
    connect_seconds: int = 10
    alive_seconds: int = 5


def check_identity_file(path: Path) -> None:
    """Raise `SshError` unless the key can be used and nobody but its owner can read it.

    ssh itself would ignore a key that others can read, and say only that login was denied.
    """
    try:
        status = path.stat()
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        reason = f"the identity file {path} cannot be read: {error.strerror}"
        raise SshError(f"{reason}; give the private key's file") from None
    if not stat.S_ISREG(status.st_mode):
        raise SshError(f"the identity file {path} is no file; give the private key's")
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        reason = f"the identity file {path} has mode {mode:04o}: others may use the key"
        raise SshError(f"{reason}, and ssh ignores it; do: chmod 600 {path}")


class ControlFolder:
    """A private folder for the file and the connections' sockets. A context; removed at its end.

    Args:
        folder: where it is made, if its path is one that ssh and rsync can handle: the path of a
            socket must be short, and rsync splits ssh's command at spaces.
    """

    def __init__(self, folder: Path) -> None:
        path = folder.absolute() / "ssh"
        self.path = path
        self._is_ours = len(os.fsencode(path)) + _CONTROL_NAME_MAX <= _CONTROL_PATH_MAX
        self._is_ours &= not (_AWKWARD | frozenset(" \t'")) & frozenset(str(path))

    def __enter__(self) -> Path:
        """Make it. Raises `OSError`."""
        if self._is_ours:
            shutil.rmtree(self.path, ignore_errors=True)  # left by a crash
            self.path.mkdir(mode=0o700, parents=True)
        else:
            self.path = Path(tempfile.mkdtemp(prefix="gatesync-", dir=_SHORT_FOLDER))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class SshConfig:
    """The file for these hosts, and the commands that use it.

    Args:
        settings: see there.
        folder: see `ControlFolder`.
        hosts: all that will be connected to.

    Raises:
        SshError: a file that `settings` names cannot be used.
        OSError: the file cannot be written.
    """

    def __init__(self, settings: SshSettings, folder: Path, hosts: Iterable[SshHost]) -> None:
        if settings.identity_file is not None:
            check_identity_file(settings.identity_file)
        self.path = folder / "config"
        self._aliases: Mapping[SshHost, str] = {
            host: f"worker-{number}" for number, host in enumerate(dict.fromkeys(hosts))
        }
        self._sockets = {host: folder / f"c{alias[7:]}" for host, alias in self._aliases.items()}
        self.path.write_text(self._content(settings))

    def alias(self, host: SshHost) -> str:
        """What rsync and ssh are given as the host's name."""
        return self._aliases[host]

    def socket(self, host: SshHost) -> Path:
        """Where the kept connection of this host is shared."""
        return self._sockets[host]

    def opening(self, host: SshHost, *command: str) -> list[str]:
        """Runs `command` over a new connection, which others share while it runs."""
        return ["ssh", "-F", str(self.path), "-o", "ControlMaster=yes", self.alias(host), *command]

    def remote_shell(self) -> str:
        """For rsync's `-e`, which it splits at spaces itself.

        Over the kept connection or not at all: that one dies with us, and so an rsync cannot
        outlive us and bring old files to a worker that has newer ones by then.
        """
        return f"ssh -F {self.path} -o ProxyCommand=false"

    def _content(self, settings: SshSettings) -> str:
        hosts = "".join(
            f"Host {alias}\n  HostName {host.name.replace('%', '%%')}\n"
            + (f"  User {host.user}\n" if host.user else "")
            + (f"  Port {host.port}\n" if host.port is not None else "")
            + f"  ControlPath {self._sockets[host]}\n"
            for host, alias in self._aliases.items()
        )
        return _CONFIG.format(
            hosts=hosts,
            identity=_file_line("IdentityFile", settings.identity_file, "  IdentitiesOnly yes\n"),
            checking="yes" if settings.strict_host_keys else "accept-new",
            known_hosts=_file_line("UserKnownHostsFile", settings.known_hosts),
            connect_seconds=settings.connect_seconds,
            alive_seconds=settings.alive_seconds,
            extra=_file_line("Include", settings.extra_config, "Match all\n"),
        )


def _file_line(keyword: str, path: Path | None, before: str = "") -> str:
    if path is None:
        return ""
    whole = str(path.expanduser().absolute())
    awkward = _AWKWARD & frozenset(whole)
    if awkward:
        characters = " ".join(sorted(ascii(each) for each in awkward))
        raise SshError(f"{whole!r} cannot be told to ssh because of {characters}; rename it")
    return f'{before}  {keyword} "{whole}"\n'
