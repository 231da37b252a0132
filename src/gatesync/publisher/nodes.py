"""What a publisher knows of one node: as it holds it, and as the receipt book keeps it."""

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from gatesync.artifacts.errors import FormatError
from gatesync.events.messages import Inventory, LabelReport, NodeReport
from gatesync.publisher.receipts import Rise

__all__ = [
    "BookedLabel",
    "BookedNode",
    "KnownLabel",
    "KnownNode",
    "decode_booked",
    "differs",
    "encode_booked",
    "merged_rises",
]

WATERMARKS: Final = 64  # rises remembered per node and label, to date a receipt
BOOKED_RISES: Final = 16  # of them in the book: it is written again with each rise
RETIRED: Final = 16  # earlier processes of a node whose late reports are known as such


class KnownLabel(msgspec.Struct):
    """A label at a node: what the report with this `sequence` said, and how it came to that."""

    report: LabelReport
    sequence: int
    rises: deque[Rise]


class KnownNode(msgspec.Struct):
    """A node. `heard` and `started` are seconds on our monotonic clock, the latter at the latest.

    `heard_at`: milliseconds since 1970. `here`: this publisher heard it itself, and did not read
    of it in the book. `everywhere`: every publisher hears it. `given_up`: another one says that
    it is lost.
    """

    report: NodeReport  # the newest; what others said of other labels is in `labels`
    heard: float
    heard_at: int
    started: float
    here: bool
    everywhere: bool
    labels: dict[str, KnownLabel] = {}
    retired: deque[str] = msgspec.field(default_factory=lambda: deque(maxlen=RETIRED))
    inventories: dict[str, Inventory] = {}  # the newest last
    given_up: bool = False

    def receive_label(self, report: LabelReport, sequence: int, at: int) -> LabelReport | None:
        """Take what a report says of a label; answers with what was said before."""
        known = self.labels.get(report.label)
        if known is None or known.report.epoch != report.epoch:
            known = self.labels[report.label] = KnownLabel(report, sequence, _new_rises())
            # What it reached earlier, in a report that nobody heard, has no date.
            since = report.applied - 1 if report.took_us else report.applied
            known.rises.append(Rise(since, report.applied, at, report.took_us))
            return None
        before, known.report, known.sequence = known.report, report, sequence
        if report.applied > before.applied:
            known.rises.append(Rise(before.applied, report.applied, at, report.took_us))
        elif report.applied < before.applied:
            known.rises.clear()
        return before


class BookedLabel(msgspec.Struct, frozen=True, array_like=True):
    """See `KnownLabel`."""

    report: LabelReport
    sequence: int
    rises: tuple[Rise, ...]


class BookedNode(msgspec.Struct, frozen=True):
    """A node in the book. Times are milliseconds since 1970."""

    report: NodeReport
    heard_at: int
    started_at: int
    everywhere: bool
    lost: bool
    labels: tuple[BookedLabel, ...]
    format: Literal["gatesync.booked-node/1"] = "gatesync.booked-node/1"


def encode_booked(node: KnownNode, *, started_at: int, lost: bool) -> bytes:
    """The node as the book keeps it."""
    labels = tuple(
        BookedLabel(each.report, each.sequence, tuple(each.rises)[-BOOKED_RISES:])
        for each in node.labels.values()
    )
    bare = msgspec.structs.replace(node.report, labels=(), verification=None)
    booked = BookedNode(bare, node.heard_at, started_at, node.everywhere, lost, labels)
    return _encoder.encode(booked)


def decode_booked(state: bytes) -> BookedNode:
    """Read what `encode_booked` wrote, here or at another publisher.

    Raises:
        FormatError: another version wrote it.
    """
    try:
        return _decoder.decode(state)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"this is not a receipt book's record of a node: {error}") from None


def differs(before: LabelReport, after: LabelReport) -> bool:
    """Whether a report says more than that the node still lives."""
    return before.applied != after.applied or _said(before) != _said(after)


def merged_rises(ours: Iterable[Rise], theirs: Iterable[Rise]) -> "deque[Rise]":
    """What either has heard of; of the same rise the one that was heard first."""
    by_revision: dict[int, Rise] = {}
    for rise in (*ours, *theirs):
        known = by_revision.setdefault(rise.revision, rise)
        if rise.at < known.at:
            by_revision[rise.revision] = rise
    return _new_rises(by_revision[revision] for revision in sorted(by_revision))


def _said(report: LabelReport) -> tuple[object, ...]:
    return (
        report.epoch,
        report.desired,
        report.applied,
        report.digest,
        report.count_applied,
        report.held,
        report.stale,
        report.untrusted,
        [(each.api_id, each.revision, each.attempt) for each in report.exceptions],
        [each.api_id for each in report.skipped],
    )


def _new_rises(rises: Iterable[Rise] = ()) -> "deque[Rise]":
    return deque(rises, maxlen=WATERMARKS)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(BookedNode)
