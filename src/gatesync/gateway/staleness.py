"""Whether a node is stale, and what readiness says then. Pure.

    starting   503  its start-up is not over
    ready      200  each label was proved to be in step a short while ago
    stale      200  a label was not: older than `max_staleness`, or never since the start
    degraded   200  the same, with when_stale = "degrade"
    draining   503  the same, with when_stale = "drain": a load balancer takes the node out
    unserved   503  the process that serves, such as Envoy, is away, or behind with what it was told

Stale is about what is known, not about what is served: a stale node may well be in step.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from gatesync.config import WhenStale

__all__ = ["Readiness", "StalenessRule", "is_stale", "readiness_of", "unserved"]

NEVER: Final = "not proved to be in step since this node started"


class StalenessRule(msgspec.Struct, frozen=True):
    """How old the last proof of a label may be, in seconds, and what follows when it is older.

    With 0 no proof is ever too old; a label that was never proved is stale all the same.
    """

    max_seconds: float = 60.0
    when_stale: WhenStale = WhenStale.SERVE


class Readiness(msgspec.Struct, frozen=True):
    """What a load balancer is told: whether to send requests here, a word for it, and why."""

    ready: bool
    status: str
    why: str = ""


_STALE: Final = {
    WhenStale.SERVE: (True, "stale"),
    WhenStale.DEGRADE: (True, "degraded"),
    WhenStale.DRAIN: (False, "draining"),
}


def is_stale(age: float | None, max_seconds: float) -> bool:
    """Whether a label is, whose last proof is `age` seconds old; None: there was none yet.

    Promise 10: a node that serves from its own disk has no proof, and shows it from the start.
    """
    return age is None or (max_seconds > 0 and age > max_seconds)


def readiness_of(
    started: bool,
    ages: Mapping[str, float | None],
    rule: StalenessRule,
    untrusted: Mapping[str, str] = MappingProxyType({}),
) -> Readiness:  # promise 11
    """Whether the node should be sent requests.

    Args:
        started: whether its start-up is over.
        ages: of each label's last proof, in seconds; None where there was none yet.
        rule: when that is too old, and what follows.
        untrusted: of each label whose store's answer is not taken, why not.
    """
    refused = [untrusted[label] for label in ages if label in untrusted]
    if not started:
        why = "not everything of the first lists is processed"
        return Readiness(False, "starting", "; ".join([why, *refused]))
    reasons = [
        f"label {label!r}: {_said(age, rule)}"
        for label, age in ages.items()
        if is_stale(age, rule.max_seconds)
    ]
    if not reasons:
        return Readiness(True, "ready", "; ".join(refused))
    ready, status = _STALE[rule.when_stale]
    return Readiness(ready, status, "; ".join(reasons + refused))


def unserved(why: str) -> Readiness:
    """What a node says that knows everything and serves it not."""
    return Readiness(False, "unserved", why)


def _said(age: float | None, rule: StalenessRule) -> str:
    if age is None:
        return NEVER
    return f"last proved to be in step {age:.1f} s ago; max_staleness is {rule.max_seconds:g} s"
