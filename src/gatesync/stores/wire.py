"""How a publisher answers a gateway's questions over HTTP.

JSON documents with a `format`; contents travel as one zstd frame of a msgpack map from digest
to canonical bytes. Unknown members are ignored, an unknown format is refused by name.

    GET  /v1/heads?label=L&label=M            HeadsAnswer
    GET  /v1/changes?label=L&epoch=E&since=N  DeltaAnswer
    GET  /v1/manifest?label=L&...             ManifestAnswer
    GET  /v1/digest?label=L&epoch=E&revision=N  DigestAnswer
    GET  /v1/attestations?label=L&after=N&limit=M  AttestationsAnswer
    GET  /v1/frames/DIGESTS                   a zstd frame, immutable; see `frame_path`
    GET  /v1/contents/DIGEST                  the canonical form, immutable
    GET  /v1/access                           204: this token may read X-Original-URI; for caches
    POST /v1/reports, a report                ReportAnswer
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gatesync.artifacts.changes import Head
from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.digests import LabelDigest, digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.store import Delta, ManifestPage

__all__ = [
    "BATCH_BYTES",
    "BATCH_DIGESTS",
    "CONTENTS_TYPE",
    "WIRE_FORMAT",
    "AttestationsAnswer",
    "DeltaAnswer",
    "DigestAnswer",
    "HeadsAnswer",
    "ManifestAnswer",
    "ProblemAnswer",
    "ReportAnswer",
    "digests_in",
    "frame_path",
    "pack_contents",
    "unpack_contents",
]

WIRE_FORMAT: Final = "gatesync.http/1"
CONTENTS_TYPE: Final = "application/vnd.gatesync.contents"
BATCH_DIGESTS: Final = 180  # their URL has 7.7 kB; many servers take request lines of up to 8 kB
BATCH_BYTES: Final = 32 * 1024 * 1024  # of contents in one answer, where it is more than one

_contents = msgspec.msgpack.Decoder(dict[str, bytes])


class HeadsAnswer(msgspec.Struct, frozen=True):
    """The heads asked for."""

    heads: tuple[Head, ...]
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class DeltaAnswer(msgspec.Struct, frozen=True):
    """See `Delta`."""

    delta: Delta
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ManifestAnswer(msgspec.Struct, frozen=True):
    """See `ManifestPage`; `weak_history` says how strong a proof of removal it is."""

    page: ManifestPage
    weak_history: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class DigestAnswer(msgspec.Struct, frozen=True):
    """See `Retriever.digest_at`."""

    digest: LabelDigest | None
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class AttestationsAnswer(msgspec.Struct, frozen=True):
    """See `Retriever.attestations`."""

    attestations: tuple[Attestation, ...]
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ProblemAnswer(msgspec.Struct, frozen=True):
    """Every answer that says no. `code` is for programs, `reasons` are for people.

    `head` comes with the code `behind`.
    """

    code: str
    reasons: tuple[str, ...]
    head: Head | None = None
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ReportAnswer(msgspec.Struct, frozen=True):
    """A report was taken. `verification` asks its node for an inventory under that id."""

    verification: str = ""
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


def frame_path(digests: Sequence[str]) -> str:
    """The path of the frame with these contents: the same for all who want the same.

    That is `/v1/frames/` and the digests' 32 bytes each, one behind the other, as base64url
    without padding. The answer never changes where it is complete, so any cache may keep it.
    What is not there is left out, and what is together more than `BATCH_BYTES` is refused with
    the code `too-much`.
    """
    named = b"".join(bytes.fromhex(each) for each in digests)
    return "/v1/frames/" + base64.urlsafe_b64encode(named).decode().rstrip("=")


def digests_in(name: str) -> tuple[str, ...]:
    """The digests that a frame's path ends with. Raises `FormatError` where it names none."""
    try:
        named = base64.b64decode(name + "=" * (-len(name) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        named = b""
    if not named or len(named) % 32 or len(named) > 32 * BATCH_DIGESTS:
        raise FormatError(
            f"this names no frame: 1 to {BATCH_DIGESTS} digests of 32 bytes, in base64url"
        )
    digits = named.hex()
    return tuple([digits[at : at + 64] for at in range(0, len(digits), 64)])


def pack_contents(contents: dict[str, bytes]) -> bytes:
    """Put contents into one frame."""
    return compress(msgspec.msgpack.encode(contents))


def unpack_contents(frame: bytes, limit: int) -> dict[str, bytes]:
    """Take contents out of a frame, verified.

    What does not match its digest is left out, as if it had not come (promise 8). Raises
    `FormatError` for anything that is not a frame of contents of at most `limit` bytes.
    """
    try:
        found = _contents.decode(decompress(frame, limit))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"these are not contents: {error}") from None
    return {digest: content for digest, content in found.items() if digest_of(content) == digest}
