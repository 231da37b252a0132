"""One look at a tree that others write: every file's facts, and the digest of its content.

    list each folder → compare each file's facts with the last scan's → read those that differ

A file whose facts are those of the last scan is not read again, once that is safe: clocks of file
systems tick, and two edits of one size within a tick look the same. So a content counts as known
only if it was read when its facts had been seen for `RACY_NS` already (what Git calls racy).
Folders are opened one within the other and no link is followed, so that nothing outside is read.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.names import check_path
from gatesync.mirroring.scans import (
    RACY_NS,
    FileFacts,
    FolderIdentity,
    Known,
    Scan,
    ScannedFile,
)

__all__ = [
    "RACY_NS",
    "FileFacts",
    "FolderIdentity",
    "Known",
    "Scan",
    "ScannedFile",
    "SourceGoneError",
    "TreeScanner",
    "is_ignored",
]

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY: Final = (
    ".tmp",
    ".temp",
    ".swp",
    ".swx",
    ".bak",
    ".part",
    ".filepart",
    "___jb_tmp___",
    "___jb_old___",
)
_GONE: Final = frozenset({errno.ENOENT})
# What a share that went away says; nothing below it was removed.
_ROOT_ADVICE: Final = "nothing is taken from it, and nothing removed, until it is back"


class SourceGoneError(Exception):
    """The root cannot be read at all: not mounted, removed, stale or broken."""


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is nobody's artifact.

    Hidden ones (staged files of ours, `.nfs...` that a server keeps for who has them open),
    and what editors and transfers write beside a file.
    """
    if is_leftover(name) or (name.startswith("#") and name.endswith("#")):
        return True
    return name.lower().endswith(_TEMPORARY) or name.startswith("~$")


