"""Which paths a resource serves: uri-template and url-mapping as Envoy matches them.

Synapse asks the resources that have the request's method. More exact ones come first here: those
without holes, then templates in the order in which they stand, then wildcards, the longest first.
"""

import re
from typing import Final
from urllib.parse import quote

import msgspec

from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.values import (
    PathVariable,
    Piece,
    QueryParameter,
    Rest,
    Value,
    check_parameter,
)

__all__ = [
    "METHODS",
    "SEVERAL",
    "STEP",
    "Pattern",
    "capture_regex",
    "literal_path",
    "literal_query",
    "pattern_of",
]

METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
"""Those that a resource may have."""

STEP: Final = "([^/?]+)"
SEVERAL: Final = "([^?]+)"
"""What a variable stands for; no query, since captures look at path and query together."""

_BELOW: Final = "(?:/[^?]*)?"
_IS_PREFIX: Final = re.compile("[^?#]+[^?#/]")  # as Envoy wants it
_EXACT, _TEMPLATE, _WILDCARD, _DEFAULT = range(4)


class Pattern(msgspec.Struct, frozen=True):
    """The paths of a resource, below its API's context.

    `regex` matches a whole path, context included and query excluded, and has one group for each
    of `groups`. `parameters` are those that the query must have, each with its exact value or
    None. `variables` says what the names of the template stand for.
    """

    text: str
    rank: tuple[int, int]
    context: str
    regex: str
    groups: tuple[str, ...]
    parameters: tuple[tuple[str, str | None], ...]
    variables: dict[str, Value]
    prefix: str = ""  # where the pattern is all paths below this one, and itself


def pattern_of(style: str, written: str, context: str) -> Pattern:
    """The pattern of a resource.

    Args:
        style: `uri-template`, `url-mapping`, or empty: whatever no other resource serves.
        written: as it stands in the XML.
        context: the API's, as `literal_path` made it.

    Raises:
        Cannot: the pattern is none that Synapse or Envoy knows.
    """
    if not style:
        regex = f"{re.escape(context)}{_BELOW}"
        return Pattern("/*", (_DEFAULT, 0), context, regex, (), (), {}, context)
    if style == "url-mapping":
        return _mapping(written, context)
    return _template(written, context)


def literal_path(path: str) -> str:
    """A path as requests have it: what is no letter of a URL is percent-encoded."""
    return quote(path, safe="/%~!$&'()*+,;=:@-._")


def literal_query(text: str) -> str:
    """A query, or a path with one, in the same way."""
    return quote(text, safe="/%~!$&'()*+,;=:@-._?")


def capture_regex(pattern: Pattern, piece: Piece) -> tuple[str, str]:
    """What finds a piece in path and query, as pattern and substitution.

    The pattern matches any path and query of the resource, so that nothing else is left over.
    """
    if isinstance(piece, Rest):
        return f"^{re.escape(pattern.context)}(.*)$", r"\1"
    if isinstance(piece, QueryParameter):
        name = re.escape(check_parameter(piece.name))
        return rf"^(?:[^?]*\?(?:.*&)?{name}=([^&]*).*|.*)$", r"\1"
    assert isinstance(piece, PathVariable)
    number = pattern.groups.index(piece.name) + 1
    return rf"^{pattern.regex}(?:\?.*)?$", rf"\{number}"


def _mapping(written: str, context: str) -> Pattern:
    """As Synapse's URL mappings: `/a/*`, `*.jsp`, or a path, with or without a slash at the end."""
    start = re.escape(context)
    if written.startswith("/") and written.endswith("/*"):
        below = literal_path(written[:-2])
        regex = f"{start}{re.escape(below)}{_BELOW}"
        prefix = context + below if _IS_PREFIX.fullmatch(context + below) else ""
        return Pattern(written, (_WILDCARD, -len(below)), context, regex, (), (), {}, prefix)
    if written.startswith("*."):
        regex = f"{start}/[^?]*{re.escape(literal_path(written[1:]))}"
        return Pattern(written, (_WILDCARD, 1), context, regex, (), (), {})
    if not written.startswith("/"):
        raise Cannot(f"url-mapping {written!r} begins with neither '/' nor '*.'", "'/path'")
    if "*" in written:
        raise Cannot(f"url-mapping {written!r} has a '*' that is not its last step", "'/path/*'")
    regex = f"{start}{re.escape(literal_path(written.rstrip('/')))}/*"
    if written == "/":
        regex = f"{start}/?"
    return Pattern(written, (_EXACT, 0), context, regex, (), (), {})


_HOLE: Final = re.compile(r"\{(\+?)([A-Za-z_][\w.-]*)\}")
_MOST_HOLES: Final = 9  # RE2's substitutions know \1 to \9


def _template(written: str, context: str) -> Pattern:
    path, mark, query = written.partition("?")
    wildcard = path.endswith("*")
    path = path.removesuffix("*")
    if not path.startswith("/"):
        raise Cannot(f"uri-template {written!r} does not begin with '/'", "'/path/{variable}'")
    groups: list[str] = []
    variables: dict[str, Value] = {}
    regex = ""
    at = 0
    for hole in _HOLE.finditer(path):
        regex += _literal(path[at : hole.start()], written)
        if hole[2] in variables:
            raise Cannot(f"uri-template {written!r} names {hole[2]!r} twice", "another name")
        regex += SEVERAL if hole[1] else STEP
        groups.append(hole[2])
        variables[hole[2]] = (PathVariable(hole[2]),)
        at = hole.end()
    last = path[at:]
    if wildcard and last.endswith("/"):
        regex += _literal(last[:-1], written) + _BELOW
    else:
        regex += _literal(last, written) + ("[^?]*" if wildcard else "")
    if path == "/" and not wildcard:
        regex = "/?"
    if len(groups) > _MOST_HOLES:
        raise Cannot(f"uri-template {written!r} has more than {_MOST_HOLES} variables", "fewer")
    parameters = _parameters(query, written, variables) if mark else ()
    rank = _WILDCARD if wildcard else _TEMPLATE if groups or parameters else _EXACT
    return Pattern(
        written,
        (rank, -len(path) if wildcard else 0),
        context,
        re.escape(context) + regex,
        tuple(groups),
        parameters,
        variables,
    )


def _parameters(
    query: str, written: str, variables: dict[str, Value]
) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = []
    for each in query.removesuffix("*").rstrip("&").split("&"):
        if not each:
            continue
        name, _, value = each.partition("=")
        check_parameter(name)
        hole = _HOLE.fullmatch(value)
        if hole:
            if hole[2] in variables:
                raise Cannot(f"uri-template {written!r} names {hole[2]!r} twice", "another name")
            variables[hole[2]] = (QueryParameter(name),)
        elif "{" in value or "*" in value:
            raise Cannot(f"uri-template {written!r} has the parameter {each!r}", "name={variable}")
        found.append((name, None if hole else value))
    return tuple(found)


def _literal(text: str, written: str) -> str:
    if re.search(r"[{}*]", text):
        raise Cannot(
            f"uri-template {written!r} has something that is no {{variable}}",
            "{variable} for a step, {+variable} for several, '*' at the end",
        )
    return re.escape(literal_path(text))
