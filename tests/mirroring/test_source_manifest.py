from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.errors import FormatError
from gatesync.mirroring.source_manifest import (
    SourceFile,
    SourceManifest,
    next_manifest,
    read_source_manifest,
    write_source_manifest,
)

pytestmark = pytest.mark.fast

A = SourceFile("a.xml", 3, "a" * 64, 0o644)
B = SourceFile("b/b.xml", 0, "b" * 64, 0o600)


def after(before: SourceManifest | None, *files: SourceFile) -> SourceManifest:
    return next_manifest(before, files, new_epoch=lambda: "an epoch")


def test_the_revision_rises_with_each_change_and_stays_without() -> None:
    first = after(None, B, A)
    assert (first.epoch, first.revision, first.files) == ("an epoch", 1, (A, B))
    assert after(first, A, B) is first
    second = after(first, A)
    assert (second.epoch, second.revision, second.files) == ("an epoch", 2, (A,))
    again = after(second, A, B)
    assert (again.revision, again.digest) == (3, first.digest)


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(A, size=4),
        msgspec.structs.replace(A, sha256="c" * 64),
        msgspec.structs.replace(A, mode=0o755),
        msgspec.structs.replace(A, path="c.xml"),
    ],
)
def test_everything_that_is_said_of_a_file_is_in_the_digest(other: SourceFile) -> None:
    assert after(None, A).digest != after(None, other).digest


def test_what_is_withheld_makes_no_revision() -> None:
    first = after(None, A, B)
    other = next_manifest(first, [A, B], ["b/b.xml"], new_epoch=str)
    assert (other.revision, other.digest, other.withheld) == (1, first.digest, ("b/b.xml",))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    assert read_source_manifest(path) is None
    manifest = after(None, A, B)
    write_source_manifest(path, manifest)
    assert read_source_manifest(path) == manifest
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]


WHOLE = after(None, A, B).to_json()


@given(st.integers(0, len(WHOLE) - 1))
def test_a_manifest_that_was_cut_is_never_taken_for_a_whole_one(cut: int) -> None:
    with pytest.raises(FormatError):
        SourceManifest.of_json(WHOLE[:cut])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"gatesync.source/1", b"gatesync.source/9", "format 'gatesync.source/9' is unknown"),
        (b"aaaaaaaa", b"aaaaaaab", "digest does not fit"),
        (b'"size":3', b'"size":-3', "not a manifest"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_name(
    old: bytes, new: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(after(None, A, B).to_json().replace(old, new, 1))
    with pytest.raises(FormatError, match=said) as caught:
        read_source_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a//b", "a\nb", "a/../../b"])
def test_a_manifest_whose_paths_lead_out_is_refused(path: str) -> None:
    manifest = after(None, msgspec.structs.replace(A, path=path))
    with pytest.raises(FormatError, match="manifest of a source tree"):
        SourceManifest.of_json(manifest.to_json())


def test_a_manifest_that_names_a_file_twice_is_refused() -> None:
    with pytest.raises(FormatError, match=r"out of order at 'a\.xml'"):
        SourceManifest.of_json(after(None, A, A).to_json())
