"""The engine: extension point 3, what a gateway deploys into.

An adapter is a callable named in the entry-point group `gatesync.engines`; it must pass
`tests/contracts/engine.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from gatesync.artifacts.changes import Entry

__all__ = ["Deployable", "Engine", "EngineError"]


class EngineError(Exception):
    """The engine as a whole cannot work now; nothing was changed."""


class Deployable(msgspec.Struct, frozen=True):
    """An artifact to deploy: who it is, and its canonical form, digest verified."""

    entry: Entry
    content: bytes


class Engine(Protocol):
    """Deploys artifacts. One caller at a time."""

    @property
    def name(self) -> str:
        """What reports and status call it."""
        ...

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """Deploy and undeploy in one swap; answers with what was refused, and why, by api_id.

        No reader sees part of it, or a moment without an artifact that is replaced (promise 5).
        What is refused leaves the artifact as it was before; the rest goes on (promise 4).
        Undeploying what is not there is no fault. Raises `EngineError` when nothing could be
        done.
        """
        ...

    def content(self, api_id: str) -> bytes | None:
        """The canonical form that the engine really serves under this id."""
        ...

    def api_ids(self) -> Collection[str]:
        """Everything that is deployed, as of one moment, and what an earlier process left there."""
        ...
