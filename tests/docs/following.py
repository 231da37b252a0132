"""Follows what a page says to type, line by line, on a cluster of real processes.

`$ systemctl restart|reload gatesync-ROLE` is done to the role's process. Every other line goes to
a shell. What the page shows below a line has to be printed; ids in it stand for those of this run.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence

from tests.servers.gatesync import GATESYNC, Place, Role, environment

_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d UTC)?"), "WHEN"),
    (re.compile(r"revision \d+|\d+ signed anew"), "NUMBER"),
    (re.compile(r" {2,}"), "  "),
)
_ID = re.compile(r"\b(?:[0-9a-f]{16}|[0-9a-f]{12})\b|\bgspk_[A-Za-z0-9_-]{43}")  # tokens, keys


class Following:
    """A cluster whose roles are those of systemd's units.

    Args:
        place: whose folder is /etc/gatesync, and whose data folder is /var/lib/gatesync.
        roles: by the name of their unit.
    """

    def __init__(self, place: Place, roles: Mapping[str, Role]) -> None:
        self.place = place
        self.roles = roles
        self.ids: dict[str, str] = {}  # the page's, and those of this run

    def follow(self, lines: Sequence[str]) -> None:
        """Type each line that begins with `$ `, and compare what is printed with what follows."""
        shown: list[str] = []
        typed = ""
        for line in [*lines, "$ "]:
            if not line.startswith("$ "):
                shown.append(line)
                continue
            if typed:
                self._compare(typed, self._type(typed), shown)
            typed, shown = line.removeprefix("$ "), []

    def _type(self, line: str) -> str:
        words = shlex.split(line)
        if words[0] == "systemctl":
            self._systemctl(words[1], words[2].removeprefix("gatesync-"))
            return ""
        return self._shell(self.known(line))

    def known(self, text: str) -> str:
        """A text of the page, with this run's folders and ids."""
        text = text.replace("/var/lib/gatesync", str(self.place.data))
        text = text.replace("/etc/gatesync", str(self.place.folder))
        return _ID.sub(lambda found: self.ids.get(found[0], found[0]), text)

    def _shell(self, line: str) -> str:
        path = f"{GATESYNC.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.place.folder,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        printed = done.stdout.decode()
        refused = printed.startswith("gatesync: ")  # which has to stand on the page
        assert done.returncode == 0 or refused, f"{line}\n{printed}"
        return printed

    def _systemctl(self, verb: str, name: str) -> None:
        role = self.roles[name]
        if verb == "reload":
            os.kill(role.pid, signal.SIGHUP)
            return
        assert verb == "restart"
        assert role.stop() == 0
        role.start()

    def _compare(self, typed: str, printed: str, shown: Sequence[str]) -> None:
        ours = [steady(line) for line in printed.splitlines()]
        for mine, theirs in zip(ours, map(steady, shown), strict=False):
            for known, met in zip(_ID.findall(theirs), _ID.findall(mine), strict=False):
                self.ids.setdefault(known, met)
        said = [steady(self.known(line)) for line in shown]
        assert ours == said, f"{typed}\nprinted:\n{printed}"


def steady(line: str) -> str:
    """The line without what differs from run to run: times, and the width of columns."""
    for varying, name in _VARYING:
        line = varying.sub(name, line)
    return line.rstrip()


def typed_in(section: str) -> list[list[str]]:
    """The indented lines of a section, block by block: what is typed, and what is printed."""
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            blocks[-1].append(line[4:])
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]
