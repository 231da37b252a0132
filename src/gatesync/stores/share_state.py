"""What a publisher remembers of its share on its own disk: which one it is, and its own id.

An empty folder is never taken for a new share, nor another share for the known one.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from gatesync.private_file import write_private_file
from gatesync.stores.share_source import ShareSource
from gatesync.stores.store import StoreError

__all__ = ["ShareState", "open_state"]

FILE: Final = "share.json"


class _Remembered(msgspec.Struct, frozen=True):
    id: str
    epoch: str = ""
    path: str = ""


class ShareState:
    """`id` is this publisher's for ever, in this folder. Use `open_state`.

    Attributes:
        folder: where more may be kept; None: nothing is.
    """

    def __init__(self, folder: Path | None, path: Path, remembered: _Remembered) -> None:
        self.folder = folder
        self._path = str(path)
        self._remembered = remembered

    @property
    def id(self) -> str:
        """A UUID."""
        return self._remembered.id

    def know(self, epoch: str) -> None:
        """Remember which share it is. Raises `StoreError`: it is another one than the known."""
        known = self._remembered
        if known.epoch == epoch:
            return
        if known.epoch and known.path == self._path and self.folder is not None:
            raise StoreError(
                f"share {self._path} is not the one that this publisher knows: its epoch is "
                f"{epoch}, not {known.epoch}. Mount that one; if this one is meant, remove "
                f"{self.folder / FILE}"
            )
        self._remembered = _Remembered(known.id, epoch, self._path)
        self._keep()

    @property
    def known_epoch(self) -> str:
        """The epoch that is remembered for this path; empty for none."""
        return self._remembered.epoch if self._remembered.path == self._path else ""

    def _keep(self) -> None:
        if self.folder is None:
            return
        try:
            write_private_file(self.folder / FILE, msgspec.json.encode(self._remembered))
        except OSError as error:
            reason = f"{self.folder / FILE} cannot be written: {error.strerror}"
            raise StoreError(reason) from error


@contextmanager
def open_state(source: ShareSource) -> Iterator[ShareState]:
    """Read what is remembered, and hold the folder against other processes of this host.

    Raises:
        StoreError: it cannot be read or written, or another publisher has it.
    """
    folder, fresh = source.state, _Remembered(str(uuid.uuid4()))
    if folder is None:
        yield ShareState(None, source.path, fresh)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = "another publisher of this host uses it; give each its own [gatesync] data"
            raise StoreError(f"{folder}: {reason}") from None
        state = ShareState(folder, source.path, fresh)
        with suppress(FileNotFoundError):
            try:
                remembered = msgspec.json.decode((folder / FILE).read_bytes(), type=_Remembered)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise StoreError(f"{folder / FILE} cannot be read: {error}") from error
            state = ShareState(folder, source.path, remembered)
        yield state
    finally:
        os.close(held)  # the system lets go of the lock, also after SIGKILL
