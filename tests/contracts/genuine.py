"""Artifacts for the contract suite of the stores: small, and such as people publish.

A store may keep the canonical form, or files that make it again. It may keep what an artifact
claims and needs, or look for that in its XML.
"""

import functools
from collections.abc import Sequence

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.planning import Publish
from gatesync.stores.store import read_manifest
from tests.contracts.saves import Bench

SPACE = "http://ws.apache.org/ns/synapse"


def publish(
    name: str,
    content: bytes | str = b"<api/>",
    *,
    claims: Sequence[str] = (),
    needs: Sequence[str] = (),
    api_id: str | None = None,
) -> Publish:
    """An API that holds these bytes in a file of its own, claims sequences, and needs some."""
    body = content.encode() if isinstance(content, str) else content
    if len(body) > 1_000:
        return _publish(name, body, tuple(claims), tuple(needs), api_id)
    return _small(name, body, tuple(claims), tuple(needs), api_id)


def bytes_of(content: bytes) -> bytes:
    """What `publish` was given as content."""
    return next(part.content for part in canonical.decode(content).parts if part.role == "policy")


async def held(bench: Bench, label: str) -> dict[str, bytes]:
    """What a gateway would get for the label, by name: the whole list, and each content."""
    _, entries = await read_manifest(bench.store, label)
    contents = await bench.store.contents([entry.digest for entry in entries.values()])
    return {entry.name: bytes_of(contents[entry.digest]) for entry in entries.values()}


def _publish(
    name: str, body: bytes, claims: tuple[str, ...], needs: tuple[str, ...], api_id: str | None
) -> Publish:
    identity = Identity(SUPER_TENANT, "api", name, "1.0.0")
    steps = "".join(f'<sequence key="{each}"/>' for each in needs)
    api = (
        f'<api xmlns="{SPACE}" name="{name}" version="1.0.0" context="/{name}">\n'
        f'<resource methods="GET" uri-template="/*"><inSequence>\n'
        f"{steps}</inSequence></resource></api>"
    )
    parts = [
        Part("api", name, "api/a.xml", api.encode()),
        Part("policy", f"{name}-content", f"executionplans/{name}-content.bin", body),
    ]
    for number, each in enumerate(claims):
        sequence = f'<sequence xmlns="{SPACE}" name="{each}"/>'
        parts.append(Part("sequence", each, f"sequences/{number}.xml", sequence.encode()))
    parts.sort(key=lambda part: (part.role, part.path))
    artifact = Artifact(identity, api_id or identity.default_api_id(), tuple(parts))
    found = describe(artifact)
    data = canonical.encode(artifact)
    entry = Entry(
        api_id=artifact.api_id,
        tenant=SUPER_TENANT,
        kind="api",
        name=name,
        version="1.0.0",
        context=found.context,
        digest=digest_of(data),
        size=len(data),
    )
    asked_first = sorted(found.claims, key=lambda each: not each.text.startswith("the name seq"))
    return Publish(entry, data, tuple(asked_first), found.references)


_small = functools.cache(_publish)  # the same ones are published to every kind of store
