import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.errors import FormatError

pytestmark = pytest.mark.fast

MIB = 1024 * 1024
_MAGIC = b"\x28\xb5\x2f\xfd"


def _bomb(size: int) -> bytes:
    """A frame of blocks that each say: repeat one byte 131,072 times."""
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return _MAGIC + b"\x00\x58" + block * (size // (128 * 1024)) + last


@given(st.binary(max_size=10_000))
def test_what_is_compressed_comes_back(data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data


@given(st.binary(min_size=1, max_size=1_000))
def test_one_byte_more_than_the_limit_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match=f"more than {len(data) - 1} bytes"):
        decompress(compress(data), len(data) - 1)


def test_the_bomb_of_these_tests_is_a_frame() -> None:
    assert decompress(_bomb(MIB), MIB) == bytes(MIB)


def test_a_frame_of_gigabytes_is_refused_without_making_room_for_them() -> None:
    bomb = _bomb(64 * 1024 * MIB)
    assert len(bomb) < 3 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="more than 15728640 bytes"):
            decompress(bomb, 15 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * MIB


def test_a_frame_that_announces_gigabytes_is_refused() -> None:
    window_of_4_gib = b"\x00" + bytes([(32 - 10) << 3])
    with pytest.raises(FormatError):
        decompress(_MAGIC + window_of_4_gib + b"\x01\x00\x00", 15 * MIB)
    size_of_2_to_60 = b"\xe0" + (1 << 60).to_bytes(8, "little")
    with pytest.raises(FormatError):
        decompress(_MAGIC + size_of_2_to_60 + b"\x01\x00\x00", 15 * MIB)


@pytest.mark.parametrize("frame", [b"", b"{}", b"\x1f\x8b\x08", _MAGIC])
def test_what_is_no_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(FormatError):
        decompress(frame, MIB)


def test_a_frame_cut_short_anywhere_is_refused() -> None:
    frame = compress(bytes(range(256)) * 10)
    for end in range(len(frame)):
        with pytest.raises(FormatError):
            decompress(frame[:end], MIB)


def test_what_follows_a_frame_is_refused() -> None:
    for tail in (b"x", compress(b"more")):
        with pytest.raises(FormatError, match="something follows it"):
            decompress(compress(b"data") + tail, MIB)


@pytest.mark.parametrize("limit", [1024, 15 * MIB, 16 * MIB])
def test_a_frame_that_asks_for_a_window_beyond_its_limit_is_refused(limit: int) -> None:
    window = _MAGIC + b"\x00" + bytes([(27 - 10) << 3])  # 128 MiB, for three bytes
    frame = window + (3 << 3 | 1).to_bytes(3, "little") + b"abc"
    with pytest.raises(FormatError, match="zstd data"):
        decompress(frame, limit)
    assert decompress(frame, 128 * MIB) == b"abc"


def test_what_other_programs_compress_with_a_usual_window_is_read() -> None:
    window = _MAGIC + b"\x00" + bytes([(23 - 10) << 3])  # zstd -19
    frame = window + (3 << 3 | 1).to_bytes(3, "little") + b"abc"
    assert decompress(frame, 3) == b"abc"
