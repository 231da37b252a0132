"""What the files of a branch make: which artifact, and its canonical form. Blocks.

Of what publishers wrote, their commits say what it is; the digest proves that when it is read. The
rest is read and built once.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Final, TypeAlias

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.folder import FOLDER_FILE
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, Identity
from gatesync.artifacts.planning import Publish
from gatesync.stores.git_layout import Built, build, publish_of, rebuild
from gatesync.stores.git_message import Brought
from gatesync.stores.git_objects import Objects

__all__ = ["NOT_A_FILE", "Files", "Sources"]

_KEPT_BYTES: Final = 64 * 1024 * 1024  # of canonical forms that were just made, or asked for

Files: TypeAlias = tuple[tuple[str, str], ...]
"""A folder's files, sorted: the path in it and the id of the content; none: no folder."""

NOT_A_FILE: Final = ""  # in place of the id: a link, or another repository


class Sources:
    """What files make which artifacts. It outlives a log that is made anew."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Identity, Files], Entry | ProblemsError] = {}
        self._places: dict[str, tuple[Identity, str, Files]] = {}
        self._published: dict[tuple[Identity, Files], Publish | ProblemsError] = {}
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._keeping = Lock()  # contents are asked for while a log goes on

    def files_of(self, digest: str) -> Files:
        """Files that make this artifact, which is known."""
        return self._places[digest][2]

    def entry(self, identity: Identity, files: Files) -> Entry:
        """Who these files are. Raises `ProblemsError`. They have been built before."""
        found = self._entries[identity, files]
        if isinstance(found, ProblemsError):
            raise found
        return found

    def build_all(self, wanted: Iterable[tuple[Identity, str, Files]], objects: Objects) -> None:
        """Build what was not built before."""
        missing = {(i, files): folder for i, folder, files in wanted}
        missing = {key: folder for key, folder in missing.items() if key not in self._entries}
        readable = {k: f for k, f in missing.items() if not _faults(f, k[1])}
        for (identity, files), folder in missing.items() - readable.items():
            self._entries[identity, files] = ProblemsError(_faults(folder, files))
        blobs = objects.read_small(
            (blob for _, files in readable for _, blob in files), ARTIFACT_MAX_BYTES
        )
        for (identity, files), folder in readable.items():
            contents = _contents(files, blobs)
            if contents is None:
                self._entries[identity, files] = ProblemsError([_too_large(folder)])
            else:
                self._build(identity, folder, files, contents)
        for _ in blobs:  # to its end, so that the process can be asked again
            pass

    def add(self, identity: Identity, folder: str, files: Files, built: Built) -> None:
        """Note what these files make."""
        self._entries[identity, files] = built.entry
        self._places[built.entry.digest] = identity, folder, files
        self._keep(built.entry.digest, built.content)

    def believe(self, identity: Identity, folder: str, files: Files, said: Brought) -> None:
        """Note what these files are said to make."""
        if (identity, files) not in self._entries:
            self._entries[identity, files] = Entry(
                api_id=said.api_id or identity.default_api_id(),
                tenant=identity.tenant,
                kind=identity.kind,
                name=identity.name,
                version=identity.version,
                context=said.context,
                digest=said.digest,
                size=said.size,
            )
            self._places[said.digest] = identity, folder, files

    def publish(self, identity: Identity, files: Files, objects: Objects) -> Publish:
        """The publish of what these files make, without its content, checked.

        Raises:
            ProblemsError: it is not accepted.
        """
        found = self._published.get((identity, files))
        if found is None:
            entry = self.entry(identity, files)
            content = self.contents([entry.digest], objects).get(entry.digest)
            if content is None:
                reason = f"its files do not make what has digest {entry.digest}"
                raise ProblemsError([Problem(reason, where=str(identity))])
            try:
                publish = publish_of(Built(entry, content))
                found = msgspec.structs.replace(publish, content=b"")
            except ProblemsError as error:
                found = error
            self._published[identity, files] = found
        if isinstance(found, ProblemsError):
            raise found
        return found

    def contents(self, digests: Iterable[str], objects: Objects) -> dict[str, bytes]:
        """The canonical forms of these, where they are known."""
        found: dict[str, bytes] = {}
        missing: list[str] = []
        for digest in digests:
            kept = self._kept.get(digest)
            if kept is not None:
                found[digest] = kept
            elif digest in self._places:
                missing.append(digest)
        places = [self._places[digest] for digest in missing]
        blobs = objects.read_small(
            (blob for _, _, files in places for _, blob in files), ARTIFACT_MAX_BYTES
        )
        for digest, (identity, folder, files) in zip(missing, places, strict=True):
            contents = _contents(files, blobs)
            content = rebuild(contents, identity, folder, digest) if contents else None
            if content is not None:  # promise 8
                found[digest] = content
                self._keep(digest, content)
        for _ in blobs:
            pass
        return found

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        """The sizes of these in bytes, where they are known."""
        places = {d: self._places[d] for d in digests if d in self._places}
        return {digest: self.entry(i, files).size for digest, (i, _, files) in places.items()}

    def _build(
        self, identity: Identity, folder: str, files: Files, contents: dict[str, bytes]
    ) -> None:
        try:
            built = build(contents, identity, folder)
        except ProblemsError as error:
            self._entries[identity, files] = error
        else:
            self.add(identity, folder, files, built)

    def _keep(self, digest: str, content: bytes) -> None:
        with self._keeping:
            if digest in self._kept:
                return
            self._kept[digest] = content
            self._kept_bytes += len(content)
            while self._kept_bytes > _KEPT_BYTES:
                _, content = self._kept.popitem(last=False)
                self._kept_bytes -= len(content)


def _contents(files: Files, blobs: Iterator[bytes | None]) -> dict[str, bytes] | None:
    """The next contents, which are these files'; None where they are too large together."""
    found: dict[str, bytes] = {}
    left = ARTIFACT_MAX_BYTES
    for path, _ in files:
        content = next(blobs)
        left = -1 if content is None else left - len(content)
        if content is not None and left >= 0:
            found[path] = content
    return found if len(found) == len(files) else None


def _too_large(folder: str) -> Problem:
    reason = f"its files are too large; an artifact has at most {ARTIFACT_MAX_BYTES} bytes"
    return Problem(reason, where=folder)


def _faults(folder: str, files: Files) -> list[Problem]:
    """What is wrong with a folder whose files need not be read to know."""
    if all(path != FOLDER_FILE for path, _ in files):
        reason = "is missing; it says the artifact's kind and name"
        return [Problem(reason, where=f"{folder}/{FOLDER_FILE}")]
    return [
        Problem("is a link or another repository; only files are read", where=f"{folder}/{path}")
        for path, blob in files
        if blob == NOT_A_FILE
    ]
