"""Which resources Envoy should have, and what it must be told for that. Pure.

A resource's version is a digest of its content. Envoy repeats the versions when it connects again,
so that nothing is sent twice, neither after a restart of Envoy nor after one of this process.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

import msgspec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration

from gatesync.engines.envoy.resources import Message

__all__ = [
    "UNKNOWN",
    "Change",
    "Resource",
    "difference",
    "named_anew",
    "resource_of",
    "route_table_name",
    "version_of",
]


UNKNOWN: Final = "?"  # the version of what Envoy may have, or not: no digest looks like this
_DIGITS: Final = 24  # 96 bits: nobody attacks it, the content is ours


class Resource(msgspec.Struct, frozen=True, gc=False):
    """One resource, serialized. `waits` is set where Envoy resolves names before it is used."""

    version: str
    content: bytes
    waits: bool = False


class Change(msgspec.Struct, frozen=True):
    """What to tell Envoy about one type of resources."""

    put: Mapping[str, Resource]
    removed: tuple[str, ...] = ()


def resource_of(message: Message) -> Resource:
    """A message as a resource. What `named_anew` changes does not count for its version."""
    waits = False
    if isinstance(message, ScopedRouteConfiguration):
        plain = ScopedRouteConfiguration()
        plain.CopyFrom(message)
        plain.route_configuration.name = ""
        message = plain
    elif isinstance(message, Cluster):
        waits = message.type in (Cluster.STRICT_DNS, Cluster.LOGICAL_DNS)
    content = message.SerializeToString(deterministic=True)
    return Resource(sha256(content).hexdigest()[:_DIGITS], content, waits)


def version_of(resource: Resource | None) -> str | None:
    """Its version; None for no resource."""
    return None if resource is None else resource.version


def difference(
    wanted: Mapping[str, Resource],
    held: Mapping[str, str],
    names: Iterable[str],
    *,
    first: bool = False,
) -> Change | None:
    """What turns the versions that Envoy holds into the wanted ones; None for nothing to say.

    Args:
        wanted: resources by name.
        held: versions by name.
        names: which of them to compare.
        first: Envoy waits for an answer, though it be empty.
    """
    put, removed = {}, []
    for name in names:
        resource = wanted.get(name)
        if version_of(resource) == held.get(name):
            continue
        if resource is None:
            removed.append(name)
        else:
            put[name] = resource
    return Change(put, tuple(removed)) if put or removed or first else None


def route_table_name(scope: str, version: str, push: str) -> str:
    """The name of a scope's routes, which tells what they hold, in which push they were sent."""
    return f"{scope}@{version}.{push}"


def named_anew(name: str, resource: Resource, push: str) -> bytes:
    """A scope as it is sent: its routes have a name of this push alone.

    After a rejected response Envoy keeps scopes of it that it does not serve, and takes the same
    content, sent again, for old news. Under another name it does not.
    """
    scope = ScopedRouteConfiguration.FromString(resource.content)
    scope.route_configuration.name = route_table_name(name, resource.version, push)
    content: bytes = scope.SerializeToString(deterministic=True)
    return content
