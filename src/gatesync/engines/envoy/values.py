"""What a mediator computes, as far as it is known before any request: texts with holes in them.

A value is a row of pieces: literal text, and what each request brings along. Envoy fills the holes
with its formatters; a value without holes is a constant, and decides filters beforehand.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from gatesync.engines.envoy.faults import Cannot

__all__ = [
    "METADATA",
    "Answer",
    "Header",
    "Method",
    "PathVariable",
    "Piece",
    "QueryParameter",
    "Rest",
    "Text",
    "Unknown",
    "Value",
    "as_formatter",
    "capture_key",
    "captures_of",
    "check_parameter",
    "constant",
    "escaped",
    "text",
]

METADATA: Final = "gatesync"
"""The namespace of dynamic metadata in which captures stand."""


class Text(msgspec.Struct, frozen=True, tag=True):
    """As it stands."""

    text: str


class Header(msgspec.Struct, frozen=True, tag=True):
    """A header as the client sent it; empty where it sent none."""

    name: str  # in lower case


class Answer(msgspec.Struct, frozen=True, tag=True):
    """A header as the upstream answered it."""

    name: str


class Method(msgspec.Struct, frozen=True, tag=True):
    """The request's method."""


class PathVariable(msgspec.Struct, frozen=True, tag=True):
    """A variable of the resource's template, as the URL has it: not decoded."""

    name: str


class QueryParameter(msgspec.Struct, frozen=True, tag=True):
    """A parameter of the query, decoded; empty where there is none."""

    name: str


class Rest(msgspec.Struct, frozen=True, tag=True):
    """What follows the API's context in the URL, with the query: Synapse's REST_URL_POSTFIX."""


Piece = Text | Header | Answer | Method | PathVariable | QueryParameter | Rest
Value = tuple[Piece, ...]


class Unknown(msgspec.Struct, frozen=True):
    """What cannot be known; a fault only where it is used."""

    reason: str
    instead: str

    def fault(self) -> Cannot:
        """For whoever needs it."""
        return Cannot(self.reason, self.instead)


def text(literal: str) -> Value:
    """A constant."""
    return (Text(literal),) if literal else ()


def constant(value: Value) -> str | None:
    """What it is, where it is the same for all requests."""
    if all(isinstance(piece, Text) for piece in value):
        return "".join(piece.text for piece in value if isinstance(piece, Text))
    return None


def escaped(literal: str) -> str:
    """A literal within a formatter."""
    return literal.replace("%", "%%")


_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]+")


def check_parameter(name: str) -> str:
    """A query parameter's name as formatters and patterns take it."""
    if not _NAME.fullmatch(name):
        raise Cannot(
            f"the query parameter {name!r} has a name that Envoy's formatters cannot hold",
            "letters, digits, '-', '_', '.' and '~' in its name",
        )
    return name


def as_formatter(value: Value, *, in_path: bool = False) -> str:
    """The value as Envoy's format string.

    In a path, what comes from the URL is put there as the URL has it; a header cannot stand there.

    Raises:
        Cannot: it has a piece that cannot stand there.
    """
    return "".join(_formatted(piece, in_path=in_path) for piece in value)


def captures_of(values: Iterable[Value], *, in_path: bool = False) -> frozenset[Piece]:
    """The pieces that a formatter of these finds only where they were captured before."""
    wanted = (PathVariable, Rest, QueryParameter) if in_path else (PathVariable, Rest)
    return frozenset(piece for value in values for piece in value if isinstance(piece, wanted))


def capture_key(piece: Piece) -> str:
    """What a captured piece is called in the metadata."""
    match piece:
        case PathVariable(name):
            return f"path.{name}"
        case QueryParameter(name):
            return f"query.{name}"
        case _:
            return "rest"


def _formatted(piece: Piece, *, in_path: bool) -> str:
    match piece:
        case Text(literal):
            return escaped(literal)
        case PathVariable() | Rest():
            return f"%DYNAMIC_METADATA({METADATA}:{capture_key(piece)})%"
        case QueryParameter(name) if in_path:
            return f"%DYNAMIC_METADATA({METADATA}:{capture_key(piece)})%"
        case QueryParameter(name):
            return f"%QUERY_PARAM({check_parameter(name)})%"
        case Method():
            return "%REQ(:METHOD)%"
        case Header(name) if not in_path:
            return f"%REQ({name})%"
        case Answer(name) if not in_path:
            return f"%RESP({name})%"
        case _:
            raise Cannot(
                f"the header {getattr(piece, 'name', '')!r} would become part of the upstream's "
                "path, where any text of a client could stand",
                "a URI variable or a query parameter, which are encoded as a URL needs it",
            )
