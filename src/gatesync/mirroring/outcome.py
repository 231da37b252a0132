"""What became of one worker in one pass: what is shown, logged and sent as a receipt."""

import enum
from typing import Final

import msgspec

__all__ = ["Outcome", "Result"]

_SHOWN: Final = 3  # names in a sentence


class Result(enum.Enum):
    """How a pass ended for a worker."""

    IN_STEP = "in step"  # its manifest proved it; nothing was written
    BROUGHT = "brought in step"  # something was written, and its manifest proves it now
    BEHIND = "behind"  # true manifest, but not all of the source could be brought: see `why`
    FAILED = "failed"  # see `why` and `exit_code`
    PLANNED = "planned"  # a dry run: what would be done is in `offered` and `removed`


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, one pass. Times are in seconds since 1970, durations in seconds."""

    worker: str
    """The line of the workers list."""
    result: Result
    epoch: str | None = None
    revision: int | None = None
    """What the worker's own manifest proves that it has, completely; None: nothing is proven."""
    at: float
    """When the pass of this worker ended."""
    seconds: float
    """How long it took."""
    offered: tuple[str, ...] = ()
    """Files that were brought, by their paths on the worker."""
    removed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    """Files that would be removed, had the source proof of it: they wait for confirmation."""
    repaired: tuple[str, ...] = ()
    """Of `offered` and `removed`: where people, not the source, had changed the worker."""
    left_out: tuple[str, ...] = ()
    """Files that the source has no settled content of now; a later pass brings them."""
    compared: bool = False
    """Whether every file's content was compared, not only the worker's manifest read."""
    bytes_sent: int = 0
    """Over the wire, all of it, as rsync counts it."""
    exit_code: int | None = None
    """rsync's or ssh's, where one failed."""
    why: str = ""
    """In words; empty where nothing is wrong. Never holds a secret."""
    failures: int = 0
    """In a row, this one included."""
    next_try: float | None = None
    """When it is tried again after a failure, at the earliest."""

    def sentence(self) -> str:
        """For a log or a terminal, without the worker's name."""
        parts = [self.result.value]
        if self.offered:
            parts.append(f"{_count(self.offered)} brought")
        if self.removed:
            parts.append(f"{_count(self.removed)} removed")
        if self.repaired:
            parts.append(f"changed on the worker: {_names(self.repaired)}")
        if self.held:
            parts.append(f"{_count(self.held)} kept until removals are confirmed")
        if self.left_out:
            parts.append(f"not settled in the source: {_names(self.left_out)}")
        if self.why:
            parts.append(self.why)
        return "; ".join(parts)


def _count(paths: tuple[str, ...]) -> str:
    return f"{len(paths)} file" + ("s" if len(paths) != 1 else "")


def _names(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
