"""What Envoy is told: xDS resources by type and name, and what becomes of them in one change."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

__all__ = [
    "CLUSTER",
    "LISTENER",
    "NOTHING",
    "SCOPE",
    "TYPE_URLS",
    "Applied",
    "Message",
    "Resources",
]

_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
LISTENER: Final = f"{_PREFIX}envoy.config.listener.v3.Listener"
SCOPE: Final = f"{_PREFIX}envoy.config.route.v3.ScopedRouteConfiguration"
TYPE_URLS: Final = (CLUSTER, LISTENER, SCOPE)
"""In the order in which what is new must be sent, and the reverse of it for what goes away."""

Message = Any  # a protobuf message; the generated classes have no types

_EMPTY: Final[Mapping[str, Message]] = MappingProxyType({})


class Resources(msgspec.Struct, frozen=True):
    """Messages by type URL and name. Neither the mappings nor the messages are ever changed."""

    by_type: Mapping[str, Mapping[str, Message]] = {}

    def of(self, type_url: str) -> Mapping[str, Message]:
        """Those of one type, by name."""
        return self.by_type.get(type_url, _EMPTY)

    def __iter__(self) -> Iterator[tuple[str, str, Message]]:
        """Each as (type URL, name, message), in the order in which they must be sent."""
        for type_url in TYPE_URLS:
            for name, message in self.of(type_url).items():
                yield type_url, name, message

    def __len__(self) -> int:
        return sum(map(len, self.by_type.values()))


class Applied(msgspec.Struct, frozen=True):
    """What a change of the node's artifacts makes of its resources.

    `refused` says why, by api_id, of each artifact that Envoy cannot serve; what was served under
    that id before goes on being served. `changed` are the resources to send, new or with new
    contents; `removed` the names that are gone, by type. `owners` says of each changed resource
    (type URL, name) whose it is, by api_id, for when Envoy rejects it.
    """

    refused: Mapping[str, str]
    changed: Resources
    removed: Mapping[str, frozenset[str]]
    owners: Mapping[tuple[str, str], frozenset[str]]


NOTHING: Final = Resources()
