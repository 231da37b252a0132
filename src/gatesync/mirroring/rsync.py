"""Real rsync, run for one worker: to bring and remove named files, and to compare everything.

What rsync is told to touch is always a list of names, given on its standard input with a zero byte
after each; the worker's folder travels by rsync's own protocol (`-s`, which newer rsyncs call
`--secluded-args`), so that no shell on either side sees a path. Both need rsync 3.1 or newer.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gatesync.mirroring.child_process import Ended, finish, spawn
from gatesync.mirroring.ssh import SshConfig
from gatesync.mirroring.worker_manifest import WORKER_FOLDER
from gatesync.mirroring.workers import Worker

__all__ = ["Comparison", "Rsync", "RsyncError", "check_bandwidth", "in_words"]

Process: TypeAlias = asyncio.subprocess.Process

_WORDS: Final = {
    1: "wrong use of rsync: is the worker's rsync too old?",
    2: "the two rsyncs do not understand each other's protocol",
    3: "a folder cannot be read or entered",
    5: "the worker refused to begin",
    10: "the connection broke",
    11: "a file cannot be read or written",
    12: "the connection ended in the middle, or the worker's shell says more than it should",
    13: "rsync's own error",
    14: "the two rsyncs cannot talk to each other",
    20: "rsync was told to stop",
    22: "out of memory",
    23: "some files could not be brought or removed",
    24: "some files vanished meanwhile",
    25: "a limit of removals was reached",
    30: "nothing came for too long",
    35: "no connection in time",
    126: "rsync cannot be run on the worker",
    127: "there is no rsync on the worker; install it there",
    255: "ssh could not connect, or lost the connection",
}
_VANISHED: Final = 24
_PARTLY: Final = 23
_LAST_LINES: Final = 4
_SAYS_NOTHING: Final = ("rsync error:", "rsync warning:", "file has vanished:")
_BANDWIDTH: Final = re.compile(r"[0-9]+(\.[0-9]+)?([KMGkmg]([Bb]|iB)?)?")
_ESCAPED: Final = re.compile(rb"\\#([0-7]{3})")
_FLAGS: Final = 11  # what `%i` takes of a line: YXcstpoguax, or `*deleting  `
_UNCHANGED: Final = b".f         "
_DELETED: Final = b"*deleting"
_SENT: Final = re.compile(rb"^Total bytes sent: ([0-9]+)$", re.MULTILINE)


class RsyncError(Exception):
    """rsync failed: its exit code, in words, and what it said. `code` is None for a time-out."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


class Comparison(NamedTuple):
    """What a worker's folder is like beside the source's: paths of files.

    `extra` has folders, too, with `/` at their ends; not what lies in `.gatesync`.
    """

    equal: frozenset[str]
    extra: tuple[str, ...]


