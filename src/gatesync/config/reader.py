"""Reads keys out of a parsed document, and remembers which were asked for and what came of it.

Every key that gatesync knows is one that something asks a `Section` for: there is no second
list of keys that could differ.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from gatesync.config.kinds import Kind
from gatesync.config.placeholders import Placeholders
from gatesync.config.positions import KeyPath, dotted, line_of
from gatesync.config.problems import ConfigProblem, ConfigWarning, Invalid
from gatesync.config.secret import masked, names_a_secret

__all__ = ["DEFAULT", "Entry", "Reader", "Section", "pattern"]

T = TypeVar("T")
DEFAULT = "default"


class Entry(msgspec.Struct, frozen=True):
    """One effective setting. `origin` is empty when the file's line `line` gave it.

    `secret` says that the value holds a secret though its type does not tell.
    """

    table: KeyPath
    name: str
    value: Any
    origin: str = DEFAULT
    line: int = 0
    secret: bool = False

    @property
    def key(self) -> str:
        """The dotted key, with an index where the table is one of an array."""
        return f"{dotted(self.table)}.{self.name}"


def pattern(path: KeyPath) -> str:
    """A path without the indexes of arrays: the same for each table of an array."""
    return dotted(tuple(step for step in path if isinstance(step, str)))


class Reader:
    """The document as sections see it. Faults are collected, not raised.

    Args:
        document: what tomllib made of the file.
        lines: where its keys stand (`key_lines`).
        placeholders: fills in what values refer to.
    """

    def __init__(
        self, document: dict[str, Any], lines: dict[KeyPath, int], placeholders: Placeholders
    ) -> None:
        self.document = document
        self.lines = lines
        self.placeholders = placeholders
        self.known: set[str] = set()
        self.entries: list[Entry] = []
        self.problems: list[ConfigProblem] = []
        self.warnings: list[ConfigWarning] = []

    def section(self, table: str) -> "Section":
        """The keys below this dotted table, whether the file has it or not."""
        return Section(self, tuple(table.split(".")))

    def sections(self, table: str) -> Iterator["Section"]:
        """One section for each `[[table]]`."""
        path: KeyPath = tuple(table.split("."))
        found = self.lookup(path)
        if found is None:
            return
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self.problem(path, f"must be tables of an array; write [[{table}]]")
            return
        for index in range(len(found)):
            yield Section(self, (*path, index))

    def lookup(self, path: KeyPath) -> Any:
        """What stands at a path, or None, which TOML cannot write."""
        found: Any = self.document
        for length, step in enumerate(path):
            if isinstance(step, int):
                found = found[step]
            elif isinstance(found, dict):
                found = found.get(step)
            else:
                self.problem(path[:length], f"must be a table; write [{pattern(path[:length])}]")
                return None
            if found is None:
                return None
        return found

    def problem(self, path: KeyPath, message: str) -> None:
        """Note a fault at a path, once."""
        problem = ConfigProblem(message, dotted(path), line_of(path, self.lines))
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, path: KeyPath, message: str) -> None:
        """Note something that is accepted but should be seen."""
        self.warnings.append(ConfigWarning(message, dotted(path), line_of(path, self.lines)))


class Section:
    """The keys of one table. `path` is its place in the document."""

    def __init__(self, reader: Reader, path: KeyPath) -> None:
        self.reader = reader
        self.path = path

    def read(self, name: str, kind: Kind[T], default: Any, *, also: str = "") -> T:
        """The value of a key, or of its other spelling `also`, or the default.

        `default` is written as in the file. A faulty value is noted and the default returned.
        """
        value = self._given(name, kind, also)
        if value is None:
            value = kind(default)
            self._remember(name, value)
        return value

    def optional(self, name: str, kind: Kind[T]) -> T | None:
        """The value of a key, or None when it is absent or faulty (which is noted)."""
        value = self._given(name, kind, "")
        if value is None:
            self._remember(name, None)
        return value

    def derived(self, name: str, kind: Kind[T], default: Any, why: str) -> T:
        """As `read`, with a default that comes from elsewhere; `why` says from where."""
        value = self._given(name, kind, "")
        if value is None:
            value = kind(default)
            self._remember(name, value, f"{DEFAULT}, {why}")
        return value

    def place(self, name: str) -> KeyPath:
        """The path of a key of this section."""
        return (*self.path, *name.split("."))

    def problem(self, name: str, message: str) -> None:
        """Note a fault of a key of this section."""
        self.reader.problem(self.place(name), message)

    def warn(self, name: str, message: str) -> None:
        """Warn about a key of this section."""
        self.reader.warn(self.place(name), message)

    def _given(self, name: str, kind: Kind[T], also: str) -> T | None:
        spellings = [name, also] if also else [name]
        self.reader.known.update(pattern(self.place(spelling)) for spelling in spellings)
        raws = {spelling: self.reader.lookup(self.place(spelling)) for spelling in spellings}
        given = [spelling for spelling, raw in raws.items() if raw is not None]
        if len(given) > 1 and raws[name] != raws[also]:
            self.problem(also, f"is another spelling of {name}, with another value; keep one")
        if not given:
            return None
        return self._convert(given[0], kind, raws[given[0]])

    def _convert(self, name: str, kind: Kind[T], raw: Any) -> T | None:
        path = self.place(name)
        try:
            resolved = self.reader.placeholders.resolve(raw)
        except Invalid as error:
            self.reader.problem(path, str(error))
            return None
        secret = resolved.secret or names_a_secret(name)
        try:
            value = kind(resolved.value)
        except Invalid as error:
            self.reader.problem(path, _refusal(str(error), raw, resolved.value, secret=secret))
            return None
        line = line_of(path, self.reader.lines)
        self.reader.entries.append(Entry(self.path, name, value, "", line, resolved.secret))
        return value

    def _remember(self, name: str, value: Any, origin: str = DEFAULT) -> None:
        self.reader.entries.append(Entry(self.path, name, value, origin))


def _refusal(reason: str, raw: Any, value: Any, *, secret: bool) -> str:
    """The reason with what the file holds, unless that is a secret."""
    if secret:
        return f"{reason.partition(':')[0]} (its value is not shown)"
    if isinstance(raw, dict):
        return reason
    shown = masked(repr(raw) if len(repr(raw)) <= 80 else f"{repr(raw)[:77]}...")
    return f"{reason}; it is {shown}" + ("" if raw == value else " with something filled in")
