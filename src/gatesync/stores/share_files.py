"""The files of a share, each step whole: objects, manifests, signed heads, the holder's sign.

    PATH/gatesync.share            the share's epoch; where it is missing nothing is mounted
    PATH/gatesync/objects/DIGEST   contents, and packs of the log's steps
    PATH/gatesync/manifest.L.R     see `share_log`
    PATH/gatesync/heads/NAME       a publisher's signed heads
    PATH/gatesync/holder.L         changes as long as the holder of lease L lives
    PATH/gatesync/tree.L           what that holder knows of the tree
    PATH/gatesync/new/             what is being written
    PATH/gatesync/dropped/SWEEP/   objects that nobody needs, it seems

Files come by rename, and manifests by a hard link, which only one can make. No folder is made but
by `create_share`: on a folder where nothing is mounted every write fails.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from gatesync.stores.share_lane import side_by_side
from gatesync.stores.store import StoreError

__all__ = ["MARKER", "OWN_FOLDER", "REPOSITORY", "ShareFiles", "create_share"]

MARKER: Final = "gatesync.share"
OWN_FOLDER: Final = "gatesync"
REPOSITORY: Final = "repository"
FOLDERS: Final = ("objects", "heads", "new", "dropped")
MARKER_BYTES: Final = 4096
FILE_BYTES: Final = 256 * 1024 * 1024  # nothing of ours comes near
_DIGITS: Final = 64
_SURE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}
)
"""With these a link was certainly not made."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})


class _Marker(msgspec.Struct, frozen=True):
    epoch: str
    format: Literal["gatesync.share/1"] = "gatesync.share/1"


