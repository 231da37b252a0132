"""The contents of files that were scanned: each is what it was then, or is not given out."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gatesync.artifacts.errors import Problem
from gatesync.mirroring.scanning import ScannedFile

__all__ = ["ScannedContents"]


class ScannedContents(Mapping[str, bytes]):
    """Files by their paths below the root, each read when it is asked for.

    Asking raises `Problem` where another content stands there by now, or none can be read; `moved`
    holds the path then.
    """

    def __init__(self, root: Path, files: Mapping[str, ScannedFile]) -> None:
        self.moved: set[str] = set()
        self._root = root
        self._files = files

    def __getitem__(self, path: str) -> bytes:
        file = self._files[path]
        try:
            content = _read(self._root / path, file.facts.size)
        except OSError as error:
            self.moved.add(path)
            raise Problem(f"cannot be read: {error.strerror}", where=path) from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            self.moved.add(path)
            raise Problem("was changed again meanwhile", where=path)
        return content

    def __contains__(self, path: object) -> bool:
        return path in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _read(path: Path, size: int) -> bytes:
    """No more than one byte over what was there: it may have become anything."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        return file.read(size + 1)
