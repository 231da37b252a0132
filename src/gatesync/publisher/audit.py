"""The audit log: who changed what, from where, and what came of it; each line seals the one before.

    {"format": "gatesync.audit/1", "sequence": 7, "previous": SHA-256 of line 6, "sum": ..., ...}

One JSON document a line, its members sorted. `sum` is the SHA-256 of the line with an empty `sum`,
so that an edit of the last line is found as well. This module is pure; `audit_file` has the file,
`audit_log` the publisher's side of it, and docs/audit.md says what the chain proves.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

__all__ = [
    "CONTINUED",
    "MENDED",
    "NOWHERE",
    "AuditHead",
    "Entry",
    "Event",
    "Found",
    "Revisions",
    "Touched",
    "Who",
    "decode_line",
    "encode_line",
    "fits",
    "hash_of",
    "parse_head",
    "verify",
]

CONTINUED: Final = "log continued"  # the first entry of each file but the first
MENDED: Final = "log mended"  # what stands before it is no whole line: its writer was killed
_SUM: Final = re.compile(rb'"sum":"[0-9a-f]{64}"')
_TOKEN: Final = re.compile(rb"(gs_[0-9a-f]{12}_)[A-Za-z0-9_-]{20,}")  # also one in a URL


class AuditHead(msgspec.Struct, frozen=True):
    """The last line that there is: its number, and the SHA-256 of its bytes."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        """As people keep it, and give it to `--head`."""
        return f"{self.sequence}:{self.hash}"


NOWHERE: Final = AuditHead(0, "")


class Who(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose token it was, or whose account on the publisher's machine; empty for a stranger."""

    id: str = ""
    role: str = ""
    token: str = ""
    """The token's id, never its text."""
    user: str = ""


class Touched(msgspec.Struct, frozen=True, omit_defaults=True):
    """One artifact of a change. Of what was refused, only what the client called it."""

    what: str
    api_id: str = ""
    tenant: str = ""
    kind: str = ""
    name: str = ""
    version: str = ""
    digest: str = ""


class Revisions(msgspec.Struct, frozen=True):
    """What a change became in one label: `count` revisions from `first` to `last`."""

    label: str
    epoch: str
    first: int
    last: int
    count: int


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened. `time` is milliseconds since 1970 by the writer's clock.

    `address` is who the connection came from, `sender` what the client says of itself. Of many
    artifacts, `artifacts` has the first and `count` how many there were.
    """

    time: int
    who: Who = Who()
    address: str = ""
    sender: str = ""
    verb: str
    labels: tuple[str, ...] = ()
    artifacts: tuple[Touched, ...] = ()
    count: int = 0
    detail: str = ""
    key: str = ""
    outcome: str
    reasons: tuple[str, ...] = ()
    revisions: tuple[Revisions, ...] = ()


class Entry(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A line. `after` stands in a `MENDED` entry: the hash of the last line that is whole."""

    format: Literal["gatesync.audit/1"]
    sequence: int
    previous: str
    after: str = ""
    sum: str


class Found(msgspec.Struct):
    """What `verify` found. `fault` names the first line that does not fit; empty if all do."""

    fault: str = ""
    entries: int = 0
    first: int = 0
    head: AuditHead = NOWHERE
    mended: tuple[str, ...] = ()


def encode_line(event: Event, head: AuditHead, *, previous: str = "", after: str = "") -> bytes:
    """The line that follows `head`, without its line break. Texts of tokens are masked."""
    entry = Entry(
        format="gatesync.audit/1",
        sequence=head.sequence + 1,
        previous=previous or head.hash,
        after=after,
        sum="",
        **msgspec.structs.asdict(event),
    )
    line = _TOKEN.sub(rb"\1***", msgspec.json.encode(entry, order="sorted"))
    return line.replace(b'"sum":""', b'"sum":"%s"' % hash_of(line).encode())