class Rsync:
    """rsync to the workers whose hosts `config` knows.

    Args:
        config: how ssh gets there; the kept connection is used while there is one.
        root: the folder on this host that names are below.
        bandwidth: see `check_bandwidth`; None: no limit.
        silence_seconds: rsync gives up when nothing moves for so long.
        seconds: it is ended when it takes longer.
    """

    def __init__(
        self,
        config: SshConfig,
        root: Path,
        *,
        bandwidth: str | None,
        silence_seconds: float,
        seconds: float,
    ) -> None:
        self._config = config
        self._root = root
        self._seconds = seconds
        self._always = (
            *("rsync", "-s", "--safe-links", "--perms", "--stats"),
            *("--no-human-readable", "--out-format=%i %n", "--rsh", config.remote_shell()),
            *("--timeout", str(max(1, round(silence_seconds)))),
            *(() if bandwidth is None else ("--bwlimit", check_bandwidth(bandwidth))),
        )

    async def begin(self, worker: Worker) -> Process:
        """An rsync that waits for names: for `bring`, or to be ended by `end_group`.

        Raises:
            RsyncError: it cannot be run.
        """
        return await self._spawn(self._listed(worker, "--ignore-times"))

    async def bring(
        self, worker: Worker, names: Sequence[str], begun: Process | None = None
    ) -> int:
        """Write these files, whole, each over what is there; bytes that were sent.

        A `/./` in a name stands where the path on the worker begins. `begun` is one that waits.

        Raises:
            RsyncError: not all of it was done.
        """
        if begun is None or begun.returncode is not None:
            begun = await self.begin(worker)
        return await self._tell(begun, names)

    async def remove(self, worker: Worker, names: Sequence[str], *, folders: bool) -> int:
        """Remove these files, which are missing here; with `folders`, whole folders, too.

        Raises:
            RsyncError: not all of it was done.
        """
        options = ("--delete-missing-args", *(("--force",) if folders else ()))
        return await self._tell(await self._spawn(self._listed(worker, *options)), names)

    async def compare(self, worker: Worker, source: Path) -> Comparison:
        """Compare the contents and modes of all files with those of a folder. Changes nothing.

        Raises:
            RsyncError: it could not be done. What could not be read is not `equal`, and no error.
        """
        process = await self._spawn(
            (
                *("--recursive", "--checksum", "--delete", "--dry-run", "-ii"),
                *(f"--exclude={WORKER_FOLDER}", "--", f"{source}/", self._destination(worker)),
            )
        )
        ended = await self._end(process, b"")
        if ended.code not in {0, _PARTLY, _VANISHED}:
            raise _error(ended)
        return comparison_of(ended.output)

    def _listed(self, worker: Worker, *options: str) -> Sequence[str]:
        """With these options, for names that are told on its standard input."""
        return (
            *(*options, "--no-implied-dirs", "--from0", "--files-from=-"),
            *("--", f"{self._root}/", self._destination(worker)),
        )

    async def _tell(self, process: Process, names: Sequence[str]) -> int:
        ended = await self._end(process, "\0".join(names).encode(errors="surrogateescape"))
        if ended.code != 0:
            raise _error(ended)
        sent = _SENT.search(ended.output)
        return int(sent[1]) if sent else 0

    async def _spawn(self, arguments: Iterable[str]) -> Process:
        try:
            return await spawn((*self._always, *arguments))
        except OSError as error:
            reason = f"rsync cannot be run on this host: {error.strerror}; install it"
            raise RsyncError(reason, None) from None

    async def _end(self, process: Process, stdin: bytes) -> Ended:
        try:
            return await finish(process, stdin=stdin, seconds=self._seconds)
        except TimeoutError:
            raise RsyncError(f"rsync took longer than {self._seconds:g} s", None) from None

    def _destination(self, worker: Worker) -> str:
        return f"{self._config.alias(worker.host)}:{worker.path}/"


def in_words(code: int) -> str:
    """What an exit code of rsync means; a negative one is the signal that ended it."""
    if code < 0:
        return f"rsync was ended by signal {-code}"
    return f"rsync {code}: {_WORDS.get(code, 'an unknown exit code')}"


def check_bandwidth(text: str) -> str:
    """Return a limit as rsync's `--bwlimit` takes it, or raise `ValueError`: `500`, `1.5m`."""
    if not _BANDWIDTH.fullmatch(text):
        raise ValueError(f"{text!r} is no bandwidth; give KiB per second such as 500, or 1.5m")
    return text


def comparison_of(output: bytes) -> Comparison:
    """What rsync says in a dry run, as each item's flags and name."""
    equal: set[str] = set()
    extra: list[str] = []
    for line in output.split(b"\n"):
        flags, name = line[:_FLAGS], line[_FLAGS + 1 :]
        if flags.rstrip(b" ") == _DELETED:
            extra.append(_name(name))
        elif flags == _UNCHANGED or (flags[:2] == b".f" and not set(b"csp") & set(flags[2:])):
            equal.add(_name(name))
    return Comparison(frozenset(equal), tuple(extra))


def _name(shown: bytes) -> str:
    # What is no printable character stands there as a backslash, '#' and three octal digits.
    if b"\\#" in shown:
        shown = _ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), shown)
    return shown.decode(errors="surrogateescape")


def _error(ended: Ended) -> RsyncError:
    lines = (line.strip() for line in ended.errors.decode(errors="replace").splitlines())
    said = [line for line in lines if line and not line.startswith(_SAYS_NOTHING)]
    told = "; ".join(line.removeprefix("rsync: ") for line in said[-_LAST_LINES:])
    words = in_words(ended.code)
    return RsyncError(f"{words} ({told})" if told else words, ended.code)
