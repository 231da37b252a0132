"""Reading a clone's objects by one `git cat-file --batch`, and taking commits apart.

`Objects` blocks: it is for a thread, one caller at a time.
"""

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Final

import msgspec

from gatesync.stores.git_command import GitCommand, not_started

__all__ = ["Commit", "DamagedError", "Objects", "blob_id", "parse_commit"]

_AHEAD: Final = 4_000  # questions that are asked before their answers are read: they fit a pipe
_BUFFER: Final = 1024 * 1024


class DamagedError(Exception):
    """The clone lacks an object that it must have, or cannot be read."""


class Commit(msgspec.Struct, frozen=True):
    """One commit of the log. Times are seconds since 1970."""

    id: str
    parents: tuple[str, ...]
    author: str
    email: str
    committed_at: int
    message: str


class Objects:
    """A `git cat-file --batch` that is started when it is needed, and again when it has ended."""

    def __init__(self, command: GitCommand) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, ids: Iterable[str]) -> Iterator[bytes]:
        """Give the content of each object, in the order asked for, while later ones are read.

        Raises:
            DamagedError: one is not there.
            StoreError: git cannot be started.
        """
        return (content or b"" for content in self.read_small(ids))

    def read_small(self, ids: Iterable[str], most: int = sys.maxsize) -> Iterator[bytes | None]:
        """As `read`; None for each that has more bytes than that."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        wanted = list(ids)
        whole = False
        try:
            asking = threading.Thread(target=_ask, args=(process.stdin, wanted), daemon=True)
            asking.start()
            for each in wanted:
                yield _content(process.stdout, each, most)
            asking.join()
            whole = True
        finally:
            if not whole:  # answers that nobody reads would be taken for those of the next
                self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - no argument comes from outside
                    self._command.arguments("cat-file", "--batch"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._command.environment,
                    bufsize=_BUFFER,
                    start_new_session=True,
                )
            except OSError as error:
                raise not_started(error) from error
        return self._process


def _ask(stream: IO[bytes], ids: list[str]) -> None:
    with suppress(OSError, ValueError):  # whoever reads finds that the process is gone
        for at in range(0, len(ids), _AHEAD):
            stream.write("".join(f"{each}\n" for each in ids[at : at + _AHEAD]).encode())
            stream.flush()


def _content(stream: IO[bytes], wanted: str, most: int) -> bytes | None:
    header = stream.readline().split()
    if len(header) != 3 or header[0] != wanted.encode():
        said = b" ".join(header).decode(errors="replace") or "nothing"
        raise DamagedError(f"object {wanted} cannot be read from the clone (git: {said})")
    size = int(header[2])
    if size > most:
        for left in range(size + 1, 0, -_BUFFER):
            stream.read(min(left, _BUFFER))
        return None
    content = stream.read(size)
    if len(content) != size or not stream.read(1):
        raise DamagedError(f"object {wanted} is cut short in the clone")
    return content


def blob_id(content: bytes, like: str) -> str:
    """The id that git gives to a file with this content; `like` is any id of the repository."""
    kind = "sha1" if len(like) == 40 else "sha256"
    hasher = hashlib.new(kind, b"blob %d\0" % len(content), usedforsecurity=False)
    hasher.update(content)
    return hasher.hexdigest()


def parse_commit(commit_id: str, raw: bytes) -> Commit:
    """Take a commit object apart; what is not UTF-8 in it is replaced."""
    header, _, message = raw.partition(b"\n\n")
    parents: list[str] = []
    author = email = ""
    committed_at = 0
    for line in header.split(b"\n"):
        word, _, rest = line.partition(b" ")
        if word == b"parent":
            parents.append(rest.decode())
        elif word == b"author":
            author, email, _ = _signed_by(rest)
        elif word == b"committer":
            _, _, committed_at = _signed_by(rest)
    text = message.decode(errors="replace")
    return Commit(commit_id, tuple(parents), author, email, committed_at, text)


def _signed_by(line: bytes) -> tuple[str, str, int]:
    """Name, address and time of `NAME <ADDRESS> SECONDS ZONE`."""
    name, _, rest = line.decode(errors="replace").partition(" <")
    email, _, rest = rest.partition("> ")
    seconds = rest.partition(" ")[0]
    return name, email, int(seconds) if seconds.isdecimal() else 0
