"""What a publisher says of a node: values that it answers with, and how a receipt is made.

Pure. Times are milliseconds since 1970 by the clock of the publisher that heard the report;
durations were measured by the node, on its own monotonic clock (promise 9).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gatesync.artifacts.changes import Cursor
from gatesync.events.messages import ApplyException, LabelReport

__all__ = [
    "NodeStatus",
    "Receipt",
    "ReceiptStatus",
    "Rise",
    "Silence",
    "dated",
    "receipt_of",
    "status_of",
]


class ReceiptStatus(StrEnum):
    """How far a node is with a change."""

    APPLIED = "applied"
    FAILED = "failed"
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"


class Receipt(msgspec.Struct, frozen=True):
    """What one node did about one revision of a label, or about several.

    `at` is when the report came that it was reached, `took_us` microseconds on the node's own
    clock; 0 where unknown. Where it was reached before anyone remembers, `before` is since when
    it is known at least. `silent_ms` is how long a lost node has not been heard. Of several
    `failures` the first is in `reason`.
    """

    node: str
    status: ReceiptStatus
    at: int = 0
    took_us: int = 0
    reason: str = ""
    before: int = 0
    silent_ms: int = 0
    failures: tuple[ApplyException, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """One node, for `gatesync gateways`. Times are milliseconds; `heard_at` is since 1970.

    `status` and `mode` are what its readiness said: ready, stale, starting...
    """

    node: str
    engine: str
    version: str
    admin_url: str
    uptime_ms: int
    silent_ms: int
    lost: bool
    labels: tuple[LabelReport, ...]
    heard_at: int = 0
    status: str = ""
    mode: str = ""


class Rise(NamedTuple):
    """A watermark rose from `since` to `revision`, as a report said that came at `at`."""

    since: int
    revision: int
    at: int
    took_us: int


class Silence(NamedTuple):
    """For how many milliseconds a node was not heard, and whether that makes it lost."""

    ms: int
    lost: bool


def dated(rises: Iterable[Rise], revision: int) -> tuple[int, int, int]:
    """When a revision was reached and how long it took, or else before when; 0 where unknown."""
    for rise in rises:
        if rise.revision >= revision:
            return (0, 0, rise.at) if rise.since >= revision else (rise.at, rise.took_us, 0)
    return 0, 0, 0


def status_of(report: LabelReport, cursor: Cursor, first: int) -> ReceiptStatus:
    """How far a node that said this is with the revisions from `first` to that at `cursor`."""
    if report.epoch != cursor.epoch or report.applied < cursor.revision:
        return ReceiptStatus.WAITING
    if any(first <= each.revision <= cursor.revision for each in report.exceptions):
        return ReceiptStatus.FAILED
    return ReceiptStatus.HELD if report.held else ReceiptStatus.APPLIED


def receipt_of(
    node: str,
    report: LabelReport,
    rises: Iterable[Rise],
    silence: Silence,
    cursor: Cursor,
    first: int,
) -> Receipt:
    """What a node that said this did about the revisions from `first` to that at `cursor`."""
    status = status_of(report, cursor, first)
    if status is ReceiptStatus.WAITING:
        if silence.lost:
            reason = f"not heard of for {silence.ms / 1000:.0f} s"
            return Receipt(node, ReceiptStatus.LOST, reason=reason, silent_ms=silence.ms)
        reason = f"at revision {report.applied}"
        if report.untrusted:
            reason = f"{reason}: {report.untrusted}"
        return Receipt(node, status, reason=reason)
    if status is ReceiptStatus.FAILED:
        failures = tuple(
            _as_of_now(each, silence.ms)
            for each in report.exceptions
            if first <= each.revision <= cursor.revision
        )
        reason = _why(failures)
        return Receipt(node, status, reason=reason, failures=failures)
    at, took, before = dated(rises, cursor.revision)
    reason = ""
    if status is ReceiptStatus.HELD:
        reason = f"{report.held} removals wait for: gatesync labels confirm {report.label!r}"
    return Receipt(node, status, at, took, reason, before)


def _as_of_now(failure: ApplyException, silent_ms: int) -> ApplyException:
    return msgspec.structs.replace(failure, next_try_ms=max(0, failure.next_try_ms - silent_ms))


def _why(failures: tuple[ApplyException, ...]) -> str:
    why = failures[0]
    others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    return (
        f"{why.artifact or why.api_id}: {why.reason} (attempt {why.attempt}, "
        f"next in {why.next_try_ms / 1000:.1f} s){others}"
    )
