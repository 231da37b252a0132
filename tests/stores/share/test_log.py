"""The values that a share's log consists of."""

import hashlib

import pytest

from gatesync.artifacts.errors import FormatError
from gatesync.stores.share_log import (
    Compacted,
    Pack,
    ShareManifest,
    chained,
    decode_manifest,
    encode_manifest,
    encode_step,
    foldable,
    packed,
    place_of,
    read_step,
    unpacked,
)

pytestmark = pytest.mark.fast

MANIFEST = ShareManifest(
    epoch="e", lease=3, revision=12, next_lease=4, holder="h", packs=(Pack("d", 2, 10, "c"),)
)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert decode_manifest(encode_manifest(MANIFEST), "manifest.3.12") == MANIFEST
    assert (MANIFEST.name, MANIFEST.next_name) == ("manifest.3.12", "manifest.4.13")


def test_no_manifest_that_lost_or_changed_a_byte_is_read() -> None:
    content = encode_manifest(MANIFEST)
    for at in range(len(content)):
        for other in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]):
            with pytest.raises(FormatError):
                decode_manifest(other, MANIFEST.name)


def test_an_unknown_format_is_refused_by_name() -> None:
    body = b'{"format": "gatesync.share/9"}'
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    with pytest.raises(FormatError, match=r"has format 'gatesync\.share/9'"):
        decode_manifest(content, "manifest.1.0")


@pytest.mark.parametrize(
    "name",
    ["manifest.1", "manifest.1.2.3", "manifest.01.2", "manifest.1.-2", "manifest.1.2~", "m.1.2"],
)
def test_only_manifests_are_called_so(name: str) -> None:
    assert place_of(name) is None
    assert place_of("manifest.1.20") == (1, 20)


def test_steps_are_hashed_as_they_were_written() -> None:
    """A later version that writes more fields leaves what is there as it is."""
    own = encode_step(Compacted("Shop", 7))
    later = own.replace(b"{", b'{"more": 1, ', 1)
    assert read_step(later) == read_step(own) == Compacted("Shop", 7)
    assert unpacked(packed([own, later])) == [own, later]
    assert chained("0", [own, later]) == chained(chained("0", [own]), [later])
    assert chained("0", [later]) != chained("0", [own])


@pytest.mark.parametrize("broken", [b"", b"no zstd", packed([b"1"])[:-3], packed([b"{"])])
def test_what_is_no_pack_is_refused(broken: bytes) -> None:
    with pytest.raises(FormatError):
        unpacked(broken)


@pytest.mark.parametrize("sizes", [[200], [200, 50_000], [900_000, *[150] * 99], [3_000_000, 10]])
def test_a_long_log_is_in_few_packs_and_little_is_written_twice(sizes: list[int]) -> None:
    packs: list[Pack] = []
    written = brought = most = 0
    for number in range(20_000):
        size = sizes[number % len(sizes)]
        brought += size
        packs.append(Pack("", 1, size, ""))
        if count := foldable(packs):
            folded = sum(each.size for each in packs[-count:])
            written += folded
            packs[-count:] = [Pack("", 1, folded, "")]
        else:
            written += size
        most = max(most, len(packs) - brought // 2_000_000)
    assert most < 100
    assert written < 12 * brought
