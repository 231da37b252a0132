"""What filters and switches ask, as what Envoy's routes can match.

Routes are tried in order, so that `else` is what comes after: a condition becomes a tree of
questions, each of which sends a request one way or the other.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gatesync.engines.envoy.expressions import Reference, Tokens, evaluate, reference
from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.regexes import matches, same_in_re2
from gatesync.engines.envoy.values import (
    Header,
    Method,
    PathVariable,
    Piece,
    QueryParameter,
    Unknown,
    Value,
    constant,
)

__all__ = ["ALWAYS", "And", "Atom", "Condition", "Fixed", "Not", "Or", "boolean", "matching"]


class Atom(msgspec.Struct, frozen=True):
    """One thing that a route can match: a piece of the request against a pattern.

    `regex` is None where the piece need only be there.
    """

    piece: Piece
    regex: str | None


class Fixed(msgspec.Struct, frozen=True):
    """Decided before any request."""

    answer: bool


class Not(msgspec.Struct, frozen=True):
    """The other way round."""

    of: "Condition"


class And(msgspec.Struct, frozen=True):
    """Both."""

    first: "Condition"
    second: "Condition"


class Or(msgspec.Struct, frozen=True):
    """Either."""

    first: "Condition"
    second: "Condition"


Condition = Atom | Fixed | Not | And | Or
ALWAYS: Final = Fixed(True)
Read = Callable[[Reference], Value | Unknown]

_INSTEAD: Final = "a filter on the method, a header, a query parameter or a URI variable"


def matching(source: str, pattern: str, read: Read) -> Condition:
    """Whether the source, an expression, matches a regular expression as a whole.

    Raises:
        Cannot: the source is none that Envoy can match, or the pattern is not.
    """
    same_in_re2(pattern)
    if source.lstrip().startswith(("boolean(", "not(")):
        wanted = {word for word in ("true", "false") if matches(pattern, word)}
        condition = boolean(source, read)
        if len(wanted) != 1:
            return Fixed(bool(wanted))
        return condition if wanted == {"true"} else Not(condition)
    return _match(evaluate(source, read), pattern)


def boolean(expression: str, read: Read) -> Condition:
    """Whether an XPath expression is true: comparisons and existence with and, or, not.

    Raises:
        Cannot: it asks for what Envoy cannot match.
    """
    tokens = Tokens(expression)
    condition = _or(tokens, read)
    tokens.done()
    return condition


def _or(tokens: Tokens, read: Read) -> Condition:
    condition = _and(tokens, read)
    while tokens.peek() == ("name", "or"):
        tokens.next()
        condition = Or(condition, _and(tokens, read))
    return condition


def _and(tokens: Tokens, read: Read) -> Condition:
    condition = _term(tokens, read)
    while tokens.peek() == ("name", "and"):
        tokens.next()
        condition = And(condition, _term(tokens, read))
    return condition


def _term(tokens: Tokens, read: Read) -> Condition:
    kind, word = tokens.peek()
    if (kind, word) == ("mark", "("):
        tokens.next()
        inner = _or(tokens, read)
        tokens.expect(")")
        return inner
    if (kind, tokens.peek(1)[1]) == ("name", "(") and word in {"not", "boolean", "true", "false"}:
        return _function(tokens, read)
    return _comparison(tokens, read)


def _function(tokens: Tokens, read: Read) -> Condition:
    word = tokens.next()[1]
    tokens.expect("(")
    if word in {"true", "false"}:
        tokens.expect(")")
        return Fixed(word == "true")
    inner = _or(tokens, read)
    tokens.expect(")")
    if tokens.peek()[1] in {"=", "!="}:  # `boolean(...) = false`: `false` names an element there
        raise tokens.cannot()
    return Not(inner) if word == "not" else inner


def _comparison(tokens: Tokens, read: Read) -> Condition:
    left = _operand(tokens, read)
    mark = tokens.peek()[1]
    if mark not in {"=", "!="}:
        return _exists(left)
    tokens.next()
    right = _operand(tokens, read)
    if constant_of(right) is None:
        left, right = right, left
    literal = constant_of(right)
    if literal is None:
        raise Cannot("two things that each request brings along are compared", _INSTEAD)
    condition = _match(left, _quoted(literal))
    return condition if mark == "=" else Not(condition)


def _operand(tokens: Tokens, read: Read) -> Value | Unknown:
    kind, word = tokens.peek()
    if kind in {"string", "number"}:
        tokens.next()
        literal = word[1:-1] if kind == "string" else word
        return evaluate(f'"{literal}"' if '"' not in literal else f"'{literal}'", read)
    return read(reference(tokens))


def constant_of(value: Value | Unknown) -> str | None:
    """The same as `constant`, None for what is not known."""
    return None if isinstance(value, Unknown) else constant(value)


def _exists(value: Value | Unknown) -> Condition:
    literal = constant_of(value)
    if literal is not None:
        return Fixed(bool(literal))
    return Atom(_single(value), None)


def _match(value: Value | Unknown, pattern: str) -> Condition:
    literal = constant_of(value)
    if literal is not None:
        return Fixed(matches(pattern, literal))
    return Atom(_single(value), pattern)


def _single(value: Value | Unknown) -> Piece:
    if isinstance(value, Unknown):
        raise value.fault()
    if len(value) != 1:
        raise Cannot("a filter on a text that is put together", _INSTEAD)
    (piece,) = value
    if not isinstance(piece, Header | Method | PathVariable | QueryParameter):
        raise Cannot("a filter on what is known only after the request was sent", _INSTEAD)
    return piece


def _quoted(literal: str) -> str:
    """The literal as a pattern."""
    special = set(r"\.+*?()|[]{}^$")
    if not literal.isascii() or not literal.isprintable():
        raise Cannot(f"{literal!r} is no text that a header can have", "ASCII")
    return "".join(f"\\{each}" if each in special else each for each in literal)
