"""Keys that a publisher signs with: one file a key, for its owner alone.

    <folder>/<key id>.json    {"format": 1, "key_id": ..., "private": "gssk_...", "created_at": ...}

Of the keys that were put to use and are not retired, the one that was put to use last signs. The
first key of a folder signs at once; a later one waits, until every gateway trusts it and somebody
says so (`keys use`). A file that others can read, a link and a file that says another key than its
name are refused, and so is a folder that others can write to.

Each file is replaced whole, and nothing is written to two: a file can be copied to another
publisher while this one runs.
"""

import base64
import binascii
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gatesync.artifacts.signatures import KEY_BYTES, Signer, TrustedKey
from gatesync.private_file import write_private_file

__all__ = ["KeyFileError", "KeyFolder", "SigningKey", "signing_key"]

FORMAT: Final = 1
_PREFIX: Final = "gssk_"


class KeyFileError(ValueError):
    """Keys cannot be read, made or changed; says which file, what is wrong, and what to do."""


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its private half, which no `repr` shows. Times are milliseconds since 1970.

    `used_from` 0: it waits. `retired_at` 0: it is not retired.
    """

    signer: Signer
    created_at: int
    used_from: int = 0
    retired_at: int = 0

    @property
    def key_id(self) -> str:
        """See `TrustedKey.key_id`."""
        return self.signer.key_id

    @property
    def public(self) -> TrustedKey:
        """What gateways are given."""
        return self.signer.key


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


class _Document(_Format, frozen=True, kw_only=True):
    key_id: str
    private: Annotated[str, msgspec.Meta(pattern=r"\Agssk_[A-Za-z0-9_-]{43}\Z")]
    created_at: int
    used_from: int = 0
    retired_at: int = 0


def signing_key(keys: tuple[SigningKey, ...], pinned: str | None = None) -> SigningKey | None:
    """The one that signs; None where nothing is signed.

    Raises `KeyFileError` where the pinned one cannot.
    """
    good = [each for each in keys if not each.retired_at]
    if pinned is not None:
        found = [each for each in good if each.key_id == pinned]
        if not found:
            is_known = any(each.key_id == pinned for each in keys)
            raise KeyFileError(
                f"[gatesync.signing] key = {pinned!r} is "
                + ("retired; " if is_known else "not in the folder of keys; ")
                + "name another, or take the line out; `gatesync keys list` shows all"
            )
        return found[0]
    used = [each for each in good if each.used_from]
    return max(used, key=lambda each: (each.used_from, each.key_id), default=None)


class KeyFolder:
    """The keys of a publisher, for creating, listing, using and retiring.

    Args:
        path: usually `<data>/keys`; made when the first key is.
        clock: seconds since 1970.

    All methods raise `KeyFileError`.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def create(self) -> SigningKey:
        """Make a key; it signs at once if there is none that does, else it waits."""
        keys = self.read()
        now = self._now()
        in_use = any(each.used_from and not each.retired_at for each in keys)
        private = secrets.token_bytes(KEY_BYTES)
        new = SigningKey(signer=Signer(private), created_at=now, used_from=0 if in_use else now)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be made: {error.strerror}") from error
        text = _PREFIX + base64.urlsafe_b64encode(private).decode().rstrip("=")
        self._write(
            _Document(
                format=FORMAT,
                key_id=new.key_id,
                private=text,
                created_at=now,
                used_from=new.used_from,
            )
        )
        return new

    def read(self) -> tuple[SigningKey, ...]:
        """All keys, the retired ones too, oldest first."""
        keys = [_key_of(each) for each in self._documents()]
        return tuple(sorted(keys, key=lambda each: (each.created_at, each.key_id)))

    def use(self, key_id: str) -> None:
        """Have this key sign from now on."""
        document = self._find(key_id)
        if document.retired_at:
            raise KeyFileError(f"key {key_id} is retired; make a new one: gatesync keys create")
        self._write(msgspec.structs.replace(document, used_from=self._now()))

    def retire(self, key_id: str) -> bool:
        """Have this key sign nothing any more; False if it was retired before."""
        document = self._find(key_id)
        if document.retired_at:
            return False
        self._write(msgspec.structs.replace(document, retired_at=self._now()))
        return True

    def signature(self) -> tuple[tuple[object, ...], ...]:
        """Differs whenever a file does; one look at each, and none into it."""
        try:
            found = sorted(os.scandir(self.path), key=lambda each: each.name)
            stats = [(each.name, each.stat(follow_symlinks=False)) for each in found]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        return tuple(
            (name, it.st_ino, it.st_mode, it.st_size, it.st_mtime_ns, it.st_ctime_ns)
            for name, it in stats
            if name.endswith(".json")
        )

    def _documents(self) -> list[_Document]:
        try:
            mode = self.path.stat().st_mode
            names = sorted(each.name for each in os.scandir(self.path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        if mode & 0o022:
            raise KeyFileError(
                f"{self.path}: others could put keys into it (mode {mode & 0o777:04o}); "
                "run chmod 700 on it"
            )
        return [_read(self.path / name) for name in names if name.endswith(".json")]

    def _find(self, key_id: str) -> _Document:
        for each in self._documents():
            if each.key_id == key_id:
                return each
        raise KeyFileError(f"{self.path}: there is no key {key_id!r}; see `gatesync keys list`")

    def _write(self, document: _Document) -> None:
        path = self.path / f"{document.key_id}.json"
        content = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
        try:
            write_private_file(path, content)
        except OSError as error:
            raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from error

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _read(path: Path) -> _Document:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFileError(f"{path}: is no file; take it out of the folder of keys")
            if mode & 0o077:
                raise KeyFileError(
                    f"{path}: others can access this private key (mode {mode & 0o777:04o}); run "
                    "chmod 600 on it, and retire the key if somebody may have read it"
                )
            content = file.read()
    except OSError as error:
        if path.is_symlink():
            reason = "is a link; put the file itself there, with mode 0600"
        else:
            reason = f"cannot be read: {error.strerror}"
        raise KeyFileError(f"{path}: {reason}") from error
    return _decode(content, path)


def _decode(content: bytes, path: Path) -> _Document:
    """What the file says. No error repeats any of it."""
    try:
        version = msgspec.json.decode(content, type=_Format).format
        if version != FORMAT:
            raise KeyFileError(f"{path}: has format {version}; this version reads {FORMAT}")
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if document is None or path.name != f"{document.key_id}.json" or not _is_of(document):
        raise KeyFileError(
            f"{path}: is not the key that its name says; restore it, or take it out of the folder"
        ) from None
    return document


def _is_of(document: _Document) -> bool:
    """Whether the private key is the one with this id."""
    try:
        return _key_of(document).key_id == document.key_id
    except (ValueError, binascii.Error):
        return False


def _key_of(document: _Document) -> SigningKey:
    private = base64.b64decode(
        document.private.removeprefix(_PREFIX) + "=", altchars=b"-_", validate=True
    )
    return SigningKey(
        signer=Signer(private),
        created_at=document.created_at,
        used_from=document.used_from,
        retired_at=document.retired_at,
    )
