"""Which names, labels and paths are accepted.

A name travels into SQL rows, broker subjects, file names and URLs. What is refused here
is refused before anything is stored; what is accepted is kept literally, never trimmed or folded.
"""

import hashlib
import re

from gatesync.artifacts.errors import Problem

__all__ = [
    "LABEL_MAX_BYTES",
    "NAME_MAX_BYTES",
    "check_label",
    "check_name",
    "check_node_id",
    "check_path",
    "label_token",
]

LABEL_MAX_BYTES = 255  # GATEWAY_LABEL is varchar(255) in every database script
NAME_MAX_BYTES = 255  # API_NAME, API_VERSION and TENANT_DOMAIN likewise
PATH_MAX_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # all of Unicode's category Cc
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_label(label: str) -> str:
    """Return the label as it is, or raise `Problem`: 1 to 255 bytes of UTF-8, no controls."""
    return _literal(label, "label", LABEL_MAX_BYTES)


def check_name(name: str, what: str, *, empty: bool = False) -> str:
    """Return the name as it is, or raise `Problem` that calls it `what`.

    A name never walks up a path: neither `.` nor `..` may stand alone between slashes.
    """
    if empty and not name:
        return name
    _literal(name, what, NAME_MAX_BYTES)
    if any(segment in {".", ".."} for segment in re.split(r"[/\\]", name)):
        raise Problem(f"{what} {name!r} contains a path step; '.' and '..' are not allowed")
    return name


def check_path(path: str) -> str:
    """Return a part's relative path as it is, or raise `Problem`.

    Slashes separate; a segment is neither empty nor `.` nor `..`; there are no backslashes.
    """
    _literal(path, "path", PATH_MAX_BYTES)
    segments = path.split("/")
    if "\\" in path or any(segment in {"", ".", ".."} for segment in segments):
        raise Problem(f"path {path!r} must be relative, with '/' and no '.', '..' or empty step")
    if any(len(segment.encode()) > NAME_MAX_BYTES for segment in segments):
        raise Problem(f"path {path!r} has a step of more than {NAME_MAX_BYTES} bytes")
    return path


def check_node_id(node: str) -> str:
    """Return a gateway's id as it is, or raise `Problem`: it is a token of broker subjects."""
    if not _NODE_ID.fullmatch(node):
        raise Problem(
            f"node id {node!r} must be 1 to 64 letters, digits, '-' or '_', "
            "and begin with a letter or digit"
        )
    return node


def label_token(label: str) -> str:
    """The label in places that take no free text: hex SHA-256 of its bytes, 64 characters."""
    return hashlib.sha256(label.encode()).hexdigest()


def _literal(text: str, what: str, limit: int) -> str:
    if not text:
        raise Problem(f"{what} is empty; give 1 to {limit} bytes")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Problem(f"{what} {text!r} is not valid Unicode") from None
    if size > limit:
        raise Problem(f"{what} {text[:40]!r}... has {size} bytes; at most {limit} are allowed")
    if _CONTROL.search(text):
        raise Problem(f"{what} {text!r} contains a control character")
    return text
