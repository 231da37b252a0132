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
by `create_share`: on a folder where nothing is mounted every write fails. No link is followed.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from gatesync.stores.share_folder import OwnFolder, read_regular, sync_folder
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
_NO_FOLDER: Final = (FileNotFoundError, NotADirectoryError)
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
        self._own = OwnFolder(path, OWN_FOLDER)
        self._step = step

    def __str__(self) -> str:
        return f"share {self.path}"

    # What is there ----------------------------------------------------------------------------

    def epoch(self) -> str:
        """The share's, as its marker has it: read each time, since a mount may go away."""
        with self._explained():
            try:
                content = read_regular(self.path / MARKER, MARKER_BYTES)
            except NotADirectoryError:
                content = None
        if content is None:
            raise StoreError(
                f"{self} is not there: {self.path} holds no file {MARKER}. Mount it; a new "
                "one is made by: gatesync share create"
            )
        try:
            return msgspec.json.decode(content, type=_Marker).epoch
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError(f"{self.path / MARKER} cannot be read: {error}") from None

    def names(self) -> list[str]:
        """What stands in the own folder."""
        with self._explained():
            return self._own.listed()

    def is_taken(self, name: str) -> bool:
        """Whether anything stands at this name in the own folder, be it no file."""
        with self._explained():
            return self._own.is_taken(name)

    def read(self, name: str) -> bytes | None:
        """A file of the own folder; None: there is none of this name, or it is far too large."""
        with self._explained():
            return self._own.read(name, FILE_BYTES)

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
            names = [each for each in self._own.listed("heads") if not _is_foreign(each)]
        for name in names:
            if (content := self.read(f"heads/{name}")) is not None:
                yield content

    # What is written --------------------------------------------------------------------------

    def write(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Put a file of the own folder in its place, over what stands there."""
        with self._explained(), self._written(content, durable=durable) as new:
            self._step(f"rename {name}")
            self._own.move(new, name)

    def write_objects(self, contents: Mapping[str, bytes]) -> None:
        """Write what is not there yet, and make all of it durable.

        One that is there is read: whoever saves relies on it from now on.
        """
        if not contents:
            return
        with self._explained():
            side_by_side(lambda each: self._write_object(*each), list(contents.items()))
            self._own.sync("objects")

    def link(self, name: str, content: bytes, after: str) -> bool:
        """Let a file appear durably where none stands; False where one does that is another.

        This is what decides between writers: of those who make one name, one has made it. A name
        that was cleaned away is no longer free: then `after` is gone, too, which is cleaned away
        first. Raises `StoreError`, with `unsure` where the file may have appeared.
        """
        with self._explained(), self._written(content) as new:
            self._step(f"link {name}")
            try:
                self._own.link(new, name)
            except FileExistsError:
                # After a lost answer the system asks again, and finds what it made itself.
                if self.read(name) != content:
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
                self._own.remove(name)
                return False
            self._own.sync()
        except (OSError, StoreError) as error:
            why = self._why(error) if isinstance(error, OSError) else str(error)
            raise StoreError(why, unsure=True) from error
        return True

    def remove(self, name: str) -> None:
        """Remove a file of the own folder, which may be gone already; a folder is left alone."""
        with self._explained():
            self._step(f"remove {name}")
            self._own.remove(name)

    # What nobody needs ------------------------------------------------------------------------

    def drop(self, needed: Callable[[str], bool]) -> list[str]:
        """Move the objects that nobody needs out of the way, where they are found still.

        Answers with all that lie there now, those of other sweeps among them.
        """
        with self._explained():
            there = filter(_is_digest, self._own.listed("objects"))
            if names := [each for each in there if not needed(each)]:
                sweep = f"dropped/{uuid.uuid4().hex}"
                self._own.make_folder(sweep)
                for name in names:
                    self._step(f"drop {name}")
                    with suppress(FileNotFoundError):
                        self._own.move(f"objects/{name}", f"{sweep}/{name}")
            lying: list[str] = []
            for sweep in self._sweeps():
                with suppress(*_NO_FOLDER):
                    dropped = filter(_is_digest, self._own.listed(sweep))
                    lying += (f"{sweep}/{each}" for each in dropped)
            return lying

    def finish_dropping(self, lying: Iterable[str], needed: Callable[[str], bool]) -> None:
        """Of what `drop` has found bring back what is needed after all, and remove the rest.

        A manifest was made in between. What others have dropped since then is left alone: it may
        be needed by a manifest that is newer than that one.
        """
        with self._explained():
            for place in lying:
                name = place.rpartition("/")[2]
                with suppress(FileNotFoundError):
                    if needed(name):
                        self._step(f"bring back {name}")
                        self._own.move(place, f"objects/{name}")
                    else:
                        self._step(f"delete {name}")
                        self._own.remove(place)
            for sweep in self._sweeps():
                with suppress(OSError):  # somebody else is at it
                    self._own.remove_folder(sweep)

    def unfinished(self) -> list[str]:
        """What is being written, or was when its writer was killed."""
        with self._explained():
            return [f"new/{each}" for each in self._own.listed("new") if not _is_foreign(each)]

    # How --------------------------------------------------------------------------------------

    def _write_object(self, digest: str, content: bytes) -> None:
        name = f"objects/{digest}"
        if self._own.read(name, len(content)) == content:
            return
        with self._written(content) as new:
            self._step(f"rename {name}")
            self._own.move(new, name)

    @contextmanager
    def _written(self, content: bytes, *, durable: bool = True) -> Iterator[str]:
        """A new file with this content, which is gone afterwards unless it was renamed."""
        new = f"new/{uuid.uuid4().hex}"
        self._step(f"write {len(content)} bytes")
        try:
            self._own.write_new(new, content, durable=durable)
            yield new
        finally:
            with suppress(OSError):
                self._own.remove(new)

    def _dropped(self, digest: str) -> bytes | None:
        with self._explained():
            for sweep in self._sweeps():
                with suppress(*_NO_FOLDER):
                    content = self._own.read(f"{sweep}/{digest}", FILE_BYTES)
                    if content is not None:
                        return content
        return self.read(f"objects/{digest}")  # by now it may have been brought back

    def _sweeps(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [f"dropped/{each}" for each in self._own.listed("dropped")]
        return []

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
            case errno.ENOENT:
                what = f"lacks {error.filename}: it is not mounted, or was damaged"
            case errno.ENOTDIR | errno.ELOOP:
                what = (
                    f"has a link or a file in place of its folder {error.filename}; gatesync "
                    "follows no link there: put the folder back"
                )
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
        if not files.link(name, content, after=name):
            raise StoreError(f"somebody else is making a share of {path} just now")
        with files._written(msgspec.json.encode(_Marker(epoch)) + b"\n") as new:
            os.link(own / new, path / MARKER)
        files._own.sync()
        sync_folder(path)
    return epoch


def _is_foreign(name: str) -> bool:
    """Whether a name is none of ours: a file system's `.nfsXXXX`, an editor's `x~`."""
    return name.startswith((".", "#")) or name.endswith(("~", ".swp", ".tmp"))


def _is_digest(name: str) -> bool:
    return len(name) == _DIGITS and not name.strip("0123456789abcdef")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
