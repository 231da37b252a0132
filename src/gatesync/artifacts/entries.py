"""How a label names an artifact."""

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import Artifact

__all__ = ["entry_of"]


def entry_of(artifact: Artifact, context: str, content: bytes) -> Entry:
    """How a label names this artifact, whose canonical form is `content`."""
    identity = artifact.identity
    return Entry(
        api_id=artifact.api_id or identity.default_api_id(),
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context=context,
        digest=digest_of(content),
        size=len(content),
    )
