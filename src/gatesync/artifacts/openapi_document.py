"""The bytes of an OpenAPI document become values, within limits, with the line of each.

JSON is read as JSON, anything else as YAML 1.2: `no`, `on` and `2024-01-01` are text, and so is
each key, `200:` too. YAML is put together from its parser's events, of which none makes an object
of Python's, on a stack of our own: neither deep nesting nor aliases of aliases can do harm.
"""

import codecs
import math
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.extra import refuse_repeated_members
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUES",
    "Fault",
    "Pointer",
    "lines_of",
    "pointer_text",
    "problems_of",
    "read_document",
    "text_of",
]

MAX_DEPTH: Final = 100  # of mappings and lists within each other
MAX_VALUES: Final = 1_000_000  # what an alias stands for counts each time
_LONGEST: Final = 200  # characters of what is quoted
MOST_TOLD: Final = 20  # faults of one document; who mends those sees the others

Pointer = tuple[str, ...]
"""Where a value stands: the keys and indexes that lead to it."""


class Fault(NamedTuple):
    """What is wrong with the value that stands there."""

    pointer: Pointer
    reason: str


def pointer_text(pointer: Pointer) -> str:
    """A JSON pointer as a URI's fragment, the way `$ref` has it: `#/paths/~1pets/get`."""
    steps = (step.replace("~", "~0").replace("/", "~1") for step in pointer)
    return "/".join(("#", *steps))


def problems_of(content: bytes, faults: Sequence[Fault]) -> list[Problem]:
    """The faults with their lines, the first of them where they are many."""
    told = faults[:MOST_TOLD]
    lines = lines_of(content, [each.pointer[:end] for each in told for end in _ends(each.pointer)])
    problems = []
    for pointer, reason in told:
        known = (lines[pointer[:end]] for end in _ends(pointer) if pointer[:end] in lines)
        text = f"{_cut(pointer_text(pointer))}: {reason}" if pointer else reason
        problems.append(Problem(text, line=next(known, 0)))
    if len(faults) > MOST_TOLD:
        problems.append(Problem("and more of the kind"))
    return problems


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _ends(pointer: Pointer) -> range:
    """Of a pointer and of those above it: what is missing has no line of its own."""
    return range(len(pointer), 0, -1)


def read_document(content: bytes, *, json_only: bool = False) -> Any:
    """The values of a document; whether they are an OpenAPI document is not looked at.

    Args:
        content: UTF-8, of at most `ARTIFACT_MAX_BYTES`.
        json_only: YAML is refused.

    Raises:
        Problem: it is neither JSON nor YAML, names a member twice, has more than one document,
            a tag or a merge key, or is larger or deeper than the limits.
    """
    text = text_of(content)
    if json_only or text.lstrip().startswith("{"):
        try:
            return _read_json(text)
        except Problem:
            if json_only or _is_json(text):
                raise
    return _Events(text).read()


def lines_of(content: bytes, pointers: Collection[Pointer]) -> dict[Pointer, int]:
    """The line, from 1, of each of these values that is found; a member's is that of its key."""
    events = _Events(text_of(content), pointers)
    with suppress(Problem):  # JSON need not be YAML: what was found before is right
        events.read()
    return events.lines


def text_of(content: bytes) -> str:
    """The document's text, its byte order mark left out; raises `Problem` if it is not UTF-8."""
    if len(content) > ARTIFACT_MAX_BYTES:
        raise Problem(f"{len(content)} bytes; at most {ARTIFACT_MAX_BYTES}")
    body = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise Problem(f"not UTF-8 at byte {error.start}; save it as UTF-8", line=line) from None
    if not text.strip():
        raise Problem("the document is empty")
    return text


# JSON -----------------------------------------------------------------------------------------

_BYTE: Final = re.compile(r" \(byte (\d+)\)")


def _read_json(text: str) -> Any:
    if sum(map(text.count, ",{[")) > MAX_VALUES:
        raise Problem(_TOO_MANY)
    try:
        value = msgspec.json.decode(text)
        refuse_repeated_members(text)
    except msgspec.DecodeError as error:
        found = _BYTE.search(str(error))
        line = text.encode().count(b"\n", 0, int(found[1])) + 1 if found else 0
        raise Problem(f"not JSON: {_BYTE.sub('', str(error))}", line=line) from None
    except FormatError as error:
        _Events(text).read()  # this one says the line
        raise Problem(_cut(str(error))) from None
    except RecursionError:
        raise Problem(_TOO_DEEP) from None
    _check_depth(value)
    return value


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        pass  # so deep is no YAML either
    return True


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise Problem(_TOO_DEEP)


# YAML -----------------------------------------------------------------------------------------

_TOO_MANY: Final = f"more than {MAX_VALUES:,} values; what an alias stands for counts each time"
_TOO_DEEP: Final = f"values are nested more than {MAX_DEPTH} deep"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it
_TAGS: Final = frozenset({None, "!", *(f"tag:yaml.org,2002:{each}" for each in ("map", "seq"))})
_TEXT: Final = "tag:yaml.org,2002:str"
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_NO_KEY: Final = object()


