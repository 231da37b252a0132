"""What a gateway counts, for Prometheus. docs/metrics.md says what each name means.

All of it is read from the node's state when it is asked, never before.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate, product
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gatesync.gateway.cache import CacheCounts
from gatesync.gateway.delays import BUCKETS, Delays
from gatesync.gateway.health import Health, LabelStatus, SavedHealth
from gatesync.gateway.pulse import Pulse
from gatesync.gateway.verifying import WAYS, WHYS_REFUSED, Verifier

__all__ = ["WHYS", "GatewayMetrics"]

WHYS: Final = (
    *("start", "event-gap", "reconnect", "heartbeat", "head-query", "history", "labels"),
    "keys",
)
"""Why a label was read from the store. All are shown from the start, at 0."""

_COUNTS: Final = {
    "events": "events heard",
    "pushed": "of these, what publishers pushed",
    "refused_events": "events or contents that were refused",
    "lost": "times that events may have been missed",
    "lists": "whole lists taken from the store",
    "head_queries": "times the store was asked for heads",
    "turns_waited": "times a publisher told this node to wait with a full pull",
    "store_failures": "questions that the store did not answer",
}
_NAMES: Final = {
    "refused_events": "events_refused",
    "lost": "events_lost",
    "pushed": "events_pushed",
}

_LABELS: Final[dict[str, tuple[str, Callable[[LabelStatus], float]]]] = {
    "revision": ("newest revision that is known", lambda each: each.revision),
    "applied_revision": (
        "revision up to which each change was tried",
        lambda each: each.applied_revision,
    ),
    "held_removals": (
        "removals that wait for an operator",
        lambda each: each.held_removals,
    ),
    "stale": ("1 if the last proof is too old, or there was none yet", lambda each: each.stale),
}


class GatewayMetrics:
    """Everything that one gateway counts.

    Args:
        health: the node's state.
        pulse: what its main loop counts.
        delays: how long changes took to get here.
        verifier: what was not signed as it must be.

    Attributes:
        registry: what `/metrics` shows.
    """

    def __init__(
        self,
        health: Callable[[], Health],
        pulse: Pulse,
        delays: Delays,
        verifier: Verifier,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_GatewayCollector(health, pulse, delays, verifier))


class _GatewayCollector(Collector):
    def __init__(
        self, health: Callable[[], Health], pulse: Pulse, delays: Delays, verifier: Verifier
    ) -> None:
        self._health = health
        self._pulse = pulse
        self._delays = delays
        self._verifier = verifier

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is collected is not asked for when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        yield InfoMetricFamily(
            "gatesync_gateway_build",
            "what runs here; always 1",
            {"version": health.version, "engine": health.engine, "mode": health.mode},
        )
        yield _gauge("uptime_seconds", "seconds since the start", health.uptime_ms / 1000)
        yield _gauge("ready", "1 if readiness answers with 200", health.ready)
        yield _gauge("connected", "1 if this node hears events", health.connected)
        for field, text in _COUNTS.items():
            yield _counter(_NAMES.get(field, field), text, getattr(self._pulse, field))
        pulls = CounterMetricFamily(
            "gatesync_gateway_pulls", "times a label was read from the store", labels=["why"]
        )
        for why in sorted({*WHYS, *self._pulse.why}):
            pulls.add_metric([why], self._pulse.why[why])
        yield pulls
        if self._verifier.trust is not None:
            yield _untrusted(self._verifier)
        yield _applied(self._delays)
        yield from _artifacts(health)
        yield from _labels(health.labels)
        if health.cache is not None:
            yield from _cache(health.cache)
        if health.saved is not None:
            yield from _saved(health.saved)


def _applied(delays: Delays) -> Metric:
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    return HistogramMetricFamily(
        "gatesync_gateway_publish_to_applied_seconds",
        "seconds from the commit of a change set, by the publisher's clock, to its end here",
        buckets=list(zip(bounds, accumulate(delays.counts), strict=True)),
        sum_value=delays.total,
    )


def _untrusted(verifier: Verifier) -> Metric:
    """By the way it came and what was wrong with it; all are shown from the start, at 0."""
    family = CounterMetricFamily(
        "gatesync_gateway_untrusted",
        "changes, heads and lists that were not signed as they must be",
        labels=["way", "reason"],
    )
    for way, why in sorted({*product(WAYS, WHYS_REFUSED), *verifier.refused}):
        family.add_metric([way, why], verifier.refused[way, why])
    return family


def _artifacts(health: Health) -> Iterator[Metric]:
    """By state: of the whole node, and of each label."""
    node = GaugeMetricFamily(
        "gatesync_gateway_artifacts", "artifacts of this node", labels=["state"]
    )
    of_labels = GaugeMetricFamily(
        "gatesync_gateway_label_artifacts", "artifacts of a label", labels=["label", "state"]
    )
    for state in ("applied", "failed", "skipped", "waiting"):
        node.add_metric([state], getattr(health, state))
        for each in health.labels:
            of_labels.add_metric([each.label, state], getattr(each, state))
    yield from (node, of_labels)


def _labels(labels: tuple[LabelStatus, ...]) -> Iterator[Metric]:
    for name, (text, value) in _LABELS.items():
        family = GaugeMetricFamily(f"gatesync_gateway_{name}", text, labels=["label"])
        for each in labels:
            family.add_metric([each.label], value(each))
        yield family
    age = GaugeMetricFamily(
        "gatesync_gateway_proof_age_seconds",
        "seconds since the last proof of being in step; absent before the first",
        labels=["label"],
    )
    for each in labels:
        if each.proof_age_ms is not None:
            age.add_metric([each.label], each.proof_age_ms / 1000)
    yield age


def _cache(counts: CacheCounts) -> Iterator[Metric]:
    yield _counter("cache_hits", "contents found on the node's own disk", counts.hits)
    yield _counter("cache_misses", "contents that were not there, or damaged", counts.misses)
    yield _counter("cache_damaged", "things there that were not believed", counts.damaged)
    yield _counter("cache_writes", "transactions written there", counts.writes)
    yield _counter("cache_failures", "times that it could not be read or written", counts.failures)
    yield _counter(
        "cache_dropped", "contents that were written later for want of room", counts.dropped
    )
    yield _gauge("cache_works", "0 while something keeps it from working", not counts.error)


def _saved(saved: SavedHealth) -> Iterator[Metric]:
    yield _gauge("saved_files", "files of artifacts in the saved tree", saved.files)
    yield _gauge("saved_drifted", "of these, not as they were written", saved.drifted)
    yield _counter("saved_restored", "files that were written again", saved.restored)
    yield _gauge(
        "saved_works", "0 while something keeps the tree from being written", not saved.error
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gatesync_gateway_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"gatesync_gateway_{name}", text, value=value)
