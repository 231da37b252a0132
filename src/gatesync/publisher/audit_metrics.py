"""What the audit log counts, for Prometheus; docs/metrics.md says what each name means."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gatesync.publisher.audit_log import AuditLog

__all__ = ["AuditCollector"]


class AuditCollector(Collector):
    """Read from the log when it is asked."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        name = "gatesync_publisher_audit"
        yield GaugeMetricFamily(
            f"{name}_entries", "number of the last entry written", self._log.head.sequence
        )
        yield GaugeMetricFamily(
            f"{name}_writing", "0 if the last entries could not be written", not self._log.trouble
        )
        yield CounterMetricFamily(
            f"{name}_failures", "times that writing failed", value=self._log.failures
        )
        yield CounterMetricFamily(
            f"{name}_lost", "entries given up, as too many waited", value=self._log.lost
        )
