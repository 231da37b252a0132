"""Production, sandbox or both: whether an API has an endpoint that this gateway is for.

WSO2's rule of naming says it: `Menu--v1.0.0_APIproductionEndpoint`, `..._APIsandboxEndpoint`. An
API that has neither, because its endpoint stands in its own XML or is shared, is served anywhere.
"""

import re
from typing import Final

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import Digest

__all__ = ["HYBRID", "EndpointRule", "endpoint_types"]

HYBRID: Final = "hybrid"
_TYPED: Final = re.compile(r"_API(production|sandbox)Endpoint(?:_[0-9]+)?\Z")


class _Part(msgspec.Struct):
    role: str
    name: str


class _Parts(msgspec.Struct):
    parts: tuple[_Part, ...]


_decoder: Final = msgspec.json.Decoder(_Parts)


def endpoint_types(content: bytes) -> frozenset[str]:
    """Which types of endpoint an API's canonical form has; raises `msgspec.DecodeError`."""
    names = (each.name for each in _decoder.decode(content).parts if each.role == "endpoint")
    return frozenset(found[1] for name in names if (found := _TYPED.search(name)))


class EndpointRule:
    """Says of each API whether it is skipped here, once its contents were at hand.

    What it said is kept by api_id, so that an API which is skipped is read once.

    Args:
        kind: what this gateway is for: hybrid, production or sandbox.
    """

    def __init__(self, kind: str = HYBRID) -> None:
        self._type = kind
        self._said: dict[str, tuple[Digest, str]] = {}

    def why_not(self, entry: Entry, content: bytes | None) -> str:
        """Why this entry is not to be served here; empty where it is, or is not known to be not.

        Args:
            entry: what it is.
            content: its canonical form, digest verified, or None where that is not here.
        """
        if self._type == HYBRID or entry.kind != "api":
            return ""
        digest, reason = self._said.get(entry.api_id, ("", ""))
        if digest == entry.digest:
            return reason
        if content is None:
            return ""
        reason = self._judge(content)
        self._said[entry.api_id] = entry.digest, reason
        return reason

    def forget(self, api_id: str) -> None:
        """No label has it any more."""
        self._said.pop(api_id, None)

    def _judge(self, content: bytes) -> str:
        try:
            types = endpoint_types(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""  # no artifact: that is for the engine to refuse, and to say
        if not types or self._type in types:
            return ""
        return f"it has no {self._type} endpoint, and this gateway is of type {self._type}"
