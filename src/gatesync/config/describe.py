"""The effective settings, for `config show`: each value with its origin, secrets masked."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gatesync.config.loading import Loaded
from gatesync.config.reader import Entry
from gatesync.config.secret import MASK, masked

__all__ = ["Described", "as_toml", "describe"]

Scalar = str | int | float | bool
Plain = Scalar | list[str] | dict[str, Scalar] | None
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Described(msgspec.Struct, frozen=True):
    """One effective setting: the dotted key, its value (None: not set), and where that is from.

    `table` and `name` are the two parts of the key; `index` is the place in an array of tables.
    """

    key: str
    table: str
    name: str
    index: int | None
    value: Plain
    origin: str


def describe(loaded: Loaded) -> tuple[Described, ...]:
    """Every effective setting, by table in the order of the file format. Secrets are `***`.

    Encodes to JSON as it is, with `msgspec.json.encode`.
    """
    described = [_described(entry, loaded.path) for entry in loaded.entries]
    order: dict[tuple[str, int | None], int] = {}
    for item in described:
        order.setdefault((item.table, item.index), len(order))
    return tuple(sorted(described, key=lambda item: order[item.table, item.index]))


def as_toml(described: Iterable[Described]) -> str:
    """The same as TOML, each value followed by a comment that says where it is from.

    It is for reading: its ports have the offset in them, and its secrets are gone.
    """
    lines: list[str] = []
    current: tuple[str, int | None] | None = None
    for item in described:
        if (item.table, item.index) != current:
            current = (item.table, item.index)
            header = f"[{item.table}]" if item.index is None else f"[[{item.table}]]"
            lines += ["", header] if lines else [header]
        if item.value is None:
            lines.append(f"# {item.name} is not set")
        else:
            lines.append(f"{item.name} = {_toml(item.value)}  # {item.origin}")
    return "\n".join(lines) + "\n"


def _described(entry: Entry, path: Path | None) -> Described:
    index = next((step for step in entry.table if isinstance(step, int)), None)
    origin = entry.origin or f"{path}:{entry.line}"
    value = MASK if entry.secret else _plain(entry.value)
    table = ".".join(step for step in entry.table if isinstance(step, str))
    return Described(entry.key, table, entry.name, index, value, origin)


def _plain(value: Any) -> Plain:
    """A setting as JSON and TOML have it, without what should not be shown."""
    if isinstance(value, tuple):
        return [masked(str(item)) for item in value]
    if isinstance(value, Mapping):
        return {name: _scalar(item) for name, item in value.items()}
    return None if value is None else _scalar(value)


def _scalar(value: Any) -> Scalar:
    """Numbers as they are; all else as the text that it shows of itself."""
    return value if isinstance(value, bool | int | float) else masked(str(value))


def _toml(value: Plain) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_toml_key(name)} = {_toml(item)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return str(value)


def _toml_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _toml(name)
