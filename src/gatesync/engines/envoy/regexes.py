"""Regular expressions that mean the same to Java, which Synapse uses, and to RE2, which Envoy uses.

Both match the whole text here. What only one of them knows is refused: look-around, references
back, possessive repetition, class operations.
"""

import re
from typing import Final

from gatesync.engines.envoy.faults import Cannot

__all__ = ["matches", "same_in_re2"]

_MAX_REPEAT: Final = 1000  # RE2's own limit
_MAX_SIZE: Final = 20_000  # letters, written out; RE2 takes ten times as many and more
_REPETITION: Final = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ESCAPED_LETTERS: Final = frozenset("dDsSwWbBtnrf")
_IN_CLASSES: Final = _ESCAPED_LETTERS - frozenset("bB")
_INSTEAD: Final = "a pattern of literals, classes, groups, '|', '*', '+', '?' and {n,m}"


def same_in_re2(pattern: str) -> str:
    """The pattern as it is.

    Raises:
        Cannot: RE2 would refuse it, or may take it for something else.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise Cannot(f"the pattern {pattern!r} is not well-formed", _INSTEAD) from None
    _check_size(pattern)
    # What stands outside of classes, and the classes, one after the other.
    at = 0
    while at < len(pattern):
        at = _past_class(pattern, at) if pattern[at] == "[" else _past_one(pattern, at)
    return pattern


def _past_one(pattern: str, at: int) -> int:
    character, following = pattern[at], pattern[at + 1 : at + 2]
    if character == "\\":
        return _past_escape(pattern, at, _ESCAPED_LETTERS)
    if character == "(" and following == "?" and pattern[at + 2 : at + 3] != ":":
        raise _differs(pattern, pattern[at : at + 3])
    if character in "*+?}" and following == "+":
        raise _differs(pattern, f"{character}+")
    if character == "{":
        _check_repetition(pattern, at)
    _check_ascii(pattern, character)
    return at + 1


def _past_class(pattern: str, at: int) -> int:
    at += 2 if pattern.startswith("[^", at) else 1
    if pattern[at] == "]":
        raise _differs(pattern, "a class that begins with ']'")
    while pattern[at] != "]":
        if pattern[at] in "[&~":
            raise _differs(pattern, f"{pattern[at]} in a class")
        _check_ascii(pattern, pattern[at])
        is_escape = pattern[at] == "\\"
        at = _past_escape(pattern, at, _IN_CLASSES) if is_escape else at + 1
    return at + 1


def _past_escape(pattern: str, at: int, letters: frozenset[str]) -> int:
    following = pattern[at + 1]
    if following.isalnum() and following not in letters:
        raise _differs(pattern, f"\\{following}")
    _check_ascii(pattern, following)
    return at + 2


def _check_ascii(pattern: str, character: str) -> None:
    if not " " <= character <= "~":
        raise _differs(pattern, repr(character))


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches, for constants; the pattern was looked at before."""
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _check_size(pattern: str) -> None:
    """RE2 writes repetitions out, one within another as often as both say together."""
    times = 1
    for found in _REPETITION.finditer(pattern):
        times *= max(int(each) or 1 for each in found.groups() if each)
    if times > _MAX_REPEAT:
        raise _differs(pattern, f"more than {_MAX_REPEAT} repetitions in all")
    if times * len(pattern) > _MAX_SIZE:
        raise Cannot(f"the pattern {pattern[:40]!r}... is too large for Envoy", _INSTEAD)


def _check_repetition(pattern: str, at: int) -> None:
    if _REPETITION.match(pattern, at) is None:
        raise _differs(pattern, "a '{' that repeats nothing")


def _differs(pattern: str, what: str) -> Cannot:
    return Cannot(f"the pattern {pattern!r} has {what}, which Envoy's RE2 does not know", _INSTEAD)
