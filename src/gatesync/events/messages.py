"""What travels through a hub: announcements to the gateways, reports to the publishers.

Msgpack maps, so that a newer sender may add fields; each names its format. What decodes is of
the right shape; whether it is true is for the receiver to check against the store (promise 1).
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from gatesync.artifacts.changes import ChangeSet, Head, Instruction
from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.digests import Count, LabelDigest, digest_of
from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.names import check_label, check_node_id

__all__ = [
    "CONTENTS_MAX_BYTES",
    "EVENT_FORMAT",
    "INLINE_MAX_BYTES",
    "PLAIN_MAX_BYTES",
    "REPORT_FORMAT",
    "Announcement",
    "ApplyException",
    "ChangeAnnounced",
    "Contents",
    "Drift",
    "HeadsAnnounced",
    "Inventory",
    "LabelInventory",
    "LabelReport",
    "NodeReport",
    "Skipped",
    "announce_change",
    "contents_of",
    "decode_announcement",
    "decode_report",
    "encode",
]

EVENT_FORMAT: Final = "gatesync.event/1"
REPORT_FORMAT: Final = "gatesync.report/1"
INLINE_MAX_BYTES: Final = 256 * 1024  # of canonical bytes that a change carries, by default
PLAIN_MAX_BYTES: Final = 8 * 1024  # of them that travel uncompressed: a frame costs 27 us to open
CONTENTS_MAX_BYTES: Final = 16 * 1024 * 1024  # accepted: one artifact of 15 MiB, and its frame
REASON_MAX_CHARACTERS: Final = 500
DRIFT_MAX_ITEMS: Final = 100


class ChangeAnnounced(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="change"):
    """A change set went live in its label.

    The canonical bytes of those artifacts that are small go along: in `contents`, one zstd
    frame, or as they are in `plain`, by digest, where they are so few that each gateway would
    take longer to open the frame than to receive them. Read them with `contents_of`.
    """

    change_set: ChangeSet
    contents: bytes = b""
    plain: dict[str, bytes] = {}
    format: Literal["gatesync.event/1"] = EVENT_FORMAT


class HeadsAnnounced(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="heads"):
    """A publisher's heartbeat: where labels stand. `sent_at` is in milliseconds since 1970.

    `verification`, when not empty, asks each node for an `Inventory` under that id.
    """

    heads: tuple[Head, ...]
    publisher: str
    sent_at: Count
    verification: str = ""
    format: Literal["gatesync.event/1"] = EVENT_FORMAT


Announcement = ChangeAnnounced | HeadsAnnounced


def _cut(reason: str) -> str:
    return reason[: REASON_MAX_CHARACTERS - 3] + "..."


class ApplyException(msgspec.Struct, frozen=True, gc=False):
    """An artifact that a node could not apply. `next_try_ms`: milliseconds until the next try.

    `artifact` is its kind, name and version, for people. A reason of more than 500 characters is
    cut.
    """

    api_id: str
    revision: Count
    digest: str
    reason: str
    attempt: Count
    next_try_ms: Count
    artifact: str = ""

    def __post_init__(self) -> None:
        if len(self.reason) > REASON_MAX_CHARACTERS:
            msgspec.structs.force_setattr(self, "reason", _cut(self.reason))


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """An artifact that a node rightly does not serve, and why."""

    api_id: str
    reason: str


class LabelReport(msgspec.Struct, frozen=True, gc=False):
    """How far a node is with one label.

    `desired` is the revision that it follows, `digest` the label's digest there; every change
    set up to `applied` is processed. `took_us`: microseconds from the receipt of the change to
    applied. `proof_age_ms`: milliseconds since it last knew that it was in step, None for never.
    `held`: removals that wait for confirmation. `stale`: the node finds its proof too old.
    `exceptions` and `skipped` are the newest 100 of `failed` and of all that are skipped.
    `untrusted`: why what the store answers is not taken, where it is not signed as it must be; of
    more than 500 characters it is cut.
    """

    label: str
    epoch: str
    desired: Count
    applied: Count
    digest: LabelDigest
    count_applied: Count
    took_us: Count = 0
    proof_age_ms: Count | None = None
    held: Count = 0
    exceptions: tuple[ApplyException, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: Count = 0
    stale: bool = False
    untrusted: str = ""

    def __post_init__(self) -> None:
        if len(self.untrusted) > REASON_MAX_CHARACTERS:
            msgspec.structs.force_setattr(self, "untrusted", _cut(self.untrusted))


class Drift(msgspec.Struct, frozen=True, gc=False):
    """An artifact whose bytes at the node are not the expected ones; empty stands for absent."""

    api_id: str
    expected: str
    actual: str


class LabelInventory(msgspec.Struct, frozen=True, gc=False):
    """What a node really holds of a label at `revision` of `epoch`, from the engine's bytes.

    Only the first 100 of `drifted` travel; `drifted_count` tells how many there are.
    """

    label: str
    count: Count
    set_digest: str
    epoch: str = ""
    revision: Count = 0
    drifted: tuple[Drift, ...] = ()
    drifted_count: Count = 0

    def __post_init__(self) -> None:
        if self.drifted_count < len(self.drifted):
            msgspec.structs.force_setattr(self, "drifted_count", len(self.drifted))
        if len(self.drifted) > DRIFT_MAX_ITEMS:
            msgspec.structs.force_setattr(self, "drifted", self.drifted[:DRIFT_MAX_ITEMS])


class Inventory(msgspec.Struct, frozen=True, gc=False):
    """The answer to the verification with this `id`."""

    id: str
    labels: tuple[LabelInventory, ...]


class NodeReport(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="report"):
    """What a gateway says of itself (promise 9).

    `incarnation` is a UUID made when its process started, `sequence` rises with each report:
    within one incarnation the higher one is the news. `leaving` is its last word. `status` and
    `mode` are what its readiness says: ready, stale, starting...; sync, async or cache.
    """

    node: str
    incarnation: str
    sequence: Count
    version: str
    engine: str
    admin_url: str
    uptime_ms: Count
    labels: tuple[LabelReport, ...]
    leaving: bool = False
    verification: Inventory | None = None
    status: str = ""
    mode: str = ""
    format: Literal["gatesync.report/1"] = REPORT_FORMAT


class Contents(dict[str, bytes]):
    """Canonical bytes by digest, each verified. `refused`: digests whose bytes were others."""

    refused: tuple[str, ...] = ()


class _AnyFormat(msgspec.Struct):
    format: Annotated[str, msgspec.Meta(max_length=200)]


_encoder = msgspec.msgpack.Encoder()
_announcements = msgspec.msgpack.Decoder(Announcement)
_reports = msgspec.msgpack.Decoder(NodeReport)
_any_format = msgspec.msgpack.Decoder(_AnyFormat)
_contents = msgspec.msgpack.Decoder(dict[str, bytes])
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def announce_change(
    change_set: ChangeSet, contents: Mapping[str, bytes], *, inline_limit: int = INLINE_MAX_BYTES
) -> ChangeAnnounced:
    """The announcement of a change set, with what fits of the artifacts that it publishes.

    `contents` has canonical bytes by digest, and may lack some; `inline_limit` bytes of them,
    before compression, go along. Gateways fetch the others from the store.
    """
    inline: dict[str, bytes] = {}
    room = inline_limit
    for change in change_set.changes:
        digest = change.entry.digest
        content = contents.get(digest) if change.instruction is Instruction.PUBLISH else None
        if content is not None and len(content) <= room and digest not in inline:
            inline[digest] = content
            room -= len(content)
    if inline_limit - room <= PLAIN_MAX_BYTES:
        return ChangeAnnounced(change_set, plain=inline)
    return ChangeAnnounced(change_set, compress(_encoder.encode(inline)))


def contents_of(announced: ChangeAnnounced) -> Contents:
    """The artifacts that came along. Only bytes that have their digest are kept (promise 8).

    Raises:
        FormatError: the frame is broken, or holds more than `CONTENTS_MAX_BYTES`.
    """
    claimed = announced.plain
    if announced.contents:
        try:
            framed = _contents.decode(decompress(announced.contents, CONTENTS_MAX_BYTES))
        except _BROKEN as error:
            raise FormatError(f"these are not an announcement's contents: {error}") from None
        claimed = claimed | framed
    verified = Contents((d, content) for d, content in claimed.items() if digest_of(content) == d)
    verified.refused = tuple(digest for digest in claimed if digest not in verified)
    return verified


def encode(message: Announcement | NodeReport) -> bytes:
    """The message as it travels."""
    return _encoder.encode(message)


def decode_announcement(data: bytes) -> Announcement:
    """Read what a publisher sent.

    Raises:
        FormatError: it is no announcement of the format that this version reads.
    """
    try:
        message: Announcement = _announcements.decode(data)
    except _BROKEN as error:
        raise _format_error(data, EVENT_FORMAT, "an announcement", error) from None
    return message


def decode_report(data: bytes) -> NodeReport:
    """Read what a gateway sent.

    Raises:
        FormatError: it is no report of the format that this version reads.
    """
    try:
        report = _reports.decode(data)
    except _BROKEN as error:
        raise _format_error(data, REPORT_FORMAT, "a report", error) from None
    try:
        check_node_id(report.node)
        for label in report.labels:
            check_label(label.label)
    except Problem as problem:
        raise FormatError(f"this is not a report: {problem}") from None
    return report


def _format_error(data: bytes, known: str, what: str, error: Exception) -> FormatError:
    """Why it did not decode: its format, if it names another one, else what is broken."""
    try:
        found = _any_format.decode(data).format
    except _BROKEN:
        return FormatError(f"this is not {what}: {error}")
    if found != known:
        return FormatError(f"format {found!r} is unknown; this version reads {known!r}")
    return FormatError(f"this is not {what}: {error}")
