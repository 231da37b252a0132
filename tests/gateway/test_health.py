import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.config import WhenStale
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment, Failure
from gatesync.gateway.desired import Desired, Skipped, Wanted
from gatesync.gateway.health import Health, HealthView, LabelStatus, counts_of
from gatesync.gateway.staleness import StalenessRule
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import Cluster, Node
from tests.gateway.makers import entry
from tests.gateway.virtual_time import in_virtual_time, now, until

pytestmark = pytest.mark.fast

SOON = 10.0
RULE = StalenessRule(60.0)
STATES = ("applied", "older", "failed", "waiting", "retried", "skipped", "elsewhere", "nowhere")


def view_of(node: Node, rule: StalenessRule = RULE) -> HealthView:
    return HealthView(node.name, node.engine, node.informer, rule, asyncio.get_running_loop().time)


def only_label(health: Health) -> LabelStatus:
    (label,) = health.labels
    return label


@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_each_of_a_labels_artifacts_is_counted_once(states: list[str]) -> None:
    here = Deployment(Desired(["L", "M"]), MemoryEngine(), Backoff().delay)
    entries = {}
    for number, state in enumerate(states):
        each = entry(f"a{number}")
        entries[each.api_id] = each
        wanted = Wanted("M" if state == "elsewhere" else "L", each)
        if state in {"applied", "elsewhere", "failed", "retried"}:  # a failure serves on
            here.applied[each.api_id] = wanted
        if state == "older":
            old = entry(f"a{number}", 0)
            here.applied[each.api_id] = Wanted("L", old)
        if state in {"failed", "retried"}:
            here.failed[each.api_id] = Failure(wanted, "no", 1, 0.0)
        if state in {"waiting", "retried"}:
            here.waiting[each.api_id] = wanted
        if state == "skipped":
            here.skipped[each.api_id] = Skipped("L", each, "")
    found = counts_of("L", entries, here)
    assert found.applied == states.count("applied")
    assert found.failed == states.count("failed") + states.count("retried")
    assert found.skipped == states.count("skipped") + states.count("elsewhere")
    assert found.waiting == sum(map(states.count, ("waiting", "older", "nowhere")))
    assert sum(msgspec.structs.astuple(found)) == len(states)


@pytest.mark.promise(11)
@in_virtual_time
async def test_a_node_in_step_is_ready_and_says_how_far_it_is() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        node.engine.refuses[id_of("bad")] = "it has no backend"
        await cluster.publish("L", publish("menu"), publish("bad"))
        await until(lambda: node.serves("menu") and node.informer.deployment.failed, within=SOON)
        health = view_of(node).health()
        assert (health.ready, health.status, health.why) == (True, "ready", "")
        assert (health.applied, health.failed, health.skipped, health.waiting) == (1, 1, 0, 0)
        label = only_label(health)
        assert (label.revision, label.applied_revision) == (2, 2)
        assert (label.desired, label.applied, label.failed) == (2, 1, 1)
        assert label.proof_age_ms is not None
        assert label.proof_age_ms < 2_000 * cluster.heartbeat
        assert not label.stale
        assert view_of(node).status().failed == {id_of("bad"): "it has no backend"}


@pytest.mark.promise(11)
@in_virtual_time
async def test_a_node_without_its_control_plane_is_stale_until_the_next_proof() -> None:
    async with Cluster() as cluster:
        node = await cluster.start_node("n1", ["L"])
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=SOON)
        views = {when: view_of(node, StalenessRule(60.0, when)) for when in WhenStale}

        await cluster.stop_publisher()
        cluster.broker.go_down()
        away = now()
        await until(lambda: views[WhenStale.SERVE].health().status == "stale", within=70)
        assert now() - away >= 55, "not before the last proof is a minute old"
        told = {when: view.health() for when, view in views.items()}
        assert {when: each.ready for when, each in told.items()} == {
            WhenStale.SERVE: True,
            WhenStale.DEGRADE: True,
            WhenStale.DRAIN: False,
        }
        label = only_label(told[WhenStale.SERVE])
        assert label.stale
        assert label.proof_age_ms is not None
        assert label.proof_age_ms > 60_000
        assert node.serves("menu")

        cluster.broker.come_back()
        await cluster.start_publisher()
        await until(lambda: views[WhenStale.DRAIN].health().ready, within=SOON)
        assert views[WhenStale.DRAIN].health().status == "ready"
