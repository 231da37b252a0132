"""Documents on disk: OpenAPI, and WSO2 artifact JSON.

WSO2's synchronizers keep folders of the latter: `<label>/<id>.json`.
"""

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES

__all__ = ["documents_in", "is_document", "is_openapi"]


def is_document(path: Path) -> bool:
    """Whether a file of this name is a WSO2 artifact JSON."""
    return path.suffix.lower() == ".json"


class _Members(msgspec.Struct):
    openapi: msgspec.Raw = msgspec.Raw()
    swagger: msgspec.Raw = msgspec.Raw()


_FIRST_MEMBER: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:openapi|swagger)"')


def is_openapi(path: Path) -> bool:
    """Whether a file is meant to be an OpenAPI document; raises `OSError`.

    YAML always is: nothing else that gatesync publishes is written in it. JSON is one by a member
    `openapi` or `swagger`; where it is broken, by the first one.
    """
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return True
    if suffix != ".json":
        return False
    with path.open("rb") as file:
        content = file.read(ARTIFACT_MAX_BYTES)
    if _FIRST_MEMBER.match(content):
        return True
    try:
        found = msgspec.json.decode(content, type=_Members)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(found.openapi or found.swagger)


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