class _Open:
    """A mapping or a list in the course of being put together."""

    def __init__(self, value: dict[str, Any] | list[Any], event: Any, count: int) -> None:
        self.value = value
        self.anchor: str | None = event.anchor
        self.line: int = event.start_mark.line + 1
        self.count = count  # of all values before this one
        self.height = 1
        self.key: Any = _NO_KEY


class _Events:
    """Reads YAML; `lines` has those of the `wanted` values that were read."""

    def __init__(self, text: str, wanted: Collection[Pointer] = ()) -> None:
        self.lines: dict[Pointer, int] = {}
        self._text = text
        self._wanted = frozenset(wanted)
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}  # value, count, height
        self._count = 0
        self._whole: Any = None

    def read(self) -> Any:
        documents = 0
        try:
            for event in self._events():
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        raise Problem("a second document begins here; keep one", line=_line(event))
                elif isinstance(event, yaml.NodeEvent):
                    self._take(event)
                elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                    self._close()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise Problem(
                f"not YAML: {error.problem or error.context}", line=mark.line + 1 if mark else 0
            ) from None
        except yaml.YAMLError as error:  # a character that YAML does not have
            position = getattr(error, "position", 0)
            line = self._text.count("\n", 0, position) + 1
            reason = str(error).partition("\n")[0]
            raise Problem(f"not YAML: {reason}", line=line) from None
        if not documents:
            raise Problem("the document is empty")
        return self._whole

    def _events(self) -> Iterator[Any]:
        yield from yaml.parse(self._text, Loader=_LOADER)

    def _take(self, event: Any) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise Problem(_TOO_MANY, line=_line(event))
        if isinstance(event, yaml.AliasEvent):
            self._alias(event)
            return
        if not isinstance(event, yaml.ScalarEvent):
            self._expect_value(event)
            if event.tag not in _TAGS:
                raise _tagged(event)
            if len(self._open) == MAX_DEPTH:
                raise Problem(_TOO_DEEP, line=_line(event))
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._note_line(event)
            self._open.append(_Open(value, event, self._count))
            return
        top = self._open[-1] if self._open else None
        if top and isinstance(top.value, dict) and top.key is _NO_KEY:
            self._key(top, event)
            return
        self._note_line(event)
        value = _scalar(event)
        if event.anchor:
            self._anchors[event.anchor] = value, 1, 0
        self._put(value, 0)

    def _key(self, top: _Open, event: Any) -> None:
        key = str(event.value)
        if key == "<<" and event.implicit[0]:
            reason = "merge keys '<<' are not YAML 1.2; write the members themselves"
            raise Problem(reason, line=_line(event))
        if key in top.value:
            raise Problem(f"{_cut(key)!r} stands twice in one mapping", line=_line(event))
        if event.anchor:
            self._anchors[event.anchor] = key, 1, 0
        top.key = key
        if self._wanted:
            pointer = self._pointer()
            if pointer in self._wanted:
                self.lines[pointer] = _line(event)

    def _alias(self, event: Any) -> None:
        self._expect_value(event)
        found = self._anchors.get(event.anchor)
        if found is None:
            reason = f"*{_cut(event.anchor)} stands for nothing that ends before it"
            raise Problem(reason, line=_line(event))
        value, count, height = found
        self._count += count
        if self._count > MAX_VALUES:
            raise Problem(_TOO_MANY, line=_line(event))
        if len(self._open) + height > MAX_DEPTH:
            raise Problem(_TOO_DEEP, line=_line(event))
        self._note_line(event)
        self._put(value, height)

    def _close(self) -> None:
        done = self._open.pop()
        if done.anchor:
            self._anchors[done.anchor] = done.value, self._count - done.count + 1, done.height
        self._put(done.value, done.height)

    def _put(self, value: Any, height: int) -> None:
        if not self._open:
            self._whole = value
            return
        top = self._open[-1]
        top.height = max(top.height, height + 1)
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            top.value[top.key] = value
            top.key = _NO_KEY

    def _expect_value(self, event: Any) -> None:
        top = self._open[-1] if self._open else None
        if top and isinstance(top.value, dict) and top.key is _NO_KEY:
            raise Problem("a key must be text", line=_line(event))

    def _note_line(self, event: Any) -> None:
        """Of an entry of a list; a member's line is its key's."""
        if self._wanted and not (self._open and isinstance(self._open[-1].value, dict)):
            pointer = self._pointer()
            if pointer in self._wanted:
                self.lines[pointer] = _line(event)

    def _pointer(self) -> Pointer:
        return tuple(
            str(len(each.value)) if isinstance(each.value, list) else each.key
            for each in self._open
        )


def _scalar(event: Any) -> Any:
    text = str(event.value)
    if event.tag not in _TAGS and event.tag != _TEXT:
        raise _tagged(event)
    if event.tag or not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _tagged(event: Any) -> Problem:
    return Problem(f"the tag {_cut(event.tag)!r} is not accepted; take it out", line=_line(event))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
