"""What lies in `.gatesync` of a worker's folder: what the worker has, in its own words.

    head       {"format": "gatesync.worker/1", "state": "complete", "epoch": "<uuid>",
                "revision": 7, "digest": "<sha256>", "manifest": "<sha256>", "held": 0,
                "compared": 1790000000.5}
    manifest   {"format": "gatesync.worker/1", "epoch": "<uuid>", "revision": 7,
                "files": [...], "held": [], "unsure": [], "going": ["api/old.xml"]}
    next       the manifest that is on its way, while the state is `changing`

The head is a few bytes, to be read often, and vouches for the manifest by its digest. It is the
last that is written, and it is withdrawn (`changing`) before a file is touched: so it never says
of a folder what is not so, wherever a runner was killed.
"""

import enum
import hashlib
from collections.abc import Mapping
from typing import Final, Literal, TypeVar

import msgspec

from gatesync.artifacts.digests import Count, Digest
from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.names import check_path
from gatesync.mirroring.source_manifest import SourceFile, SourceManifest, digest_of_files

__all__ = [
    "WORKER_FOLDER",
    "Head",
    "Part",
    "State",
    "WorkerManifest",
    "part_of",
    "sha256_of",
]

WORKER_FOLDER: Final = ".gatesync"
_FORMAT: Final = "gatesync.worker/1"


class State(enum.Enum):
    """What a head says of its folder."""

    COMPLETE = "complete"  # all of the revision is there
    PARTIAL = "partial"  # what the manifest names is there, but the source has more
    CHANGING = "changing"  # somebody is at it, or was


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The small file.

    `digest` is over the files that the manifest names; `held` counts those that wait for their
    removal to be confirmed; `compared` is when all contents were compared last, in seconds since
    1970 by the runner's clock, and `boot` is the run of the host in which that was.
    """

    state: State
    epoch: str
    revision: Count
    digest: Digest
    manifest: Digest
    held: Count = 0
    compared: float = 0.0
    boot: str = ""
    format: Literal["gatesync.worker/1"] = _FORMAT

    def line(self) -> str:
        """As it stands in the file, without the line's end."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of_line(cls, line: bytes) -> "Head | None":
        """What a file says; None for what is no head, or one that was cut.

        Raises:
            FormatError: another version of gatesync wrote it.
        """
        return _decode(line, cls)


class WorkerManifest(msgspec.Struct, frozen=True):
    """What a worker has of the source, and what else is gatesync's there.

    `epoch` and `revision` are those of the source that it was made from: a removal is proved by
    them. `files` are there with these contents. Brought by gatesync, too, and in the source no
    longer, are `held`, which wait until their removal is confirmed, and `going`, which are gone
    once the head says so. Of `unsure` nobody knows what is in them.
    """

    epoch: str
    revision: Count
    files: tuple[SourceFile, ...] = ()
    held: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    format: Literal["gatesync.worker/1"] = _FORMAT

    def to_json(self) -> bytes:
        """What `of_json` reads."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def of_json(cls, data: bytes) -> "WorkerManifest | None":
        """What a file says; None for what is no manifest, was cut, or names what it must not.

        Raises:
            FormatError: another version of gatesync wrote it.
        """
        manifest = _decode(data, cls)
        if manifest is None:
            return None
        try:
            for path in manifest.paths():
                check_path(path)
        except Problem:
            return None
        return manifest

    def paths(self) -> frozenset[str]:
        """All that is gatesync's on the worker."""
        return frozenset(file.path for file in self.files).union(self.held, self.unsure, self.going)


class Part(msgspec.Struct, frozen=True):
    """What a worker is to have: the source's files below `folder`, by their paths there."""

    folder: str  # below the source; empty: the source itself
    epoch: str
    revision: int
    digest: str
    files: Mapping[str, SourceFile]
    withheld: frozenset[str]


def part_of(source: SourceManifest, folder: str) -> Part:
    """Cut the part that lies in this folder out of a source's manifest."""
    start = f"{folder}/" if folder else ""
    files = tuple(
        SourceFile(file.path[len(start) :], file.size, file.sha256, file.mode) if start else file
        for file in source.files
        if file.path.startswith(start) and not _is_ours(file.path[len(start) :])
    )
    withheld = (path[len(start) :] for path in source.withheld if path.startswith(start))
    return Part(
        folder,
        source.epoch,
        source.revision,
        digest_of_files(files),
        {file.path: file for file in files},
        frozenset(withheld),
    )


def sha256_of(document: bytes) -> str:
    """What a head calls `manifest`."""
    return hashlib.sha256(document).hexdigest()


_Document = TypeVar("_Document", Head, WorkerManifest)


class _Format(msgspec.Struct):
    format: str


def _decode(data: bytes, kind: type[_Document]) -> _Document | None:
    try:
        told = msgspec.json.decode(data, type=_Format).format
        if told == _FORMAT:
            return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        return None
    reason = f"its format {told!r} is unknown; this version reads {_FORMAT!r}"
    raise FormatError(f"the worker's {WORKER_FOLDER}: {reason}")


def _is_ours(path: str) -> bool:
    return WORKER_FOLDER in path and WORKER_FOLDER in path.split(
        "/"
    )  # also of a worker's folder below this one
