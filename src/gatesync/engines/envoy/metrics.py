"""Envoy's own metrics, among those of its gateway: a selection, read every few seconds."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gatesync.engines.envoy.admin import Admin, AdminError

__all__ = ["SELECTED", "EnvoyMetrics"]

SELECTED: Final = "|".join(
    (
        r"^http\.gatesync\.downstream_(rq_(total|[1-5]xx|active|time|timeout)|cx_(total|active))$",
        r"^server\.(live|uptime|memory_allocated|memory_heap_size|concurrency)$",
        r"^cluster_manager\.(active_clusters|warming_clusters)$",
        r"^listener\..*\.(ssl\.handshake|ssl\.connection_error)$",
    )
)
"""Names of Envoy's own, before Prometheus has them with `_` for `.`: as many with one API as with
ten thousand."""


class EnvoyMetrics(Collector):
    """What `/metrics` shows of Envoy; register it with the gateway's registry.

    Args:
        counts: what the engine itself counts, by name.
        admin: asks Envoy.
    """

    def __init__(self, counts: Callable[[], Mapping[str, float]], admin: Admin) -> None:
        self._counts = counts
        self._admin = admin
        self._families: tuple[Metric, ...] = ()

    async def watch(self, seconds: float) -> None:
        """Read them every so many seconds, until cancelled; what cannot be read is not shown."""
        while True:
            await self.read()
            await asyncio.sleep(seconds)

    async def read(self) -> None:
        """Read them now."""
        try:
            text = await self._admin.metrics(SELECTED)
            self._families = tuple(text_string_to_metric_families(text))
        except (AdminError, ValueError):
            self._families = ()

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is collected is not asked for when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What was read last, and what the engine counts itself."""
        for name, value in self._counts().items():
            kind = CounterMetricFamily if name in _COUNTED else GaugeMetricFamily
            yield kind(f"gatesync_gateway_envoy_{name}", _TEXTS[name], value=value)
        yield from self._families


_COUNTED: Final = {"starts", "deaths", "rejections"}
_TEXTS: Final = {
    "connected": "1 if Envoy takes what it is to serve from this gateway",
    "in_step": "1 if it has acknowledged everything",
    "clusters": "upstreams that it is to have",
    "scopes": "sets of routes that it is to have",
    "pushes": "responses sent over the stream that is open now",
    "rejections": "responses that it rejected",
    "starts": "times that this gateway has started it",
    "deaths": "times that it ended and nobody had asked it to",
}