def decode_line(line: bytes) -> Entry | None:
    """The entry, or None where the line is not what was once written."""
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    blank, found = _SUM.subn(b'"sum":""', line)
    return entry if found == 1 and hash_of(blank) == entry.sum else None


def hash_of(line: bytes) -> str:
    """The SHA-256 that the next line repeats."""
    return hashlib.sha256(line).hexdigest()


def parse_head(text: str) -> AuditHead:
    """Read `SEQUENCE:HASH`; raises `ValueError` for anything else."""
    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise ValueError(f"{text!r} is no head; one is SEQUENCE:HASH, as --verify prints it")
    return AuditHead(int(match[1]), match[2])


def verify(
    lines: Iterable[tuple[str, bytes]],
    known: Iterable[AuditHead] = (),
    each: Callable[[Entry], None] = lambda _: None,
) -> Found:
    """Check the chain, oldest line first.

    Args:
        lines: where each line stands, and its bytes; a whole one ends with a line break.
        known: heads of this log that were kept elsewhere; each must be in it.
        each: is given every entry that fits.
    """
    found = Found()
    wanted = {head.sequence: head for head in known if head.sequence}
    torn: list[bytes] = []
    torn_at = ""
    for place, raw in lines:
        line = raw.removesuffix(b"\n")
        entry = decode_line(line) if raw.endswith(b"\n") else None
        if entry is None:  # fits only if the next line says that it was found so
            torn_at = torn_at or place
            torn.append(line)
            continue
        if torn:
            if not _mends(entry, found.head, torn):
                found.fault = f"{torn_at}: this line was changed, or only a part of it was written"
                return found
            found.mended = (*found.mended, torn_at)
        elif fault := _misfit(entry, found.head):
            found.fault = f"{place}: {fault}"
            return found
        torn, torn_at = [], ""
        found.head = AuditHead(entry.sequence, hash_of(line))
        found.first = found.first or entry.sequence
        found.entries += 1
        expected = wanted.pop(entry.sequence, None)
        if expected is not None and expected != found.head:
            found.fault = f"{place}: is another entry {entry.sequence} than the one that was known"
            return found
        each(entry)
    if torn:
        found.fault = (
            f"{torn_at}: this line was changed, or its writer was killed in the middle of it; "
            "in the latter case the next entry says so"
        )
        return found
    missing = [head for head in wanted.values() if not 0 < head.sequence < found.first]
    if missing:
        last = max(head.sequence for head in missing)
        found.fault = f"ends at entry {found.head.sequence}, but there was an entry {last}"
    return found


def fits(entry: Event, since: int, who: str, name: str) -> bool:
    """Whether an entry is asked for. `since` is milliseconds; an empty text asks for all."""
    by = (entry.who.id, entry.who.token, entry.who.user, entry.address, entry.sender)
    of = {part for each in entry.artifacts for part in (each.name, each.api_id)}
    return (
        entry.time >= since
        and (not who or who in by)
        and (not name or name in of or name in entry.labels or name in entry.detail.split())
    )


def _misfit(entry: Entry, head: AuditHead) -> str:
    expected = head.sequence + 1
    if head == NOWHERE and entry.verb == CONTINUED:
        return ""  # the files before it are kept elsewhere: told as where the log begins
    if entry.sequence > expected:
        missing = f"entry {expected}" if entry.sequence == expected + 1 else f"{expected} and more"
        return f"is entry {entry.sequence}; {missing} before it, removed or in another file"
    if entry.sequence < expected:
        return f"is entry {entry.sequence} again, where entry {expected} belongs"
    if entry.previous != head.hash:
        return "does not follow the line before it: that one, or this one, was replaced"
    if entry.verb == MENDED and entry.after != head.hash:
        return "says that a line was mended which is not there"
    return ""


def _mends(entry: Entry, head: AuditHead, torn: list[bytes]) -> bool:
    return (
        entry.verb == MENDED
        and entry.sequence == head.sequence + 1
        and entry.after == head.hash
        and entry.previous == hash_of(b"\n".join(torn))
    )
