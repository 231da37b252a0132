"""What a node says of itself: how far it is with each label, what is wrong, how old its proof is.

`Health` says how many (`/health/ready`; anybody is told a little of it); `GatewayStatus` is for its
operator and says which, and why. Metrics are made of the same numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from gatesync import __version__
from gatesync.artifacts.changes import Entry
from gatesync.engines.engine import Engine, Serving
from gatesync.gateway.cache import CacheCounts
from gatesync.gateway.deployment import Deployment
from gatesync.gateway.informer import Informer
from gatesync.gateway.staleness import StalenessRule, is_stale, readiness_of, unserved

__all__ = [
    "Counts",
    "GatewayStatus",
    "Health",
    "HealthView",
    "LabelStatus",
    "NodeState",
    "SavedHealth",
    "SavedTree",
    "counts_of",
]

FORMAT: Final = "gatesync.admin/1"


class Counts(msgspec.Struct, frozen=True):
    """Artifacts by what became of them. What waits to be tried again counts as failed."""

    applied: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0


class LabelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One label at this node.

    `revision` is the newest that this node knows, `applied_revision` the one up to which each
    change was tried. The label has `desired` artifacts, which are the sum of the four counts: those
    that are `skipped` are not to be served here, for another label is preferred, their tenant is
    not loaded, or the operator said so. `proof_age_ms` is the time since it was last proved to be
    in step; None where it was not since the node started. `untrusted` says why what the store
    answers is not taken, where it is not signed as it must be.
    """

    label: str
    epoch: str = ""
    revision: int = 0
    applied_revision: int = 0
    desired: int = 0
    applied: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    held_removals: int = 0
    proof_age_ms: int | None = None
    stale: bool = False
    untrusted: str = ""


@runtime_checkable
class SavedTree(Protocol):
    """Where this node saves artifacts as files, too; an engine that does has these."""

    @property
    def saved_files(self) -> int:
        """Files in the tree that are gatesync's."""
        ...

    @property
    def drifted(self) -> int:
        """Files that were found not to be as they were written, and still are not."""
        ...

    @property
    def restored(self) -> int:
        """Such files that were written again, since the start."""
        ...

    @property
    def error(self) -> str:
        """The last trouble with the tree; empty once it is over."""
        ...


class SavedHealth(msgspec.Struct, frozen=True):
    """The saved tree, see `SavedTree`."""

    files: int
    drifted: int
    restored: int
    error: str = ""


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """What is told to anyone. `ready` decides readiness; `status` is a word for it, `why` why.

    `applied` and `waiting` are artifacts of the whole node: what its engine serves, and what it is
    to serve and has no contents for yet. `turn_in_ms` is how long, where many nodes start at
    once, until the publisher answers its full pull. `leaving` are labels that a new configuration
    dropped and that are still served. `cache` is the node's own disk, `saved` its tree of files.
    """

    node: str
    ready: bool
    status: str = ""
    why: str = ""
    mode: str = ""
    engine: str = ""
    version: str = ""
    uptime_ms: int = 0
    connected: bool = False
    applied: int = 0
    waiting: int = 0
    labels: tuple[LabelStatus, ...] = ()
    leaving: tuple[str, ...] = ()
    turn_in_ms: int = 0
    store_error: str = ""
    hub_error: str = ""
    cache: CacheCounts | None = None
    saved: SavedHealth | None = None
    format: str = FORMAT


class Health(NodeState, frozen=True, kw_only=True):
    """What readiness answers: how many artifacts are set aside."""

    failed: int = 0
    skipped: int = 0


class GatewayStatus(NodeState, frozen=True, kw_only=True):
    """What the operator is told: which artifacts are set aside, by api_id, and why."""

    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}


