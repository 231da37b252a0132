"""What a publisher counts, for Prometheus: read from its state when it is asked.

docs/metrics.md says what each name means.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gatesync import __version__
from gatesync.publisher.pulling import FullPulls, PullCounts
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.publisher.service import Publisher

__all__ = ["publisher_metrics"]


class _PublisherCollector(Collector):
    def __init__(
        self, publisher: Publisher, pulls: FullPulls | None, clock: Callable[[], float]
    ) -> None:
        self._publisher = publisher
        self._pulls = pulls
        self._clock = clock
        self._started = clock()

    def collect(self) -> Iterator[Metric]:
        committer, announcer = self._publisher.committer, self._publisher.announcer
        yield InfoMetricFamily(
            "gatesync_publisher_build", "what runs here; always 1", {"version": __version__}
        )
        yield _gauge("uptime_seconds", "seconds since the start", self._clock() - self._started)
        yield _gauge("ready", "1 if readiness answers with 200", not announcer.store_error)
        yield _gauge(
            "publishing", "0 if the last changes could not be saved", not committer.store_error
        )
        counts = {
            "commits": ("transactions committed", committer.commits),
            "requests_saved": ("requests saved", committer.saved_requests),
            "announcements_failed": ("announcements not sent", announcer.failures),
            "reports_refused": (
                "reports that could not be read, or spoke for another node",
                self._publisher.refused_reports,
            ),
        }
        for name, (text, value) in counts.items():
            yield CounterMetricFamily(f"gatesync_publisher_{name}", text, value=value)
        if self._pulls is not None:
            yield from _pulls(self._pulls.counts())
        yield from _environments(announcer.pusher.statuses())
        nodes = self._publisher.fleet.nodes()
        gateways = GaugeMetricFamily(
            "gatesync_publisher_gateways", "gateways by state", labels=["state"]
        )
        lost = sum(node.lost for node in nodes)
        gateways.add_metric(["reporting"], len(nodes) - lost)
        gateways.add_metric(["lost"], lost)
        yield gateways


def _pulls(counts: PullCounts) -> Iterator[Metric]:
    """Who reads a label from its first page on."""
    pulls = GaugeMetricFamily(
        "gatesync_publisher_full_pulls", "gateways that pull in full", labels=["state"]
    )
    pulls.add_metric(["under_way"], counts.under_way)
    pulls.add_metric(["waiting"], counts.waiting)
    yield pulls
    deferred = "gatesync_publisher_full_pulls_deferred"
    yield CounterMetricFamily(deferred, "times one was told to come back", value=counts.deferred)


def _environments(statuses: Sequence[EnvironmentStatus]) -> Iterator[Metric]:
    """Where this publisher pushes to; nothing where it pushes to none."""
    if not statuses:
        return
    answers = GaugeMetricFamily(
        "gatesync_publisher_environment_answers",
        "1 if the environment answered the last push",
        labels=["environment"],
    )
    pushes = CounterMetricFamily(
        "gatesync_publisher_pushes",
        "events and heads, by what became of them",
        labels=["environment", "outcome"],
    )
    for each in statuses:
        answers.add_metric([each.name], each.answers)
        for outcome in ("sent", "failed", "dropped"):
            pushes.add_metric([each.name, outcome], getattr(each, outcome))
    yield from (answers, pushes)


def publisher_metrics(
    publisher: Publisher,
    pulls: FullPulls | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> CollectorRegistry:
    """A registry with everything that this publisher counts."""
    registry = CollectorRegistry()
    registry.register(_PublisherCollector(publisher, pulls, clock))
    return registry


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gatesync_publisher_{name}", text, value=value)
