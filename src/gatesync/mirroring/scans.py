"""What scans find: files with their facts, and the digests of their contents."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gatesync.artifacts.errors import Problem

__all__ = ["RACY_NS", "FileFacts", "FolderIdentity", "Known", "Scan", "ScannedFile"]

RACY_NS: Final = 2_000_000_000  # no file system in use has coarser times than FAT's 2 s


class FileFacts(NamedTuple):
    """What tells cheaply that a file was touched. Times are in ns; ctime cannot be set back."""

    size: int  # bytes
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int  # permission bits


class Known(NamedTuple):
    """The content of a file with these facts, as it was read once.

    `first_seen_ns` is when the facts were first seen, `read_ns` when the reading began.
    """

    facts: FileFacts
    sha256: str
    first_seen_ns: int
    read_ns: int

    @property
    def is_certain(self) -> bool:
        """Whether another content of this file cannot have the same facts."""
        return self.read_ns - self.first_seen_ns >= RACY_NS


class FolderIdentity(NamedTuple):
    """Which folder something is: what is left of an unmounted share is another one."""

    device: int
    inode: int


class ScannedFile(NamedTuple):
    """A file as a scan found it; `sha256` in hex."""

    facts: FileFacts
    sha256: str


class Scan(NamedTuple):
    """What one scan found. Paths are below the root, with `/`.

    `moving` are files that changed while they were read. Of what is at or below an `unseen`
    path nothing is known: it could not be read, or is no file or folder. It has not gone.
    `mounts` are the root (`""`) and each folder where another file system begins.
    """

    mounts: Mapping[str, FolderIdentity]
    files: Mapping[str, ScannedFile]
    moving: frozenset[str]
    unseen: frozenset[str]
    problems: tuple[Problem, ...]