class HealthView:
    """Reads a node's state when it is asked.

    Args:
        node: its id.
        engine: what it deploys into.
        informer: what it knows.
        rule: how old a proof may be.
        clock: the monotonic clock.
        saved: where it saves artifacts as files, too, if it does.
        serving: the engine, where another process serves what it deploys.
    """

    def __init__(
        self,
        node: str,
        engine: Engine,
        informer: Informer,
        rule: StalenessRule,
        clock: Callable[[], float],
        saved: SavedTree | None = None,
        serving: Serving | None = None,
    ) -> None:
        self._serving = serving
        self._node = node
        self._engine = engine
        self._informer = informer
        self._rule = rule
        self._clock = clock
        self._saved = saved
        self._started = clock()

    def health(self) -> Health:
        """As of now, for anyone."""
        deployment = self._informer.deployment
        return Health(
            **self._state(), failed=len(deployment.failed), skipped=len(deployment.skipped)
        )

    def status(self) -> GatewayStatus:
        """As of now, with every reason."""
        deployment = self._informer.deployment
        return GatewayStatus(
            **self._state(),
            failed={api_id: each.reason for api_id, each in deployment.failed.items()},
            skipped={api_id: each.reason for api_id, each in deployment.skipped.items()},
        )

    def _state(self) -> dict[str, Any]:
        informer, now = self._informer, self._clock()
        deployment = informer.deployment
        ages = {
            label: None if (proof := informer.proofs.get(label)) is None else max(0.0, now - proof)
            for label in informer.logs
        }
        readiness = readiness_of(informer.ready, ages, self._rule, informer.verifier.answers)
        if readiness.ready and self._serving is not None and not self._serving.state().ready:
            readiness = unserved(self._serving.state().why)
        return {
            "node": self._node,
            "ready": readiness.ready,
            "status": readiness.status,
            "why": readiness.why,
            "mode": informer.mode,
            "engine": self._engine.name,
            "version": __version__,
            "uptime_ms": int((now - self._started) * 1000),
            "connected": informer.hub is not None and informer.hub.connected,
            "applied": len(deployment.applied),
            "waiting": len(deployment.waiting.keys() - deployment.failed.keys()),
            "labels": tuple(self._label(label, age) for label, age in ages.items()),
            "leaving": tuple(informer.leaving),
            "turn_in_ms": int(1000 * max(0.0, informer.pulse.turn - self._clock())),
            "store_error": informer.pulse.store_error,
            "hub_error": "" if informer.hub is None else informer.hub.trouble,
            "cache": None if informer.cache is None else informer.cache.counts,
            "saved": None if self._saved is None else _saved_health(self._saved),
        }

    def _label(self, label: str, age: float | None) -> LabelStatus:
        log = self._informer.logs[label]
        counts = counts_of(label, log.entries, self._informer.deployment)
        return LabelStatus(
            label=label,
            epoch=log.cursor.epoch if log.cursor else "",
            revision=log.cursor.revision if log.cursor else 0,
            applied_revision=self._informer.processed_up_to(label),
            desired=len(log.entries),
            applied=counts.applied,
            failed=counts.failed,
            skipped=counts.skipped,
            waiting=counts.waiting,
            held_removals=len(log.retained),
            proof_age_ms=None if age is None else int(age * 1000),
            stale=is_stale(age, self._rule.max_seconds),
            untrusted=self._informer.verifier.answers.get(label, ""),
        )


def _saved_health(saved: SavedTree) -> SavedHealth:
    return SavedHealth(saved.saved_files, saved.drifted, saved.restored, saved.error)


def counts_of(label: str, entries: Mapping[str, Entry], deployment: Deployment) -> Counts:
    """What became of a label's entries here; each is counted once."""
    applied = failed = skipped = waiting = 0
    for api_id, entry in entries.items():
        case = deployment.failed.get(api_id)
        wanted = case.wanted if case else deployment.waiting.get(api_id)
        served = wanted or deployment.applied.get(api_id)
        if api_id in deployment.skipped or (served is not None and served.label != label):
            skipped += 1
        elif case is not None:
            failed += 1
        elif wanted is None and served is not None and served.entry.digest == entry.digest:
            applied += 1
        else:  # for its bytes, or for its turn
            waiting += 1
    return Counts(applied, failed, skipped, waiting)
