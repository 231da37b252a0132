"""The operations of an OpenAPI document as Synapse's resources: which paths, which methods.

/menu            url-mapping="/menu"
/menu/{id}       uri-template="/menu/{id}"
/menü            url-mapping="/men%C3%BC"      as requests have it
/*               url-mapping="/*"              as WSO2's own definitions have it
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import msgspec

from gatesync.artifacts.openapi_checking import resolved
from gatesync.artifacts.openapi_document import Fault, Pointer

__all__ = ["METHODS", "Operation", "operations_of"]

METHODS: Final = ("get", "post", "put", "delete", "patch", "head", "options")
"""What Synapse serves, in the order in which resources are written."""

_ALL_METHODS: Final = (*METHODS, "trace")
_FURTHEST: Final = 10  # references from one path item to the next
_PATH_ITEM: Final = re.compile(r"#/(?:paths/~1|components/pathItems/)[^/]*")


class Operation(msgspec.Struct, frozen=True):
    """One operation: its method in capitals, and its path as the resource's `style` has it.

    `security` are the names of the schemes of which a client may choose one, as the document asks;
    empty where it asks for none.
    """

    method: str
    path: str
    pattern: str
    style: str
    security: tuple[str, ...]


def operations_of(document: dict[str, Any], faults: list[Fault]) -> list[Operation]:
    """The operations of a sound document, those whose paths have no variables first.

    OpenAPI matches concrete paths before templated ones, Synapse in the order that it finds. What
    Synapse cannot serve is added to the faults.
    """
    operations: list[Operation] = []
    seen: dict[str, str] = {}
    for path, item in document.get("paths", {}).items():
        if not path.startswith("/"):  # x-...
            continue
        pointer = ("paths", path)
        if reason := _why_not(path):
            faults.append(Fault(pointer, reason))
            continue
        pattern = _pattern(path)
        same = seen.setdefault(_HOLE.sub("{}", pattern), path)
        if same != path:
            faults.append(Fault(pointer, f"is the same as {same[:120]!r}; keep one of them"))
            continue
        found = _path_item(document, item, pointer, faults)
        operations += _operations(document, found, path, pattern, faults)
    if not operations and not faults:
        faults.append(Fault(("paths",), "there is no operation; an API must have one to serve"))
    operations.sort(key=lambda each: _rank(each.pattern))
    return operations


def _operations(
    document: dict[str, Any], item: dict[str, Any], path: str, pattern: str, faults: list[Fault]
) -> Iterator[Operation]:
    style = "uri-template" if "{" in pattern else "url-mapping"
    for method in _ALL_METHODS:
        if method not in item:
            continue
        if method not in METHODS:
            reason = f"Synapse has no method {method.upper()}; take the operation out"
            faults.append(Fault(("paths", path, method), reason))
            continue
        asked = item[method].get("security", document.get("security", []))
        # {} among others: a client may also come without any.
        names = () if {} in asked else tuple(dict.fromkeys(name for each in asked for name in each))
        yield Operation(method.upper(), path, pattern, style, names)


def _path_item(
    document: dict[str, Any], item: dict[str, Any], pointer: Pointer, faults: list[Fault]
) -> dict[str, Any]:
    """The path item, or what it refers to within the document; what stands beside that wins."""
    merged: dict[str, Any] = {}
    for _ in range(_FURTHEST):
        merged = item | merged
        target = item.get("$ref")
        if not isinstance(target, str):
            return merged
        if not _PATH_ITEM.fullmatch(target):
            break
        item = resolved(document, target)
    reason = (
        f"{str(item.get('$ref'))[:120]!r} is no path item of this document, and no other is read"
    )
    faults.append(Fault((*pointer, "$ref"), f"{reason}; write it here"))
    return {}


# Paths ----------------------------------------------------------------------------------------

_HOLE: Final = re.compile(r"\{[^{}]*\}")
_VARIABLE: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_.-]*\}")
_LONGEST: Final = 2_000  # characters
_LITERAL: Final = "/%~!$&'()*+,;=:@-._"  # what stands in paths as it is


def _why_not(path: str) -> str:
    """Why Synapse cannot serve a path; empty if it can."""
    if len(path) > _LONGEST:
        return f"has {len(path)} characters; at most {_LONGEST} are allowed"
    rest = path
    for hole in _HOLE.findall(path):
        if not _VARIABLE.fullmatch(hole):
            return f"{hole[:80]!r} is no variable for Synapse; call it {{letters_and_digits}}"
        rest = rest.replace(hole, "x", 1)
    if "{" in rest or "}" in rest:
        return "has a brace without its other half; write variables as {name}"
    if len(set(_HOLE.findall(path))) != len(_HOLE.findall(path)):
        return "names a variable twice; give the second another name"
    if "?" in rest or "#" in rest:
        return "has a '?' or '#'; a path ends before the query, which parameters describe"
    if "*" in rest.removesuffix("/*"):
        return "has a '*', which is a wildcard for Synapse; it can only be the last step"
    if not rest.isprintable():
        return "has a character that cannot be seen; take it out"
    if any(step in {".", ".."} for step in rest.split("/")):
        return "has a step '.' or '..', which clients resolve before they ask; take it out"
    return ""


def _pattern(path: str) -> str:
    """The path with its literals as requests have them: percent-encoded."""
    found = re.split(f"({_HOLE.pattern})", path)
    return "".join(text if at % 2 else quote(text, safe=_LITERAL) for at, text in enumerate(found))


def _rank(pattern: str) -> tuple[tuple[bool, bool, int], ...]:
    """Concrete steps before templated ones, those with more letters first, wildcards last."""
    return tuple(
        (step == "*", "{" in step, -len(_HOLE.sub("", step)) if "{" in step else 0)
        for step in pattern.split("/")
    )
