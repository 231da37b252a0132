"""publish --dry-run --engine envoy: what gateways with that engine would refuse, and why.

Imported only when that is asked for: it needs the extra `gatesync[envoy]`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.model import Artifact, Part
from gatesync.cli.reading import FoundArtifact
from gatesync.cli.remembering import fetch_content
from gatesync.engines.envoy.faults import Fault, Refusal
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.sources import Need, names_of
from gatesync.engines.envoy.translation import translate
from gatesync.publisher.answers import ArtifactsAnswer
from gatesync.web.client import HttpClient

__all__ = ["Refused", "check_with_envoy"]


class Refused(NamedTuple):
    """What no gateway with this engine serves; what depends on each one's settings."""

    everywhere: list[str]
    by_settings: list[str]


async def check_with_envoy(
    client: HttpClient, label: str, artifacts: Sequence[FoundArtifact]
) -> Refused:
    """Translate the artifacts as a gateway of the label would, among what the label holds.

    An API that the label holds already, and that uses what is published, is not looked at.
    """
    loaded = [each.load() for each in artifacts]
    held = await client.get("/v1/artifacts", ArtifactsAnswer, [("label", label)])
    published = {each.api_id for each in loaded}
    entries = [each.entry for each in held.artifacts if each.entry.api_id not in published]
    label_holds = _Label(client, loaded, entries)
    refused = Refused([], [])
    for artifact in loaded:
        for fault in await label_holds.faults_of(artifact):
            which = refused.by_settings if fault.by_settings else refused.everywhere
            which.append(str(fault.problem.within(str(artifact.identity))))
    return refused


class _Label:
    """What a label would hold: what is published, and of the rest what that refers to."""

    def __init__(
        self, client: HttpClient, published: Iterable[Artifact], others: Iterable[Entry]
    ) -> None:
        self._client = client
        self._parts: dict[tuple[str, Need], Part] = {}
        self._others: dict[tuple[str, str, str], list[Entry]] = {}
        for artifact in published:
            self._add(artifact)
        for entry in others:
            key = entry.tenant, entry.kind, entry.name
            self._others.setdefault(key, []).append(entry)

    async def faults_of(self, artifact: Artifact) -> tuple[Fault, ...]:
        tenant = artifact.identity.tenant
        while True:  # each round finds what the finds of the last one refer to
            found, needs = translate(
                artifact, lambda need: self._parts.get((tenant, need)), Options()
            )
            missing = [
                entry
                for need in needs
                if (tenant, need) not in self._parts
                for role in (need.role, "local-entry")  # which may hold a sequence, too
                for entry in self._others.pop((tenant, role, need.name), ())
            ]
            if not missing:
                return found.faults if isinstance(found, Refusal) else ()
            for entry in missing:
                self._add(await fetch_content(self._client, entry))

    def _add(self, artifact: Artifact) -> None:
        for part in artifact.parts:
            if part.role != "api":
                for need in names_of(part):
                    self._parts[artifact.identity.tenant, need] = part
