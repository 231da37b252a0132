"""What is counted, and that docs/metrics.md names all of it and nothing else."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gatesync.artifacts.signatures import Signer, Trust
from gatesync.gateway import informer
from gatesync.gateway.cache import CacheCounts
from gatesync.gateway.delays import Delays
from gatesync.gateway.health import Health, LabelStatus, SavedHealth
from gatesync.gateway.informer import Pulse
from gatesync.gateway.metrics import WHYS, GatewayMetrics
from gatesync.gateway.verifying import Verifier
from gatesync.publisher.audit_file import AuditFile
from gatesync.publisher.audit_log import AuditLog
from gatesync.publisher.audit_metrics import AuditCollector
from gatesync.publisher.metrics import publisher_metrics
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.pushing import Environment, Pusher
from gatesync.publisher.service import Publisher
from gatesync.stores.memory import MemoryStore
from tests.contracts.saves import publish
from tests.gateway.cluster import Cluster
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def documented(prefix: str) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each name, from the page's tables."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].startswith(f"`{prefix}"):
            name = cells[0].strip("`")
            assert name not in found, f"{name} stands there twice"
            assert cells[3]
            found[name] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    return found


def exposed(registry: CollectorRegistry) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each name, from what a scrape is answered with."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels)
    return found


def full_health() -> Health:
    label = LabelStatus(label="L", proof_age_ms=1)
    return Health(
        node="n1", ready=True, labels=(label,), cache=CacheCounts(), saved=SavedHealth(1, 0, 0)
    )


def scraped(metrics: GatewayMetrics) -> Callable[..., float | None]:
    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"gatesync_gateway_{name}", labels)

    return value


def test_the_page_names_everything_that_a_gateway_counts_and_nothing_else() -> None:
    trusting = Verifier(Trust([Signer(bytes(32)).key]))
    metrics = GatewayMetrics(full_health, Pulse(), Delays(), trusting)
    assert exposed(metrics.registry) == documented("gatesync_gateway_")


def test_the_page_names_everything_that_a_publisher_counts_and_nothing_else(
    tmp_path: Path,
) -> None:
    pusher = Pusher([Environment("E", "http://127.0.0.1:1", ("L",))])
    publisher = Publisher(MemoryStore(), None, "p1", pusher=pusher)
    registry = publisher_metrics(publisher, FullPulls(random=lambda: 0.0))
    registry.register(AuditCollector(AuditLog(AuditFile(tmp_path))))
    assert exposed(registry) == documented("gatesync_publisher_")


def test_every_reason_for_a_pull_is_documented_and_given_somewhere() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(informer)))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_want"
    ]
    assert len(calls) > 5
    given = {
        each.value
        for call in calls
        for each in ast.walk(call.args[2])
        if isinstance(each, ast.Constant)
    }
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+\|$", PAGE.read_text(), re.MULTILINE)
    assert given == set(WHYS) == set(rows)


def test_the_histogram_tells_a_millisecond_from_a_minute_and_takes_no_negative_time() -> None:
    delays = Delays()
    for seconds in (-3.0, 0.0005, 0.02, 45.0, 3_600.0):
        delays.applied(seconds)
    value = scraped(GatewayMetrics(full_health, Pulse(), delays, Verifier()))
    counts = {
        bound: value("publish_to_applied_seconds_bucket", le=bound)
        for bound in ("0.001", "0.01", "0.025", "30.0", "60.0", "+Inf")
    }
    assert counts == {"0.001": 2, "0.01": 2, "0.025": 3, "30.0": 3, "60.0": 4, "+Inf": 5}
    assert value("publish_to_applied_seconds_sum") == pytest.approx(3_645.0205)


@pytest.mark.promise(11)
@in_virtual_time
async def test_what_is_shown_follows_the_node() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        value = scraped(node.agent.metrics)
        assert value("stale", label="L") == 1
        assert value("proof_age_seconds", label="L") is None
        await until(lambda: value("stale", label="L") == 0, within=10)
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=10)
        assert value("ready") == value("connected") == 1
        assert value("revision", label="L") == value("applied_revision", label="L") == 1
        assert value("artifacts", state="applied") == 1
        assert value("label_artifacts", label="L", state="applied") == 1
        assert value("pulls_total", why="start") == 1
        assert value("pulls_total", why="event-gap") == 0
        await until(lambda: value("publish_to_applied_seconds_count") == 1, within=1)
