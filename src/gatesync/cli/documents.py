"""Folders of WSO2 artifact JSON on disk, such as WSO2's synchronizers keep: `<label>/<id>.json`."""

import os
from pathlib import Path

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import is_leftover

__all__ = ["documents_in", "is_document"]


def is_document(path: Path) -> bool:
    """Whether a file of this name is a WSO2 artifact JSON."""
    return path.suffix.lower() == ".json"


def documents_in(folder: Path) -> list[Path]:
    """All files in the folder and below, if all of them are documents, else none.

    Hidden files and what editors leave behind are passed over.

    Raises:
        Problem: there is a symbolic link.
        OSError: a folder cannot be read.
    """
    documents: list[Path] = []
    links: list[Path] = []
    for parent, names, leaves in os.walk(folder, onerror=_raise, followlinks=False):
        names[:] = sorted(name for name in names if not is_leftover(name))
        found = [Path(parent, name) for name in leaves if not is_leftover(name)]
        if not all(map(is_document, found)):
            return []
        documents += found
        links += [path for path in (*found, *(Path(parent, n) for n in names)) if path.is_symlink()]
    if links and documents:
        reason = "symbolic links are not followed; put a file or folder in its place"
        raise Problem(reason, where=str(min(links).relative_to(folder)))
    return sorted(documents)


def _raise(error: OSError) -> None:
    raise error
