"""How a publisher answers a gateway's questions over HTTP.

JSON documents with a `format`; contents travel as one zstd frame of a msgpack map from digest
to canonical bytes. Unknown members are ignored, an unknown format is refused by name.

    GET  /v1/heads?label=L&label=M            HeadsAnswer
    GET  /v1/changes?label=L&epoch=E&since=N  DeltaAnswer
    GET  /v1/manifest?label=L&...             ManifestAnswer
    GET  /v1/digest?label=L&epoch=E&revision=N  DigestAnswer
    POST /v1/contents {"digests": [...]}      a zstd frame
    GET  /v1/contents/DIGEST                  the canonical form, immutable
    POST /v1/reports, a report                ReportAnswer
"""

from typing import Final, Literal

import msgspec

from gatesync.artifacts.changes import Head
from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.digests import LabelDigest, digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.stores.store import Delta, ManifestPage

__all__ = [
    "BATCH_BYTES",
    "BATCH_DIGESTS",
    "CONTENTS_TYPE",
    "WIRE_FORMAT",
    "ContentsRequest",
    "DeltaAnswer",
    "DigestAnswer",
    "HeadsAnswer",
    "ManifestAnswer",
    "ProblemAnswer",
    "ReportAnswer",
    "pack_contents",
    "unpack_contents",
]

WIRE_FORMAT: Final = "gatesync.http/1"
CONTENTS_TYPE: Final = "application/vnd.gatesync.contents"
BATCH_DIGESTS: Final = (
    256  # measured: frames of 256 artifacts of 4 kB keep cold starts at the limit
)
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
    """See `ManifestPage`."""

    page: ManifestPage
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class DigestAnswer(msgspec.Struct, frozen=True):
    """See `Retriever.digest_at`."""

    digest: LabelDigest | None
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ContentsRequest(msgspec.Struct, frozen=True):
    """Which contents to send: at most `BATCH_DIGESTS`, and `BATCH_BYTES` together.

    More bytes are refused with the code `too-much`.
    """

    digests: tuple[str, ...]
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
    except msgspec.DecodeError as error:
        raise FormatError(f"these are not contents: {error}") from None
    return {digest: content for digest, content in found.items() if digest_of(content) == digest}
