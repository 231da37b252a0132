"""`workers-list.txt`: which folders of which hosts are kept in step with the source.

    # a comment; blank lines count for nothing
    ubuntu@192.168.1.1:~/as_worker/repository/deployment/server
    ubuntu@192.168.1.1:~/as_worker/repository/tenants
    ubuntu@[fd00::7]:/opt/apim/repository/deployment/server
    ssh://ubuntu@gw3.example.com:2222/opt/apim/repository/tenants

A line is what rsync takes; a port has its place only in the form of a URL, where `/~/` is the
user's home. A worker's folder is paired with the source's by the end of its path.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from gatesync.artifacts.places import SERVER_FOLDER, TENANTS_FOLDER

__all__ = ["ListedWorkers", "SshHost", "Worker", "parse_workers", "read_workers"]

_PARTS: Final = (SERVER_FOLDER, TENANTS_FOLDER)
_WHOLE: Final = "repository"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+$-]*")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
# The rsync on the worker takes these for wildcards, and no version of it can be told not to.
_WILDCARDS: Final = re.compile(r"[*?\[\\]")
_PORT_MAX: Final = 65535


class SshHost(NamedTuple):
    """Who is connected to: one connection serves all workers of it."""

    user: str  # empty: whoever runs gatesync
    name: str  # a host's name or address; IPv6 without its brackets
    port: int | None  # None: ssh's own

    def __str__(self) -> str:
        """For messages: `ubuntu@192.168.1.1`."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        port = f":{self.port}" if self.port is not None else ""
        return (f"{self.user}@" if self.user else "") + name + port


class Worker(NamedTuple):
    """A folder on a host, and which part of the source belongs there."""

    line: str  # as it stands in the list; its name in messages
    host: SshHost
    path: str  # begins with `/`, or with `./` for what is below the user's home
    part: str  # below the source: `deployment/server`, `tenants`, or empty for all of it

    def __str__(self) -> str:
        """For messages: the line."""
        return self.line


class ListedWorkers(NamedTuple):
    """What a list says. `problems` name file and line; the other lines count all the same."""

    workers: tuple[Worker, ...]
    problems: tuple[str, ...]


def read_workers(path: Path) -> ListedWorkers:
    """Read a list. Raises `OSError` when it cannot be read."""
    return parse_workers(path.read_bytes(), str(path))


def parse_workers(content: bytes, name: str) -> ListedWorkers:
    """What these lines say; `name` is the file's, for messages."""
    workers: list[Worker] = []
    problems: list[str] = []
    lines: dict[tuple[SshHost, str], int] = {}
    for number, line in enumerate(_lines(content), start=1):
        try:
            worker = _worker(line)
            if worker is not None:
                first = lines.setdefault((worker.host, worker.path), number)
                _refuse(first != number, f"is the same folder as line {first}; remove one of them")
                workers.append(worker)
        except _RefusedError as refused:
            problems.append(f"{name}, line {number}: {refused}")
    return ListedWorkers(tuple(workers), tuple(problems))


class _RefusedError(Exception):
    """Why a line is no worker."""


def _lines(content: bytes) -> Iterable[str]:
    # Not splitlines(): a worker's path may have a character that Unicode calls a line's end.
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        yield line.removesuffix(b"\r").decode(errors="surrogateescape")


def _worker(line: str) -> Worker | None:
    text = line.strip(" \t")
    if not text or text.startswith("#"):
        return None
    shown = text.encode(errors="backslashreplace").decode()
    _refuse(shown != text, f"{shown!r} is not UTF-8; write the list in UTF-8")
    _refuse(_CONTROL.search(text) is not None, f"{text!r} has a control character; remove it")
    _refuse(text.startswith("-"), f"{text!r} begins with '-' and would be an option, not a worker")
    is_url = text.startswith("ssh://")
    host, path = _from_url(text) if is_url else _from_rsync_form(text)
    remote = _remote_path(path)
    return Worker(text, _checked_host(host), remote, _part(remote))


def _from_rsync_form(text: str) -> tuple[SshHost, str]:
    found = re.fullmatch(r"(?:([^@/]*)@)?(\[[^\]]*\]|[^:/\[\]]*):(.*)", text)
    if found is None:
        raise _RefusedError(f"{text!r} is not of the form user@host:/path")
    user, host, path = found.groups()
    _refuse(user == "", f"{text!r} has nothing before its '@'; name the user, or drop the '@'")
    _refuse(path.startswith(":"), f"{text!r} is an rsync daemon's; workers are reached by ssh")
    _refuse(not path, f"{text!r} has no path; add the worker's folder, as in user@host:/path")
    return SshHost(user or "", host, None), path


def _from_url(text: str) -> tuple[SshHost, str]:
    form = "ssh://user@host:port/path"
    found = re.fullmatch(r"ssh://(?:([^@/]*)@)?(\[[^\]]*\]|[^:/\[\]]*)(?::([^/]*))?(/.*)?", text)
    if found is None:
        raise _RefusedError(f"{text!r} is not of the form {form}")
    user, host, port, path = found.groups()
    _refuse(user == "", f"{text!r} has nothing before its '@'; name the user, or drop the '@'")
    number = int(port) if port and re.fullmatch(r"[0-9]{1,5}", port) else None
    if port is not None and (number is None or not 0 < number <= _PORT_MAX):
        raise _RefusedError(f"{port!r} is no port; give 1 to {_PORT_MAX}, as in {form}")
    _refuse(not path, f"{text!r} has no path; write {form}")
    home = path == "/~" or path.startswith("/~/")
    return SshHost(user or "", host, number), path[1:] if home else path


def _checked_host(host: SshHost) -> SshHost:
    if host.user and not _USER.fullmatch(host.user):
        raise _RefusedError(f"{host.user!r} is no user's name")
    if _HOST.fullmatch(host.name):
        return host
    if host.name.startswith("[") and _IPV6.fullmatch(host.name[1:-1]):
        return host._replace(name=host.name[1:-1])
    raise _RefusedError(f"{host.name!r} is no host's name or address (IPv6 goes in brackets)")


def _remote_path(path: str) -> str:
    """The path as the worker's commands get it: none of them sees `~` or an option in it."""
    wild = _WILDCARDS.search(path)
    if wild:
        reason = f"{path!r} has {wild[0]!r}, which rsync on the worker takes for a wildcard"
        raise _RefusedError(f"{reason}; give the folder another name there")
    if path.startswith("~") and path != "~" and not path.startswith("~/"):
        raise _RefusedError(f"{path!r} is another user's home; write the whole path")
    steps = [step for step in path.removeprefix("~").split("/") if step not in {"", "."}]
    if ".." in steps:
        raise _RefusedError(f"{path!r} walks up with '..'; write the path without it")
    if not steps:
        raise _RefusedError(f"{path!r} is no folder that a worker could have of its own")
    return ("/" if path.startswith("/") else "./") + "/".join(steps)


def _part(path: str) -> str:
    for part in _PARTS:
        if path.endswith(f"/{part}"):
            return part
    if path.endswith(f"/{_WHOLE}"):
        return ""
    ends = ", ".join(f"'{part}'" for part in _PARTS)
    raise _RefusedError(
        f"{path!r} ends in none of {ends} and '{_WHOLE}', "
        "so nothing tells which folder of the source belongs there"
    )


def _refuse(wrong: bool, reason: str) -> None:
    if wrong:
        raise _RefusedError(reason)
