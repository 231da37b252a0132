"""One artifact becomes what Envoy is told of it, or everything that stands against it.

A pure function: the same artifact among the same others makes the same resources.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.synapse import root_of
from gatesync.engines.envoy.apis import Api
from gatesync.engines.envoy.faults import Fault, Refusal
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.sources import Need, Shared, Sources

__all__ = ["PASSIVE_KINDS", "REFUSED_KINDS", "Served", "Translated", "translate"]

PASSIVE_KINDS: Final = frozenset(
    {"sequence", "endpoint", "local-entry", "template", "policy", "import", "message-store"}
)
"""Kinds of which Envoy is told nothing by themselves: APIs use them."""

REFUSED_KINDS: Final = {
    "proxy-service": "an API with a resource for it",
    "inbound-endpoint": "an API; Envoy listens for HTTP only",
    "message-processor": "an upstream that works through the queue",
    "task": "a scheduler that calls an API",
}
"""Kinds that need a mediation engine, each with what would work instead."""


class Served(msgspec.Struct, frozen=True):
    """The routes of one `<api>`, in the order in which they match.

    `scope` is the first step of `context`, both as requests have them; of the contexts within a
    scope longer ones are tried first.
    """

    scope: str
    context: str
    routes: tuple[Message, ...]


class Translated(msgspec.Struct, frozen=True):
    """What Envoy is told of an artifact.

    `apis` are an API's own and, where it has one, that of its default version; there are none
    where it is no API. `clusters` are by name.
    """

    apis: tuple[Served, ...] = ()
    clusters: Mapping[str, Message] = {}


def translate(
    artifact: Artifact, shared: Shared, options: Options
) -> tuple[Translated | Refusal, frozenset[Need]]:
    """What Envoy is told of an artifact, or why it cannot be served; and what it refers to.

    Args:
        artifact: any that gatesync stores; of whatever else it is asked, it says no.
        shared: what the other artifacts of the same node and tenant have.
        options: the gateway's.
    """
    kind = artifact.identity.kind
    if kind in REFUSED_KINDS:
        fault = Fault(
            artifact.parts[0].path if artifact.parts else "",
            0,
            kind,
            "",
            f"Envoy runs no {kind}",
            REFUSED_KINDS[kind],
        )
        return Refusal((fault,)), frozenset()
    if kind in PASSIVE_KINDS:
        return Translated(), frozenset()
    sources = Sources(artifact.parts, shared)
    served: list[Served] = []
    clusters: dict[str, Message] = {}
    faults: set[Fault] = set()
    for part in artifact.parts:  # an API, or one and its default version
        if part.role != "api":
            continue
        try:
            root = sources.parsed(part)
            uuid = root_of(root, part.path).uuid
        except Problem as problem:
            reason, instead = problem.reason, "well-formed XML"
            faults.add(Fault(part.path, problem.line, "api", "", reason, instead))
            continue
        api = Api(root, uuid, artifact.identity.tenant, sources, options)
        served.append(Served(api.context.split("/")[1], api.context, tuple(api.routes())))
        clusters |= api.clusters
        faults.update(api.faults)
    needs = frozenset(sources.needs)
    return (
        Refusal(tuple(sorted(faults))) if faults else Translated(tuple(served), clusters)
    ), needs
