"""zstd with a cap on what comes out, checked before it is allocated."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from gatesync.artifacts.errors import FormatError

__all__ = ["compress", "decompress"]


def compress(data: bytes) -> bytes:
    """One zstd frame."""
    return zstd.compress(data, level=3)


def decompress(frame: bytes, limit: int) -> bytes:
    """What one zstd frame holds.

    Raises:
        FormatError: it is not one whole frame, or would hold more than `limit` bytes.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        data = decompressor.decompress(frame, max_length=limit + 1)
    except zstd.ZstdError as error:
        raise FormatError(f"this is not zstd data: {error}") from None
    if len(data) > limit:
        raise FormatError(f"decompresses to more than {limit} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise FormatError("the zstd frame is cut short, or something follows it")
    return data
