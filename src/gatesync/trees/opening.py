"""Opens the tree of a node: one writer at a time, with the record of it beside its other data."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import structlog

from gatesync.trees.disk import Disk
from gatesync.trees.errors import TreeError
from gatesync.trees.manifest import Manifest
from gatesync.trees.planning import SkipList
from gatesync.trees.writer import TreeWriter

__all__ = ["RECORD_FOLDER", "REPOSITORY_FOLDER", "open_tree"]

REPOSITORY_FOLDER: Final = "repository"
RECORD_FOLDER: Final = "saved-tree"

_log = structlog.get_logger("gatesync.trees")


@contextmanager
def open_tree(
    home: Path, data: Path, *, skip: SkipList | None = None, restore: bool = True
) -> Iterator[TreeWriter]:
    """The writer of `home/repository`, whose record is in `data/saved-tree`.

    Missing folders are made. Both are locked for as long as the block runs: two writers would
    take each other's files for foreign ones.

    Raises:
        TreeError: another process writes there, or the folders or the record cannot be used.
    """
    repository, record = home / REPOSITORY_FOLDER, data / RECORD_FOLDER
    with ExitStack() as stack:
        for folder in (record, repository):
            try:
                if folder is record:
                    data.mkdir(mode=0o700, parents=True, exist_ok=True)  # tokens lie there, too
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(folder))
            except OSError as error:
                raise TreeError(f"{folder} cannot be used: {error.strerror}") from error
        if not os.access(repository, os.W_OK | os.X_OK):
            raise TreeError(f"nothing can be written in {repository}")
        manifest = stack.enter_context(closing(Manifest(record / "files.db")))
        yield TreeWriter(Disk(repository.resolve()), manifest, skip=skip, restore=restore)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself, which leaves nothing behind, also where the process is killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = "another gateway saves its artifacts there; give each its own home and data"
            raise TreeError(f"{folder}: {reason}") from None
        except OSError as error:
            if error.errno not in {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            # Network file systems lock no folders. What else may write there is then unknown.
            _log.warning("this folder cannot be locked", folder=str(folder), reason=error.strerror)
        yield
    finally:
        os.close(descriptor)
