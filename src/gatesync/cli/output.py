"""What commands print: one JSON document, or lines and tables for people."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

__all__ = ["Output", "ago"]

PIPE_WIDTH: Final = 1_000  # in a pipe a row is a line, however long


class Output:
    """Standard output for the answer, standard error for everything else.

    Args:
        json: print the answer as one JSON document and nothing else on standard output.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        self.console = Console(highlight=False, soft_wrap=True, width=width)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def document(self, answer: Any) -> None:
        """Print the answer for programs, if that was asked for."""
        if self.json:
            sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")

    def line(self, text: str) -> None:
        """Print a line for people."""
        if not self.json:
            self.console.print(text, markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table for people."""
        if self.json:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.console.print(table, markup=False, soft_wrap=False)

    @contextmanager
    def progress(self, doing: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on a terminal, nothing in a pipe; yields what moves it on."""
        shown = sys.stderr.isatty() and not self.json and total > 1
        with Progress(console=self.errors, disable=not shown, transient=True) as bar:
            task = bar.add_task(doing, total=total)
            yield lambda count: bar.advance(task, count)

    def problem(self, text: str) -> None:
        """Tell what is wrong, on standard error."""
        self.errors.print(f"gatesync: {text}", markup=False)

    def warning(self, text: str) -> None:
        """Tell what may be wrong and stands in nobody's way, on standard error."""
        self.errors.print(f"gatesync: warning: {text}", markup=False)

    def note(self, text: str) -> None:
        """Tell something on the side, on standard error."""
        self.errors.print(text, markup=False)


def ago(milliseconds: int) -> str:
    """A duration for people."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
