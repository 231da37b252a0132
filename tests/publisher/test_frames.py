"""Frames of packed contents, kept for gateways that ask for the same."""

import pytest

from gatesync.publisher import http
from gatesync.publisher.http import _Frames

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _room_for_1000_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FRAMES_BYTES", 1_000)


def test_those_asked_for_longest_ago_make_room() -> None:
    frames = _Frames()
    frames.put(("a",), b"a" * 400)
    frames.put(("b",), b"b" * 400)
    assert frames.get(("a",)) == b"a" * 400
    frames.put(("c",), b"c" * 400)
    assert frames.get(("b",)) is None
    assert frames.get(("a",)) is not None
    assert frames.get(("c",)) is not None


def test_gateways_that_ask_for_the_same_at_once_take_its_room_once() -> None:
    frames = _Frames()
    for _ in range(10):  # each found nothing, and made it
        frames.put(("a",), b"a" * 400)
    frames.put(("b",), b"b" * 400)
    assert frames.get(("a",)) is not None
    assert frames.get(("b",)) is not None


def test_one_larger_than_the_room_is_not_kept_and_does_no_harm() -> None:
    frames = _Frames()
    frames.put(("a",), b"a" * 1_001)
    assert frames.get(("a",)) is None
    frames.put(("b",), b"b" * 1_000)
    assert frames.get(("b",)) is not None
