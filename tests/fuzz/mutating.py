"""Bytes that are nearly what a decoder wants: seeds, changed at random."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gatesync.artifacts.compression import compress, decompress
from gatesync.artifacts.errors import FormatError

__all__ = ["mutated"]

Change = Callable[[random.Random, bytes], bytes]

LARGEST: Final = 16 * 1024 * 1024
TOKENS: Final = (
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<a>", b"</a>"),
    *(b"<?xml version='1.0' encoding='UTF-7'?>", b"&#x0;", b"&b;", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(
        b"\x00",
        b"\xed\xa0\x80",
        b"\\ud800",
        b'"',
        b"{",
        b"[",
        b"]",
        b"}",
        b"null",
        b"1e999",
        b"NaN",
    ),
    *(
        b"9" * 400,
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
    ),
    *(b"\xc6\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd", b"../", b"\r\n", b"'''", b"[[parts]]\n"),
)
VALUES: Final = (
    *(None, True, 0, -1, 2**53, 2**63, 2**64 - 1, 0.5, 1e308, [], {}, [[]], {"": None}),
    *("", "x", "\0", "..", "a/b", "é" * 300, "x" * 70_000, "gatesync.artifact/9"),
)


def mutated(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after a few changes, most of them small."""
    data = chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        if chance.random() < 0.4:
            data = _structured(chance, data)
        else:
            data = chance.choice(_CHANGES)(chance, data)
    return data[:LARGEST]


def _structured(chance: random.Random, data: bytes) -> bytes:
    """Change a value within the document, whichever of the forms it is in."""
    for read, write in _FORMS:
        try:
            whole = read(data)
            if isinstance(whole, dict | list) and whole:
                return write(_value_changed(chance, whole, 0))
        except (ValueError, RecursionError, TypeError, OverflowError, FormatError, MemoryError):
            continue
    return chance.choice(_CHANGES)(chance, data)


def _value_changed(chance: random.Random, value: Any, depth: int) -> Any:
    if depth == 6 or not value or not isinstance(value, dict | list) or chance.random() < 0.1:
        return _another(chance, value)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value + value[at : at + 1] * chance.choice(
                (1, 1, 1, 100, 5_000 if chance.random() < 0.2 else 2)
            )
        return [*value[:at], _value_changed(chance, value[at], depth + 1), *value[at + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.1:
        return {each: inner for each, inner in value.items() if each != key}
    return value | {key: _value_changed(chance, value[key], depth + 1)}


def _another(chance: random.Random, value: Any) -> Any:
    if isinstance(value, str) and chance.random() < 0.7:
        changed = chance.choice(_CHANGES)(chance, value.encode("utf-8", "replace"))
        return changed[:2_000_000].decode("utf-8", "replace")
    if isinstance(value, bytes) and chance.random() < 0.9:
        return mutated(chance, [value])
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2**31, 2**62))
    if chance.random() < 0.05:
        return _nested(chance.choice((50, 500, 900)))
    return chance.choice(VALUES)


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(chance.choice((1, 1, 3, 20))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(chance: random.Random, data: bytes) -> bytes:
    first, last = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    many = chance.choice((1, 1, 1, 1, 1, 50, 300, 20_000 if chance.random() < 0.1 else 2))
    return data[:at] + chance.choice(TOKENS) * many + data[at:]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    first, last = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    room = LARGEST // max(1, last - first)
    large = chance.random() < 0.02
    many = min(room, chance.choice((2, 2, 3, 10, 300 if len(data) < 10_000 or large else 2)))
    many = room if large and chance.random() < 0.2 else many
    return data[:first] + data[first:last] * many + data[last:]


def _read_frame(data: bytes) -> Any:
    return msgspec.msgpack.decode(decompress(data, LARGEST))


_CHANGES: Final[tuple[Change, ...]] = (_flip, _flip, _cut, _insert, _insert, _repeat)
_FORMS: Final[tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...]] = (
    (json.loads, lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    (_read_frame, lambda value: compress(msgspec.msgpack.encode(value))),
    (msgspec.msgpack.decode, msgspec.msgpack.encode),
)
