"""Synapse's expressions, as far as a request's line and headers decide them.

$trp:Name   get-property('transport', 'Name')      a header, of the request or of the answer
$ctx:name   get-property('name')                   a property that the sequence has set
get-property('uri.var.x'), $ctx:query.param.x      a variable of the URL
$url:x                                             a parameter of the query
$axis2:HTTP_METHOD, $ctx:REST_METHOD               the method
fn:concat(...), 'text'                             of these
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.values import Unknown, Value, text

__all__ = ["Reference", "Tokens", "evaluate", "reference"]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<string>'[^']*'|\"[^\"]*\")|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>\$?[A-Za-z_][\w.:-]*)|(?P<mark>!=|=|[(),]))"
)
_INSTEAD: Final = (
    "$trp:Header, $ctx:property, $url:parameter, get-property(...) or fn:concat(...) of these; "
    "what looks into the body needs a mediation engine"
)


class Reference(NamedTuple):
    """What an expression reads: a scope (`default`, `transport`, `axis2`, `url`) and a name."""

    scope: str
    name: str


class Tokens:
    """An expression in the course of being read."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        at, end = 0, len(expression.rstrip())
        while at < end:
            found = _TOKEN.match(expression, at)
            if found is None:
                raise self.cannot()
            kind = str(found.lastgroup)
            self._tokens.append((kind, found[kind]))
            at = found.end()

    def cannot(self) -> Cannot:
        """The fault of an expression that is none of ours."""
        reason = f"the expression {self.expression!r} is not one that Envoy can compute"
        return Cannot(reason, _INSTEAD)

    def next(self) -> tuple[str, str]:
        """The next token, as (kind, text), passed over; ("", "") at the end."""
        token = self.peek()
        self._at += 1
        return token

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        """The same, not passed over."""
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ("", "")

    def expect(self, mark: str) -> None:
        """Pass over this; raises `Cannot` where something else stands."""
        if self.next()[1] != mark:
            raise self.cannot()

    def done(self) -> None:
        """Raise `Cannot` where something is left."""
        if self.peek()[0]:
            raise self.cannot()


_SCOPES: Final = {
    "$trp": "transport",
    "$ctx": "default",
    "$axis2": "axis2",
    "$url": "url",
}
_SCOPE_WORDS: Final = {
    "transport": "transport",
    "default": "default",
    "synapse": "default",
    "axis2": "axis2",
}
_PROPERTY: Final = re.compile(r"(?:\w+:)?get-property")
_CONCAT: Final = re.compile(r"(?:\w+:)?concat")


def evaluate(expression: str, read: Callable[[Reference], Value | Unknown]) -> Value | Unknown:
    """The value of an expression, where `read` says what each reference is.

    Raises:
        Cannot: it is none that Envoy can compute.
    """
    tokens = Tokens(expression)
    value = _value(tokens, read)
    tokens.done()
    return value


def _value(tokens: Tokens, read: Callable[[Reference], Value | Unknown]) -> Value | Unknown:
    kind, word = tokens.peek()
    if kind in {"string", "number"}:
        tokens.next()
        return text(word[1:-1] if kind == "string" else word)
    if kind == "name" and _CONCAT.fullmatch(word):
        tokens.next()
        tokens.expect("(")
        whole = _value(tokens, read)
        while tokens.peek()[1] == ",":
            tokens.next()
            following = _value(tokens, read)
            if isinstance(whole, Unknown) or isinstance(following, Unknown):
                whole = whole if isinstance(whole, Unknown) else following
            else:
                whole = whole + following
        tokens.expect(")")
        return whole
    return read(reference(tokens))


def reference(tokens: Tokens) -> Reference:
    """What the tokens refer to from here on; raises `Cannot` where it is no reference."""
    kind, word = tokens.next()
    if kind != "name":
        raise tokens.cannot()
    if word.startswith("$"):
        scope, colon, name = word.partition(":")
        if not colon or not name or scope not in _SCOPES:
            raise tokens.cannot()
        return Reference(_SCOPES[scope], name)
    if not _PROPERTY.fullmatch(word):
        raise tokens.cannot()
    tokens.expect("(")
    words = [_string(tokens)]
    if tokens.peek()[1] == ",":
        tokens.next()
        words.append(_string(tokens))
    tokens.expect(")")
    if len(words) == 1:
        return Reference("default", words[0])
    if words[0] not in _SCOPE_WORDS:
        raise tokens.cannot()
    return Reference(_SCOPE_WORDS[words[0]], words[1])


def _string(tokens: Tokens) -> str:
    kind, word = tokens.next()
    if kind != "string":
        raise tokens.cannot()
    return word[1:-1]
