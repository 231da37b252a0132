"""What a settled source tree is: its files, a revision that rises, and one digest over it all.

    {"format": "gatesync.source/1", "epoch": "<uuid>", "revision": 7, "digest": "<sha256>",
     "files": [{"path": "deployment/server/...", "size": 12, "sha256": "...", "mode": 420}, ...],
     "withheld": ["deployment/server/.../broken.xml"]}

A file that is `withheld` stays listed as it was when it was last good: what lies in the source now
is not to be copied, and its absence there is no removal.
"""

import hashlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

import msgspec

from gatesync.artifacts.digests import Count, Digest
from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.names import check_path
from gatesync.private_file import write_private_file

__all__ = [
    "SOURCE_FORMAT",
    "SourceFile",
    "SourceManifest",
    "next_manifest",
    "read_source_manifest",
    "with_withheld",
    "write_source_manifest",
]

SOURCE_FORMAT: Final = "gatesync.source/1"


class SourceFile(msgspec.Struct, frozen=True, gc=False):
    """One file: `path` below the root with `/`, `size` in bytes, `mode` its permission bits."""

    path: str
    size: Count
    sha256: Digest
    mode: Count


class SourceManifest(msgspec.Struct, frozen=True):
    """A whole source tree at one revision.

    Revisions of one `epoch` rise with each settled change; another epoch is another history of
    the tree. `digest` is the same for the same `files`, which stand in the order of their paths.
    """

    epoch: str
    revision: Count
    digest: Digest
    files: tuple[SourceFile, ...]
    withheld: tuple[str, ...] = ()
    format: Literal["gatesync.source/1"] = SOURCE_FORMAT

    def by_path(self) -> dict[str, SourceFile]:
        """The files by their paths."""
        return {file.path: file for file in self.files}

    def to_json(self) -> bytes:
        """What `of_json` reads."""
        return msgspec.json.encode(self)

    @classmethod
    def of_json(cls, data: bytes) -> "SourceManifest":
        """Read what `to_json` wrote, and prove it whole.

        Raises:
            FormatError: it is not such a manifest, has an unknown format, or was cut or changed.
        """
        try:
            told = msgspec.json.decode(data, type=_Format)
            if told.format != SOURCE_FORMAT:
                reason = f"format {told.format!r} is unknown; this version reads {SOURCE_FORMAT!r}"
                raise FormatError(reason)
            manifest = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise FormatError(f"not a manifest of a source tree: {error}") from None
        if digest_of_files(manifest.files) != manifest.digest:
            raise FormatError("a manifest of a source tree whose digest does not fit its files")
        _check_paths(manifest.files)
        return manifest


class _Format(msgspec.Struct):
    format: str


def _check_paths(files: Iterable[SourceFile]) -> None:
    """What names files that are to be written or removed must not lead out of the tree."""
    last = ""
    for file in files:
        try:
            check_path(file.path)
        except Problem as problem:
            raise FormatError(f"a manifest of a source tree: {problem}") from None
        if file.path <= last:
            raise FormatError(f"a manifest of a source tree out of order at {file.path!r}")
        last = file.path


def digest_of_files(files: Iterable[SourceFile]) -> str:
    """Hex SHA-256 over all that a manifest says of its files, in their order."""
    hasher = hashlib.sha256()
    encode = msgspec.msgpack.Encoder().encode
    for file in files:
        hasher.update(encode((file.path, file.size, file.sha256, file.mode)))
    return hasher.hexdigest()


def next_manifest(
    before: SourceManifest | None,
    files: Iterable[SourceFile],
    withheld: Iterable[str] = (),
    *,
    new_epoch: Callable[[], str],
) -> SourceManifest:
    """The manifest after `before` of a tree with these files; `before` itself if nothing changed.

    What is withheld may change without a new revision: no worker needs to be told. `new_epoch`
    makes the UUID of a tree's first manifest.
    """
    ordered = tuple(sorted(files, key=attrgetter("path")))
    kept_back = tuple(sorted(withheld))
    digest = digest_of_files(ordered)
    if before is None:
        return SourceManifest(new_epoch(), 1, digest, ordered, kept_back)
    if digest != before.digest:
        return SourceManifest(before.epoch, before.revision + 1, digest, ordered, kept_back)
    return with_withheld(before, kept_back)


def with_withheld(manifest: SourceManifest, withheld: Iterable[str]) -> SourceManifest:
    """The same files, of which these are withheld; `manifest` itself if they were before."""
    kept_back = tuple(sorted(withheld))
    if kept_back == manifest.withheld:
        return manifest
    return msgspec.structs.replace(manifest, withheld=kept_back)


def read_source_manifest(path: Path) -> SourceManifest | None:
    """The manifest in a file; None where there is no such file.

    Raises:
        FormatError: see `SourceManifest.of_json`; the file is named.
        OSError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return SourceManifest.of_json(data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def write_source_manifest(path: Path, manifest: SourceManifest) -> None:
    """Replace the file durably: nobody ever reads half of it. For one writer at a time.

    Raises:
        OSError: it cannot be written; the old one is untouched then.
    """
    write_private_file(path, manifest.to_json() + b"\n")
