"""The engine: extension point 3, what a gateway deploys into.

An adapter is a callable named in the entry-point group `gatesync.engines`; it must pass
`tests/contracts/engine.py`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from gatesync.artifacts.changes import Entry

__all__ = ["Deployable", "Engine", "EngineError", "Measured", "Serving", "ServingState"]


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


class ServingState(msgspec.Struct, frozen=True):
    """Whether another process serves all that its engine was told, and why not."""

    ready: bool
    why: str = ""


@runtime_checkable
class Measured(Protocol):
    """What an engine has, too, that counts; `metrics` is a collector of prometheus-client."""

    @property
    def metrics(self) -> Any:
        """To be registered with the node's registry."""
        ...


@runtime_checkable
class Serving(Protocol):
    """What an engine has, too, whose artifacts are served by another process than this one.

    Attributes:
        on_back: called with what has to be deployed again: its deployment failed because the
            other process was away, or was refused only after `apply` had returned.
    """

    on_back: Callable[[Collection[str]], Awaitable[None]] | None

    async def started(self, *, proven: bool) -> None:
        """All that this node is to serve, as far as it knows, is deployed.

        Before this is called the other process is told nothing: what it serves from an earlier
        process of this node it goes on serving. `proven`: the store, or a publisher, said so of
        each label; only then is removed what an earlier process left there (promise 6). Returns
        when the other process has acknowledged it, or after a while.
        """
        ...

    async def look(self) -> None:
        """Ask the other process what it holds; `Engine.content` tells it from now on."""
        ...

    def state(self) -> ServingState:
        """As of now."""
        ...
