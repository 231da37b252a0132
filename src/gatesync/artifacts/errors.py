"""What can be wrong with an artifact or a request, said so that a person can mend it."""

from collections.abc import Iterable

__all__ = ["FormatError", "Problem", "ProblemsError"]


class Problem(ValueError):
    """One fault in something that a person handed in.

    Args:
        reason: what is wrong and what would be right.
        where: the file, key or member at fault; empty when it is the whole input.
        line: 1-based line in `where`; 0 when there is none.
    """

    def __init__(self, reason: str, *, where: str = "", line: int = 0) -> None:
        self.reason = _visible(reason)
        self.where = _visible(where)
        self.line = line
        place = f"{self.where}:{line}" if line else self.where
        super().__init__(f"{place}: {self.reason}" if place else self.reason)

    def within(self, place: str) -> "Problem":
        """The same fault, seen from outside: `place` is put before where it is."""
        return Problem(
            self.reason, where=f"{place}/{self.where}" if self.where else place, line=self.line
        )


class ProblemsError(ValueError):
    """Everything that is wrong with a request, not only the first of it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FormatError(ValueError):
    """A document whose `format` is not one that this version reads, or that is not whole."""


def _visible(text: str) -> str:
    """Text that any terminal, log or JSON document takes: a message quotes what was wrong."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
