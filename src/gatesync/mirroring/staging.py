"""What is brought to workers, put aside first: exactly what the manifest says, and nothing moves.

Others write the source while we read it. So rsync is never shown the source itself: what is to be
brought is copied once, for all workers, and proved by its digest on the way. What the source has
no longer in that form is left out, and a later pass brings what it has become.

    files/...                 contents, with the modes of the manifest
    manifests/<n>/.gatesync/next
    gone/<n>/...              the folders of what is to be removed: the files are missing there
"""

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from gatesync.mirroring.source_manifest import SourceFile
from gatesync.mirroring.worker_manifest import WORKER_FOLDER, Part

__all__ = ["Stage", "StagingError"]

_CHUNK: Final = 1024 * 1024
_PRIVATE: Final = 0o600


class StagingError(Exception):
    """Nothing can be put aside: the runner's own disk is full, or its folder is gone."""


class Stage:
    """The things put aside for one part of the source, at one revision.

    Args:
        root: an empty folder's path; it is made when it is needed.
        source: the folder of the part.
        part: what belongs there.
    """

    def __init__(self, root: Path, source: Path, part: Part) -> None:
        self.root = root
        self.part = part
        self.source = source
        self.users = 0
        self._have: set[str] = set()
        self._manifests: dict[str, str] = {}
        self._removals = 0
        self._turn = asyncio.Lock()

    async def add_files(self, paths: Iterable[str]) -> set[str]:
        """Have these; returns those that the source has no longer as the part says.

        Raises:
            StagingError: nothing can be put aside.
        """
        async with self._turn:
            wanted = [self.part.files[path] for path in paths if path not in self._have]
            missing = await asyncio.to_thread(self._copy_all, wanted)
            self._have.update(file.path for file in wanted)
            self._have -= missing
            return missing

    async def add_manifest(self, document: bytes, sha256: str) -> str:
        """Have this manifest; returns its name for rsync. Raises `StagingError`."""
        async with self._turn:
            if sha256 not in self._manifests:
                folder = f"manifests/{len(self._manifests)}"
                path = self.root / folder / WORKER_FOLDER / "next"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(document)
                except OSError as error:
                    raise _trouble(self.root, error) from None
                self._manifests[sha256] = f"{self.root.name}/{folder}/./{WORKER_FOLDER}/next"
            return self._manifests[sha256]

    def add_removals(self, paths: Sequence[str]) -> list[str]:
        """Their names for rsync, which finds nothing there. Raises `StagingError`."""
        self._removals += 1
        gone = f"gone/{self._removals}"
        try:
            for folder in {path.rpartition("/")[0] for path in paths}:
                (self.root / gone / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _trouble(self.root, error) from None
        return [f"{self.root.name}/{gone}/./{path}" for path in paths]

    def names(self, paths: Iterable[str]) -> list[str]:
        """What rsync calls these files, below the folder that `root` is in."""
        return [f"{self.root.name}/files/./{path}" for path in paths]

    async def clear(self) -> None:
        """Remove all of it, if nobody uses it by now."""
        async with self._turn:
            if self.users or not (self._have or self._manifests or self._removals):
                return
            self._have.clear()
            self._manifests.clear()
            await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    def _copy_all(self, files: Collection[SourceFile]) -> set[str]:
        return {file.path for file in files if not self._copy(file)}

    def _copy(self, file: SourceFile) -> bool:
        """Whether the source has it still, and it was put aside."""
        target = self.root / "files" / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(target, flags, _PRIVATE)
        except OSError as error:
            raise _trouble(self.root, error) from None
        with os.fdopen(descriptor, "wb") as copy:
            hasher = hashlib.sha256()
            for chunk in _chunks(self.source / file.path):
                hasher.update(chunk)
                try:
                    copy.write(chunk)
                except OSError as error:
                    raise _trouble(self.root, error) from None
            os.fchmod(descriptor, file.mode)
        if hasher.hexdigest() == file.sha256:
            return True
        target.unlink()
        return False


def _chunks(path: Path) -> Iterable[bytes]:
    """A file's content, as far as it can be read: its digest tells whether that was all."""
    try:
        # Without blocking, as a pipe may stand there by now; no link is followed.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                while chunk := file.read(_CHUNK):
                    yield chunk
    except OSError:
        return


def _trouble(root: Path, error: OSError) -> StagingError:
    return StagingError(f"nothing can be put aside in {root} on this host: {error.strerror}")
