"""zstd with a cap on what comes out, and on what is taken for it, before it is allocated."""

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from gatesync.artifacts.errors import FormatError

__all__ = ["compress", "decompress"]

WINDOW_LOG_LEAST: Final = 23  # 8 MiB: what any zstd reads without being told to
WINDOW_LOG_MOST: Final = 27


def compress(data: bytes) -> bytes:
    """One zstd frame."""
    return zstd.compress(data, level=3)


def decompress(frame: bytes, limit: int) -> bytes:
    """What one zstd frame holds.

    A frame of 20 bytes may ask for a window of 128 MiB: none is larger than `limit` needs, or
    8 MiB where that is more.

    Raises:
        FormatError: it is not one whole frame, or would hold more than `limit` bytes.
    """
    window = min(max((limit - 1).bit_length(), WINDOW_LOG_LEAST), WINDOW_LOG_MOST)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window}
    decompressor = zstd.ZstdDecompressor(options=options)
    try:
        data = decompressor.decompress(frame, max_length=limit + 1)
    except zstd.ZstdError as error:
        raise FormatError(f"this is not zstd data: {error}") from None
    if len(data) > limit:
        raise FormatError(f"decompresses to more than {limit} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise FormatError("the zstd frame is cut short, or something follows it")
    return data