class ShareFiles:
    """The files below one path. All methods block, and raise `StoreError` in words.

    Args:
        path: where the share is mounted.
        step: called before each change of the share with what it does; for tests.
    """

    def __init__(self, path: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self._own = path / OWN_FOLDER
        self._step = step

    def __str__(self) -> str:
        return f"share {self.path}"

    # What is there ----------------------------------------------------------------------------

    def epoch(self) -> str:
        """The share's, as its marker has it: read each time, since a mount may go away."""
        with self._explained():
            try:
                with (self.path / MARKER).open("rb") as file:
                    content = file.read(MARKER_BYTES)
            except (FileNotFoundError, NotADirectoryError):
                raise StoreError(
                    f"{self} is not there: {self.path} holds no file {MARKER}. Mount it; a new "
                    "one is made by: gatesync share create"
                ) from None
        try:
            return msgspec.json.decode(content, type=_Marker).epoch
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.path / MARKER} cannot be read: {error}") from None

    def names(self) -> list[str]:
        """What stands in the own folder."""
        with self._explained():
            return _listed(self._own)

    def read(self, name: str) -> bytes | None:
        """A file of the own folder; None: there is none of this name, or it is far too large."""
        with self._explained():
            try:
                with (self._own / name).open("rb") as file:
                    if os.fstat(file.fileno()).st_size > FILE_BYTES:
                        return None
                    return file.read()
            except FileNotFoundError:
                return None

    def object(self, digest: str) -> bytes | None:
        """An object; None where there is none, or its bytes are others (promise 8)."""
        content = self.read(f"objects/{digest}")
        if content is None:
            content = self._dropped(digest)
        return content if content is not None and _sha256(content) == digest else None

    def objects(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Those of these objects that are there and whole."""
        pairs = zip(digests, side_by_side(self.object, digests), strict=True)
        return {digest: content for digest, content in pairs if content is not None}

    def heads(self) -> Iterator[bytes]:
        """What publishers signed, each one's."""
        with self._explained():
            names = [each for each in _listed(self._own / "heads") if not _is_foreign(each)]
        for name in names:
            if (content := self.read(f"heads/{name}")) is not None:
                yield content

    # What is written --------------------------------------------------------------------------

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Put a file of the own folder in its place, over what stands there."""
        with self._explained(), self._written(content, durable=durable) as new:
            self._step(f"rename {name}")
            new.rename(self._own / name)

    def write_objects(self, contents: Mapping[str, bytes]) -> None:
        """Write what is not there yet, and make all of it durable.

        One that is there is read: whoever saves relies on it from now on.
        """
        if not contents:
            return
        with self._explained():
            side_by_side(lambda each: self._write_object(*each), list(contents.items()))
            self._sync(self._own / "objects")

    def link(self, name: str, content: bytes, after: str) -> bool:
        """Let a file appear durably where none stands; False where one does that is another.

        This is what decides between writers: of those who make one name, one has made it. A name
        that was cleaned away is no longer free: then `after` is gone, too, which is cleaned away
        first. Raises `StoreError`, with `unsure` where the file may have appeared.
        """
        target = self._own / name
        with self._explained(), self._written(content) as new:
            self._step(f"link {name}")
            try:
                os.link(new, target)
            except FileExistsError:
                # After a lost answer the system asks again, and finds what it made itself.
                if target.read_bytes() != content:
                    return False
            except FileNotFoundError:
                self.epoch()  # says so where nothing is mounted
                return False  # it took so long that the new file was cleaned away
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise StoreError(
                        f"{self} is on a file system without hard links, which decide there who "
                        "publishes next; mount one that has them"
                    ) from error
                raise StoreError(self._why(error), unsure=error.errno not in _SURE) from error
        try:
            self._step(f"sync {name}")
            if self.read(after) is None:
                self.epoch()  # perhaps all is gone
                target.unlink(missing_ok=True)
                return False
            self._sync(self._own)
        except (OSError, StoreError) as error:
            why = self._why(error) if isinstance(error, OSError) else str(error)
            raise StoreError(why, unsure=True) from error
        return True

    def remove(self, name: str) -> None:
        """Remove a file of the own folder, which may be gone already."""
        with self._explained():
            self._step(f"remove {name}")
            (self._own / name).unlink(missing_ok=True)

    # What nobody needs ------------------------------------------------------------------------

    def drop(self, needed: Callable[[str], bool]) -> None:
        """Move the objects that nobody needs out of the way. They are found there still."""
        with self._explained():
            there = filter(_is_digest, _listed(self._own / "objects"))
            names = [each for each in there if not needed(each)]
            if not names:
                return
            sweep = self._own / "dropped" / uuid.uuid4().hex
            sweep.mkdir()
            for name in names:
                self._step(f"drop {name}")
                with suppress(FileNotFoundError):
                    (self._own / "objects" / name).rename(sweep / name)

    def finish_dropping(self, needed: Callable[[str], bool]) -> None:
        """Bring back what is needed after all, and remove the rest of what was dropped."""
        with self._explained():
            for sweep in list((self._own / "dropped").iterdir()):
                for name in _listed(sweep):
                    with suppress(FileNotFoundError):
                        if needed(name):
                            self._step(f"bring back {name}")
                            (sweep / name).rename(self._own / "objects" / name)
                        else:
                            self._step(f"delete {name}")
                            (sweep / name).unlink()
                with suppress(FileNotFoundError, OSError):
                    sweep.rmdir()

    def unfinished(self) -> list[str]:
        """What is being written, or was when its writer was killed."""
        with self._explained():
            return [f"new/{name}" for name in _listed(self._own / "new")]

    # How --------------------------------------------------------------------------------------

    def _write_object(self, digest: str, content: bytes) -> None:
        target = self._own / "objects" / digest
        try:
            if target.stat().st_size == len(content) and target.read_bytes() == content:
                return
        except FileNotFoundError:
            pass
        with self._written(content) as new:
            self._step(f"rename objects/{digest}")
            new.rename(target)

    @contextmanager
    def _written(self, content: bytes, *, durable: bool = True) -> Iterator[Path]:
        """A new file with this content, which is gone afterwards unless it was renamed."""
        new = self._own / "new" / uuid.uuid4().hex
        self._step(f"write {len(content)} bytes")
        try:
            with new.open("xb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield new
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)

    def _dropped(self, digest: str) -> bytes | None:
        with self._explained():
            try:
                sweeps = _listed(self._own / "dropped")
            except FileNotFoundError:
                return None
        found = (self.read(f"dropped/{sweep}/{digest}") for sweep in sweeps)
        # Between the two looks it may have been brought back.
        return next((each for each in found if each is not None), None) or (
            self.read(f"objects/{digest}") if sweeps else None
        )

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise  # those sync no folders: what they answer is where it is kept
        finally:
            os.close(descriptor)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(self._why(error)) from error

    def _why(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                what = "is full; nothing was saved. Make room on it"
            case errno.EROFS:
                what = "is mounted read-only; mount it so that it can be written"
            case errno.EACCES | errno.EPERM:
                what = f"refuses access ({error.filename}); give this user the right to it"
            case errno.ESTALE | errno.ENOTCONN | errno.EIO | errno.ENODEV | errno.EHOSTDOWN:
                what = f"does not answer ({error.strerror}); mount it again"
            case errno.ENOENT | errno.ENOTDIR:
                what = f"lacks {error.filename}: it is not mounted, or was damaged"
            case _:
                what = f"cannot be used: {error.strerror or error}"
        return f"{self} {what}"


def create_share(path: Path, first: Callable[[str], tuple[str, bytes]]) -> str:
    """Make what a share consists of in a folder, the marker last; answers with its epoch.

    Args:
        path: the folder, which is there.
        first: the name and content of the first manifest of this epoch.

    Raises `StoreError`: there is a share already, or it cannot be made.
    """
    epoch = str(uuid.uuid4())
    files = ShareFiles(path)
    own = path / OWN_FOLDER
    with files._explained():
        if (path / MARKER).exists():
            raise StoreError(f"{path} holds a share already, of epoch {files.epoch()}")
        if own.exists() and any(each.name not in FOLDERS for each in own.iterdir()):
            raise StoreError(
                f"{path} holds a folder {OWN_FOLDER} with files of a share, and no {MARKER}: "
                f"bring that file back, or move {own} away"
            )
        for folder in (own, *(own / name for name in FOLDERS), path / REPOSITORY):
            folder.mkdir(exist_ok=True)
        name, content = first(epoch)
        files.write(name, content)
        probe = "new/probe"
        files.write(probe, b"")
        try:
            os.link(own / probe, own / f"{probe}.linked")
        except OSError as error:
            raise StoreError(
                f"{path} is on a file system without hard links ({error.strerror}), which decide "
                "there who publishes next; use one that has them"
            ) from error
        finally:
            for each in (probe, f"{probe}.linked"):
                files.remove(each)
        content = msgspec.json.encode(_Marker(epoch)) + b"\n"
        files.write("new/marker", content)
        (own / "new" / "marker").rename(path / MARKER)
        for folder in (own, path):
            files._sync(folder)
    return epoch


def _listed(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def _is_foreign(name: str) -> bool:
    """Whether a name is none of ours: a file system's `.nfsXXXX`, an editor's `x~`."""
    return name.startswith((".", "#")) or name.endswith(("~", ".swp", ".tmp"))


def _is_digest(name: str) -> bool:
    return len(name) == _DIGITS and not name.strip("0123456789abcdef")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
