"""Where a TOML document's keys stand. The standard library's parser does not tell.

This reads a document that tomllib has accepted already, so it need not find faults: it only
splits the text into statements and notes each key's line.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from itertools import takewhile

__all__ = ["KeyPath", "dotted", "key_lines", "line_of"]

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN = re.compile(
    r'''(?P<key>"""(?:\\.|[^\\])*?"""{1,3}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w+-]+)'''
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<equals>=)|(?P<newline>\n)|(?P<skip>\#[^\n]*|.)",
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of each table and key; tables of an array have their index in the path."""
    lines: dict[KeyPath, int] = {}
    last_index: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, tokens in _statements(text):
        if tokens[0] == "[":
            table = _header(tokens, last_index)
            path = table
        else:
            path = table + tuple(map(_name, takewhile(lambda part: part != "=", tokens)))
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], line)
    return lines


def line_of(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """The line of a key, or of the nearest thing around it that has one, or 0."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


def dotted(path: KeyPath) -> str:
    """A path as people write it: `apim.gateway.environment[0].name`, `a."b.c"`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each header or assignment as its first line and its tokens, without space and comments."""
    line, start, depth = 1, 1, 0
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token, kind = match.group(), match.lastgroup
        if kind == "newline" and not depth:
            if tokens:
                yield start, tokens
            tokens = []
        elif kind not in {"newline", "skip"}:
            depth += (kind == "open") - (kind == "close")
            if not tokens:
                start = line
            tokens.append(token)
        line += token.count("\n")
    if tokens:
        yield start, tokens


def _header(tokens: list[str], last_index: dict[KeyPath, int]) -> KeyPath:
    """The path that `[a.b]` or `[[a.b]]` opens; the latter adds a table to its array."""
    adds = tokens[1] == "["
    names = [_name(token) for token in tokens if token not in {"[", "]"}]
    path: KeyPath = ()
    for position, name in enumerate(names):
        path += (name,)
        if adds and position == len(names) - 1:
            last_index[path] = last_index.get(path, -1) + 1
        if path in last_index:
            path += (last_index[path],)
    return path


def _name(token: str) -> str:
    if token[0] in "\"'":
        return str(tomllib.loads(f"key = {token}")["key"])
    return token
