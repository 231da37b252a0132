"""`gatesync rsync install`: a line for cron, or a unit for systemd, that runs it. Printed only."""

import re
from collections.abc import Sequence
from typing import Final

from gatesync.artifacts.errors import Problem

__all__ = ["cron_line", "systemd_unit"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_@:,./=+-]+")
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOUR: Final = 60
_DAY: Final = 24 * _HOUR

_UNIT: Final = """\
[Unit]
Description=gatesync: rsync to workers
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={folder}
ExecStart={command}

# Exit code 2 is a wrong option or list, or another runner on this host: no restart mends that.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
TimeoutStopSec=30

# What it may do: read the source and its key, write below {folder}, start ssh and rsync.
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=full
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def cron_line(command: Sequence[str], folder: str, every_seconds: float = 60.0) -> str:
    """A line for `crontab -e` that runs a command in a folder.

    Raises:
        Problem: cron cannot be told so.
    """
    words = ["cd", folder, "&&", *command]
    _refuse_breaks(words)
    shown = " ".join(word if word == "&&" else _for_sh(word) for word in words)
    # cron itself takes a bare % for the end of the line.
    return f"{_schedule(every_seconds)} {shown}".replace("%", "\\%")


def systemd_unit(command: Sequence[str], folder: str, user: str) -> str:
    """A unit that keeps a command running, in a folder, as a user.

    Raises:
        Problem: a unit cannot hold that.
    """
    _refuse_breaks([*command, folder, user])
    if folder != folder.strip() or folder.endswith("\\"):
        raise Problem(f"a unit cannot name the folder {folder!r}; rename it")
    return _UNIT.format(
        user=user,
        folder=folder.replace("%", "%%"),
        command=" ".join(map(_for_systemd, command)),
    )


def _schedule(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    if rest or minutes < 1:
        raise Problem("cron starts things at whole minutes; write --every 60s, or use --systemd")
    number = int(minutes)
    if number == 1:
        return "* * * * *"
    if _HOUR % number == 0 and number < _HOUR:
        return f"*/{number} * * * *"
    if number % _HOUR == 0 and _DAY % number == 0:
        hours = number // _HOUR
        return "0 0 * * *" if hours == 24 else f"0 */{hours} * * *" if hours > 1 else "0 * * * *"
    raise Problem(
        f"cron cannot do something each {number} minutes; choose a number that divides an hour "
        "or a day evenly, or use --systemd"
    )


def _for_sh(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def _for_systemd(word: str) -> str:
    """As systemd.syntax(7) and systemd.service(5) have it: specifiers, variables, quotes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("%", "%%").replace("$", "$$")
    return escaped if _PLAIN.fullmatch(word) else f'"{escaped}"'


def _refuse_breaks(words: Sequence[str]) -> None:
    for word in words:
        if _BREAKS.search(word):
            raise Problem(f"{word!r} has a control character; rename it")
