"""What a publisher counts, for Prometheus: read from its state when it is asked."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gatesync.publisher.service import Publisher

__all__ = ["publisher_metrics"]


class _PublisherCollector(Collector):
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def collect(self) -> Iterator[Metric]:
        counts = {
            "commits": ("transactions committed", self._publisher.committer.commits),
            "requests_saved": ("requests saved", self._publisher.committer.saved_requests),
            "announcements_failed": ("announcements not sent", self._publisher.announcer.failures),
            "reports_refused": ("reports that could not be read", self._publisher.refused_reports),
        }
        for name, (text, value) in counts.items():
            yield CounterMetricFamily(f"gatesync_publisher_{name}", text, value=value)
        nodes = self._publisher.fleet.nodes()
        gateways = GaugeMetricFamily(
            "gatesync_publisher_gateways", "gateways by state", labels=["state"]
        )
        lost = sum(node.lost for node in nodes)
        gateways.add_metric(["reporting"], len(nodes) - lost)
        gateways.add_metric(["lost"], lost)
        yield gateways


def publisher_metrics(publisher: Publisher) -> CollectorRegistry:
    """A registry with everything that this publisher counts."""
    registry = CollectorRegistry()
    registry.register(_PublisherCollector(publisher))
    return registry
