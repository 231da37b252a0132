"""The own folder of a share, and the folders in it: no link leads out of them.

Whoever may write to a share could otherwise have its publishers write, and tidy up, anywhere on
their hosts. So each folder is opened within the one above it, and only regular files are read:
nobody waits for a pipe, or reads a device to its end. All methods raise `OSError`.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["OwnFolder", "read_regular", "sync_folder"]

# A place to name files from: the file system is not told of it, so it costs no round trip.
_PLACE: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FILE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})  # nothing, a link, a socket
_NOT_SYNCED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class OwnFolder:
    """The folder `name` below a path, which is followed. Names are `/`-separated, below it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    @contextmanager
    def at(self, folder: str = "") -> Iterator[int]:
        """It, or a folder in it, as a place to name files from (`dir_fd`)."""
        at = os.open(self._path, _PLACE)
        try:
            for step in (self._name, *folder.split("/")) if folder else (self._name,):
                above, at = at, os.open(step, _PLACE | os.O_NOFOLLOW, dir_fd=at)
                os.close(above)
            yield at
        finally:
            os.close(at)

    def listed(self, folder: str = "") -> list[str]:
        """The names of what stands there."""
        with self.at(folder) as at:
            opened = os.open(".", _LIST, dir_fd=at)
            try:
                return os.listdir(opened)  # noqa: PTH208 - a path may lead elsewhere by now
            finally:
                os.close(opened)

    def read(self, name: str, most: int) -> bytes | None:
        """See `read_regular`; None, too, where its folder is not there."""
        folder, last = _split(name)
        with suppress(FileNotFoundError), self.at(folder) as at:
            return read_regular(last, most, at)
        return None

    def is_taken(self, name: str) -> bool:
        """Whether anything stands there, be it a link."""
        folder, last = _split(name)
        with suppress(FileNotFoundError), self.at(folder) as at:
            os.lstat(last, dir_fd=at)
            return True
        return False

    def write_new(self, name: str, content: bytes, *, durable: bool) -> None:
        """Write a file where nothing stands."""
        folder, last = _split(name)
        with self.at(folder) as at:
            descriptor = os.open(last, _NEW, 0o666, dir_fd=at)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(descriptor)

    def move(self, name: str, to: str) -> None:
        """Rename, over what stands there."""
        (folder, last), (target, new) = _split(name), _split(to)
        with self.at(folder) as at, self.at(target) as then:
            os.rename(last, new, src_dir_fd=at, dst_dir_fd=then)

    def link(self, name: str, to: str) -> None:
        """Let a file have another name as well. Raises `FileExistsError`."""
        (folder, last), (target, new) = _split(name), _split(to)
        with self.at(folder) as at, self.at(target) as then:
            os.link(last, new, src_dir_fd=at, dst_dir_fd=then, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Remove a file, which may be gone already; a folder is left alone."""
        folder, last = _split(name)
        with suppress(FileNotFoundError, IsADirectoryError), self.at(folder) as at:
            os.unlink(last, dir_fd=at)

    def make_folder(self, name: str) -> None:
        """Make a folder, which is not there."""
        folder, last = _split(name)
        with self.at(folder) as at:
            os.mkdir(last, dir_fd=at)

    def remove_folder(self, name: str) -> None:
        """Remove a folder that is empty."""
        folder, last = _split(name)
        with self.at(folder) as at:
            os.rmdir(last, dir_fd=at)

    def sync(self, folder: str = "") -> None:
        """Make durable which files stand there."""
        with self.at(folder) as at:
            sync_folder(".", at)


def sync_folder(folder: str | Path, at: int | None = None) -> None:
    """Make durable which files stand in a folder."""
    opened = os.open(folder, _LIST, dir_fd=at)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise  # those sync no folders: what they answer is where it is kept
    finally:
        os.close(opened)


def read_regular(file: str | Path, most: int, at: int | None = None) -> bytes | None:
    """What is in a file; None where no regular file stands there, or one of more bytes."""
    try:
        descriptor = os.open(file, _READ, dir_fd=at)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return None
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read()
    finally:
        os.close(descriptor)


def _split(name: str) -> tuple[str, str]:
    folder, _, last = name.rpartition("/")
    return folder, last
