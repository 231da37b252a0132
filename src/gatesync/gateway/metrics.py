"""What a gateway counts, for Prometheus: read from its state when it is asked, never before."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gatesync.gateway.informer import Informer

__all__ = ["gateway_metrics"]


class _GatewayCollector(Collector):
    def __init__(self, informer: Informer, clock: Callable[[], float]) -> None:
        self._informer = informer
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        pulse, deployment = self._informer.pulse, self._informer.deployment
        counts = {
            "events": ("events heard", pulse.events),
            "events_refused": ("events or contents that were refused", pulse.refused_events),
            "events_lost": ("times that events may have been missed", pulse.lost),
            "pulls": ("differences pulled from the store", pulse.pulls),
            "lists": ("whole lists pulled from the store", pulse.lists),
            "head_queries": ("times the store was asked for heads", pulse.head_queries),
            "store_failures": ("questions that the store did not answer", pulse.store_failures),
        }  # fmt: skip
        for name, (text, value) in counts.items():
            yield CounterMetricFamily(f"gatesync_gateway_{name}", text, value=value)
        states = {
            "applied": len(deployment.applied),
            "waiting": len(deployment.waiting),
            "failed": len(deployment.failed),
            "skipped": len(deployment.skipped),
        }
        artifacts = GaugeMetricFamily(
            "gatesync_gateway_artifacts", "artifacts by state", labels=["state"]
        )
        for state, count in states.items():
            artifacts.add_metric([state], count)
        yield artifacts
        revision = GaugeMetricFamily(
            "gatesync_gateway_revision", "revision that is followed", labels=["label"]
        )
        age = GaugeMetricFamily(
            "gatesync_gateway_proof_age_seconds",
            "seconds since the last proof of being in step",
            labels=["label"],
        )
        held_back = GaugeMetricFamily(
            "gatesync_gateway_held_removals", "removals that wait for an operator", labels=["label"]
        )
        for label, log in self._informer.logs.items():
            revision.add_metric([label], log.cursor.revision if log.cursor else 0)
            held_back.add_metric([label], len(log.retained))
            if label in self._informer.proofs:
                age.add_metric([label], self._clock() - self._informer.proofs[label])
        yield from (revision, age, held_back)


def gateway_metrics(informer: Informer, clock: Callable[[], float]) -> CollectorRegistry:
    """A registry with everything that this gateway counts."""
    registry = CollectorRegistry()
    registry.register(_GatewayCollector(informer, clock))
    return registry
