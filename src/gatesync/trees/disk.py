"""The steps that files of a tree are written with; each leaves every file whole.

Nothing is done through a symbolic link: folders are opened one after the other from the root,
each within the one above it, so that no path leads out of the tree, whoever changes it meanwhile.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from gatesync.trees.errors import InTheWayError

__all__ = ["STAGED_PREFIX", "Disk", "Facts"]

STAGED_PREFIX: Final = ".gatesync-"  # hidden, and not named .xml: no hot deployer reads it
OPEN_FILES: Final = 64  # files, and folders, that are open at a time
SYNC_THREADS: Final = 8  # a file system puts several syncs into one; measured: 2.4 times as fast
ALONE: Final = 4  # files that are synced one by one sooner than threads have started

_INT64: Final = 2**63 - 1  # some file systems use all 64 bits, SQLite has 63 and a sign


class Facts(NamedTuple):
    """What tells cheaply that a file is still the one that was written."""

    size: int  # bytes
    mtime_ns: int
    inode: int


class Disk:
    """A folder with a tree in it. Used as a context, which closes what was opened.

    Paths are `/`-separated, below `root`. All methods raise `OSError`, and `InTheWayError` where
    a link or something else than a regular file stands in the place of a file or a folder.

    Args:
        root: the folder, which exists.
        step: called before each step that changes something, with what it does; for tests.
    """

    def __init__(self, root: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self.root = root
        self._step = step
        self._folders: dict[str, int] = {}
        self._touched: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._touched.clear()
        self._close_folders()

    def look(self, path: str) -> Facts | None:
        """The file that stands there; None: nothing does."""
        folder, name = self._split(path)
        try:
            found = os.lstat(name, dir_fd=self._folder(folder))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no regular file"
            raise InTheWayError(f"{path} is {what}, which gatesync leaves alone; move it away")
        return _facts(found)

    def digest(self, path: str) -> bytes:
        """SHA-256 of the file's content, which is read now."""
        folder, name = self._split(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._folder(folder))
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def stage(self, files: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, Facts | OSError]]:
        """Write contents durably beside the places of these files, where nobody reads them.

        Yields each path with what its file will look like, or with why it cannot be written.
        Missing folders are made.
        """
        if len(files) <= ALONE:
            yield from ((path, self._finished(self._begun(path, data))) for path, data in files)
            return
        with ThreadPoolExecutor(SYNC_THREADS, "gatesync-sync") as pool:
            for start in range(0, len(files), OPEN_FILES):
                batch = files[start : start + OPEN_FILES]
                begun = [self._begun(path, data) for path, data in batch]
                for (path, _), done in zip(batch, pool.map(self._finished, begun), strict=True):
                    yield path, done

    def put_new(self, path: str) -> None:
        """Let what was staged appear where nothing stands; `FileExistsError` if something does."""
        folder, name = self._split(path)
        self._step(f"put {path}")
        at = self._touch(folder)
        staged = _staged_name(path)
        try:
            os.link(staged, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}:
                raise
            # A file system without hard links: the look and the rename are two steps there.
            if self.look(path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
            os.rename(staged, name, src_dir_fd=at, dst_dir_fd=at)
        else:
            self._step(f"unlink what was staged for {path}")
            os.unlink(staged, dir_fd=at)

    def put_over(self, path: str) -> None:
        """Let what was staged take the place of what stands there, in one step."""
        folder, name = self._split(path)
        self._step(f"replace {path}")
        at = self._touch(folder)
        os.rename(_staged_name(path), name, src_dir_fd=at, dst_dir_fd=at)

    def move(self, old: str, new: str) -> None:
        """Rename a file; nothing stands at `new`."""
        (old_folder, old_name), (new_folder, new_name) = self._split(old), self._split(new)
        self._step(f"move {old} to {new}")
        if self.look(new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self._touch(old_folder)
        self._touch(new_folder)
        source = os.dup(self._folder(old_folder))  # opening the next may close the first
        try:
            target = self._folder(new_folder)
            os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(source)

    def remove(self, path: str) -> None:
        """Remove a file, which may be gone already."""
        folder, name = self._split(path)
        self._step(f"remove {path}")
        try:
            os.unlink(name, dir_fd=self._touch(folder))
        except FileNotFoundError:
            return

    def unstage(self, path: str) -> None:
        """Remove what was staged for a file, if anything was."""
        folder, _ = self._split(path)
        self._step(f"unstage {path}")
        try:
            os.unlink(_staged_name(path), dir_fd=self._folder(folder))
        except FileNotFoundError:
            return

    def sync(self) -> None:
        """Make durable which files stand where, in all folders that were changed."""
        for folder in sorted(self._touched):
            self._step(f"sync {folder}")
            try:
                os.fsync(self._folder(folder))
            except FileNotFoundError:
                continue  # somebody removed it
        self._touched.clear()

    def _split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name

    def _touch(self, folder: str) -> int:
        self._touched.add(folder)
        return self._folder(folder)

    def _begun(self, path: str, content: bytes) -> int | OSError:
        """The open file that the content was written to."""
        folder, _ = self._split(path)
        descriptor = -1
        try:
            self._step(f"stage {path}")
            at = self._folder(folder, make=True)
            name = _staged_name(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                descriptor = os.open(name, flags, 0o644, dir_fd=at)
            except FileExistsError:  # left by a process that was killed
                os.unlink(name, dir_fd=at)
                descriptor = os.open(name, flags, 0o644, dir_fd=at)
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
        except InTheWayError as error:
            return OSError(errno.ENOTDIR, str(error))
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            return error
        return descriptor

    def _finished(self, begun: int | OSError) -> Facts | OSError:
        if isinstance(begun, OSError):
            return begun
        try:
            os.fsync(begun)
            return _facts(os.fstat(begun))
        except OSError as error:
            return error
        finally:
            os.close(begun)

    def _folder(self, path: str, *, make: bool = False) -> int:
        """An open folder. `FileNotFoundError` where it is not there and not to be made."""
        if (known := self._folders.get(path)) is not None:
            return known
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if not path:
            opened = os.open(self.root, flags)
        else:
            above_path, name = self._split(path)
            above = self._folder(above_path, make=make)
            try:
                opened = os.open(name, flags, dir_fd=above)
            except FileNotFoundError:
                if not make:
                    raise
                self._step(f"make {path}")
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
                os.fsync(above)
                opened = os.open(name, flags, dir_fd=above)
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                    raise
                what = f"{path} is a symbolic link or a file where a folder belongs"
                raise InTheWayError(f"{what}; gatesync follows no links, move it away") from None
        if len(self._folders) >= OPEN_FILES:
            self._close_folders()
        self._folders[path] = opened
        return opened

    def _close_folders(self) -> None:
        while self._folders:
            os.close(self._folders.popitem()[1])


def _facts(found: os.stat_result) -> Facts:
    return Facts(found.st_size, found.st_mtime_ns, found.st_ino & _INT64)


def _staged_name(path: str) -> str:
    """Told from the path alone, so that a restart finds what a killed process left."""
    return f"{STAGED_PREFIX}{hashlib.sha256(path.encode()).hexdigest()[:32]}.new"
