"""`extra`: JSON that gatesync does not understand, and must give back as it came.

It is RFC 8785 JSON, whose numbers are doubles: 64-bit integers belong into strings.
"""

import json
from decimal import Decimal
from typing import Any, Final

import msgspec

from gatesync.artifacts.errors import FormatError

__all__ = ["decode_extra", "encode_extra", "refuse_repeated_members"]

_MAX_SAFE_INTEGER: Final = 2**53 - 1  # beyond it a double cannot tell neighbours apart


def encode_extra(extra: dict[str, Any], *, what: str = "extra") -> bytes:
    """`extra` in canonical form. An empty one needs no further package.

    Messages call it `what`.

    Raises:
        FormatError: it holds what RFC 8785 cannot carry: numbers that are not finite, integers
            of 2^53 or more, strings of invalid Unicode, or levels without end.
    """
    if not extra:
        return b"{}"
    import rfc8785  # only publishers write `extra`; a gateway does without the package

    try:
        return rfc8785.dumps(extra)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise FormatError(f"{what} cannot be written as RFC 8785 JSON: {error}") from None
    except RecursionError:
        raise FormatError(f"{what} is nested too deep") from None


def decode_extra(data: bytes | str | msgspec.Raw, *, what: str = "extra") -> dict[str, Any]:
    """The object that this JSON is. Messages call it `what`.

    Raises:
        FormatError: it is not a JSON object, is nested too deep, or repeats a member.
    """
    try:
        extra = msgspec.json.decode(data, type=dict[str, Any])
        if not extra:
            return {}
        refuse_repeated_members(data if isinstance(data, str) else bytes(data))
        return {name: _as_written(value) for name, value in extra.items()}
    except (msgspec.DecodeError, UnicodeError) as error:
        raise FormatError(f"{what} is not a JSON object: {error}") from None
    except RecursionError:
        raise FormatError(f"{what} is nested too deep") from None


def refuse_repeated_members(document: bytes | str) -> None:
    """Raise `FormatError` where a JSON object names a member twice.

    Readers disagree on which of the two counts, so neither does.
    """

    def unique(pairs: list[tuple[str, Any]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) != len(pairs):
            names.clear()
            for name, _ in pairs:  # once through: an object may have a million members
                if name in names:
                    raise FormatError(f"JSON with two members {name!r} in one object")
                names.add(name)

    json.loads(document, object_pairs_hook=unique, parse_int=len)


def _as_written(value: Any) -> Any:
    """The canonical form writes 1e16 as 10000000000000000: make that the double again.

    An integer that no double stands for stays one, and `encode_extra` refuses it.
    """
    if isinstance(value, dict):
        return {name: _as_written(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_written(inner) for inner in value]
    if isinstance(value, int) and _MAX_SAFE_INTEGER < abs(value) < 10**21:
        double = float(value)
        if int(Decimal(repr(double))) == value:  # repr has the shortest digits, as RFC 8785 has
            return double
    return value