class TreeScanner:
    """Scans one tree again and again. One scan at a time, in any thread.

    Args:
        root: the folder.
        clock: now, in nanoseconds since 1970.
        keep: whether a path below the root is looked at; a folder's ends with `/`.
        known: what an earlier process knew of the files, see `known`.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], int],
        keep: Callable[[str], bool] = lambda _: True,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        self.root = root
        self.read_files = 0
        self._clock = clock
        self._keep = keep
        self._known: dict[str, Known] = dict(known or {})
        self._last: Scan | None = None

    @property
    def known(self) -> Mapping[str, Known]:
        """What the last scan knew, for the next process."""
        return self._known

    @property
    def is_certain(self) -> bool:
        """Whether the next scan reads no file that is not touched until then."""
        return all(each.is_certain for each in self._known.values())

    def forget(self, paths: Iterable[str]) -> None:
        """Read these anew at the next scan: their contents were not what the facts had said."""
        for path in paths:
            self._known.pop(path, None)

    def scan(self, *, thorough: bool = False) -> Scan:
        """Look at every file; blocks.

        Args:
            thorough: read every content, also where the facts say it is the same: some network
                file systems have no ctime, and tools can set mtime.

        Raises:
            SourceGoneError: the root cannot be read.
        """
        run = _Run(self._clock, self._keep, {} if thorough else self._known, self._known)
        with _opened_root(self.root) as (descriptor, identity):
            try:
                run.mounts[""] = identity
                run.folder(descriptor, "", identity.device)
            except OSError as error:
                raise _gone(self.root, error) from error
            run.check_root(self.root, identity)
        self._known = run.knows
        self.read_files += run.read_files
        self._last = Scan(
            run.mounts,
            run.files,
            frozenset(run.moving),
            frozenset(run.unseen),
            tuple(run.problems),
        )
        return self._last

    def scan_only(self, paths: Collection[str]) -> Scan | None:
        """Look at these files, and take all others to be as they were last; blocks.

        None where only a scan of everything tells what there is: where one of them is no file,
        or cannot be read, or lies in a folder that is not as it was.

        Raises:
            SourceGoneError: the root cannot be read.
        """
        last = self._last
        if last is None:
            return None
        run = _Run(self._clock, self._keep, self._known, self._known)
        with _opened_root(self.root) as (descriptor, identity):
            if last.mounts[""] != identity:
                return None
            looked = {path for path in (*paths, *last.moving) if self._is_looked_at(path)}
            try:
                gone = [path for path in looked if not run.only(descriptor, path, last)]
            except _NotAloneError:
                return None
            run.check_root(self.root, identity)
        if run.unseen:
            return None
        files, known = dict(last.files), dict(self._known)  # who has the last scan goes on with it
        for path in gone:
            files.pop(path, None)
            known.pop(path, None)
        for path in run.moving:  # as in a scan of everything, nothing is known of them
            files.pop(path, None)
            known.pop(path, None)
        self._known = known | run.knows
        self.read_files += run.read_files
        files.update(run.files)
        self._last = last._replace(files=files, moving=frozenset(run.moving))
        return self._last

    def _is_looked_at(self, path: str) -> bool:
        if path in self._known:
            return True
        steps = path.split("/")
        above = ("/".join(steps[:count]) + "/" for count in range(1, len(steps)))
        return not any(map(is_ignored, steps)) and all(map(self._keep, (*above, path)))


class _NotAloneError(Exception):
    """What became of a file cannot be told by looking at it alone."""


@contextmanager
def _opened_root(root: Path) -> Iterator[tuple[int, FolderIdentity]]:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _gone(root, error) from error
    try:
        yield descriptor, _identity(os.fstat(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def _opened_below(root: int, steps: Iterable[str]) -> Iterator[int]:
    """A folder within an open one. `_NotAloneError`: it is no folder, or of another file system."""
    device = os.fstat(root).st_dev
    folder = os.dup(root)
    try:
        for step in steps:
            above = folder
            try:
                folder = os.open(step, _OPEN_FOLDER, dir_fd=above)
            except OSError:
                raise _NotAloneError from None
            os.close(above)
            if os.fstat(folder).st_dev != device:
                raise _NotAloneError
        yield folder
    finally:
        os.close(folder)


def _gone(root: Path, error: OSError) -> SourceGoneError:
    return SourceGoneError(f"{root} cannot be read: {error.strerror}; {_ROOT_ADVICE}")


class _Run:
    """One scan in the course of being made."""

    def __init__(
        self,
        clock: Callable[[], int],
        keep: Callable[[str], bool],
        trusted: Mapping[str, Known],
        before: Mapping[str, Known],
    ) -> None:
        self.mounts: dict[str, FolderIdentity] = {}
        self.files: dict[str, ScannedFile] = {}
        self.knows: dict[str, Known] = {}
        self.moving: set[str] = set()
        self.unseen: set[str] = set()
        self.problems: list[Problem] = []
        self.read_files = 0
        self._clock = clock
        self._keep = keep
        self._trusted = trusted
        self._before = before

    def folder(self, descriptor: int, prefix: str, device: int) -> None:
        """Scan an open folder; `prefix` is its path and a `/`. `OSError`: it cannot be listed."""
        with os.scandir(descriptor) as entries:
            listed = list(entries)
        folders: list[str] = []
        for entry in listed:
            name = entry.name
            path = prefix + name
            known = self._trusted.get(path)
            if known is None and is_ignored(name):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError as error:
                self._cannot(path, error)
                continue
            mode = found.st_mode
            if stat.S_ISDIR(mode):
                if self._keep(path + "/"):
                    folders.append(name)
            elif not self._keep(path):
                continue
            elif stat.S_ISREG(mode):
                self._file(descriptor, name, path, _facts(found), known)
            else:
                self._refuse(path, _what(mode))
        for name in sorted(folders):
            self._below(descriptor, name, prefix + name, device)

    def only(self, root: int, path: str, last: Scan) -> bool:
        """Scan one file; whether it is there. `_NotAloneError`: it is not to be had so."""
        *above, name = path.split("/")
        if any(f"{path}/".startswith(f"{place}/") for place in last.unseen):
            raise _NotAloneError
        with _opened_below(root, above) as folder:
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                if error.errno in _GONE and path in last.files:
                    return False
                raise _NotAloneError from None
            if not stat.S_ISREG(found.st_mode):
                raise _NotAloneError
            self._file(folder, name, path, _facts(found), self._trusted.get(path))
        return True

    def _file(
        self, folder: int, name: str, path: str, facts: FileFacts, known: Known | None
    ) -> None:
        if known is not None and known.facts == facts and known.is_certain:
            self.knows[path] = known
            self.files[path] = ScannedFile(known.facts, known.sha256)  # compares fast
        else:
            self._read(folder, name, path, facts)

    def check_root(self, root: Path, identity: FolderIdentity) -> None:
        """Refuse all that was seen if another folder stands there by now: it was unmounted."""
        try:
            found = root.stat()
        except OSError as error:
            raise _gone(root, error) from error
        if _identity(found) != identity:
            raise SourceGoneError(f"{root} was replaced by another folder while it was read")

    def _below(self, above: int, name: str, path: str, device: int) -> None:
        try:
            check_path(path)
        except Problem as problem:
            self._refuse(path, f"cannot be taken over: {problem.reason}; rename it")
            return
        try:
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=above)
        except OSError as error:
            self._cannot(path, error)
            return
        try:
            identity = _identity(os.fstat(descriptor))
            if identity.device != device:
                self.mounts[path] = identity
            self.folder(descriptor, path + "/", identity.device)
        except OSError as error:
            self._cannot(path, error)
        finally:
            os.close(descriptor)

    def _read(self, folder: int, name: str, path: str, facts: FileFacts) -> None:
        before = self._before.get(path)
        now = self._clock()
        first_seen = now
        if before is not None and before.facts == facts:
            first_seen = min(before.first_seen_ns, now)
        elif before is None:
            try:
                check_path(path)
            except Problem as problem:
                self._refuse(path, f"cannot be taken over: {problem.reason}; rename it")
                return
        try:
            sha256 = _digest(folder, name, facts)
        except OSError as error:
            self._cannot(path, error)
            return
        self.read_files += 1
        if sha256 is None:
            self.moving.add(path)
            return
        self.knows[path] = Known(facts, sha256, first_seen, now)
        self.files[path] = ScannedFile(facts, sha256)

    def _cannot(self, path: str, error: OSError) -> None:
        if error.errno in _GONE:  # between the listing and now
            self.moving.add(path)
            return
        self._refuse(path, f"cannot be read: {error.strerror}")

    def _refuse(self, path: str, reason: str) -> None:
        self.unseen.add(path)
        self.problems.append(Problem(reason, where=path))


def _identity(found: os.stat_result) -> FolderIdentity:
    return FolderIdentity(found.st_dev, found.st_ino)


def _facts(found: os.stat_result) -> FileFacts:
    return FileFacts(
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
        stat.S_IMODE(found.st_mode),
    )


def _digest(folder: int, name: str, facts: FileFacts) -> str | None:
    """Hex SHA-256 of the file's content; None if it did not have these facts all the while."""
    descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if _facts(os.fstat(descriptor)) != facts:
            return None
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest if _facts(os.fstat(descriptor)) == facts else None


def _what(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "symbolic links are not followed; put a file or folder in its place"
    return "neither a file nor a folder"
