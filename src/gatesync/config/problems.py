"""What is wrong with a configuration, said so that a person can mend it."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

__all__ = ["ConfigError", "ConfigProblem", "ConfigWarning", "Invalid"]


class Invalid(ValueError):
    """A value that cannot be used, said without repeating it; the reader adds key and line."""


class ConfigProblem(msgspec.Struct, frozen=True):
    """One fault: what is wrong and what to do, the dotted key, its 1-based line (0: none)."""

    message: str
    key: str = ""
    line: int = 0

    def at(self, path: Path | None) -> str:
        """The fault with its place, as `FILE:LINE: KEY: MESSAGE`, leaving out what is unknown."""
        place = "settings" if path is None else str(path)
        if self.line:
            place += f":{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigWarning(ConfigProblem, frozen=True):
    """Something that is not wrong enough to refuse, with the same fields."""


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` holds everything wrong, not only the first.

    No message ever holds the value of a secret.
    """

    def __init__(self, problems: Iterable[ConfigProblem], path: Path | None = None) -> None:
        self.problems = tuple(problems)
        self.path = path
        super().__init__("\n".join(problem.at(path) for problem in self.problems))
