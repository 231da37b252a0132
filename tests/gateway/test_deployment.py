import asyncio
import itertools
from collections.abc import Mapping

import pytest

from gatesync.artifacts.changes import Entry
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment, Missing, rank_of
from gatesync.gateway.desired import Desired
from tests.contracts.saves import id_of
from tests.gateway.cluster import WatchedEngine
from tests.gateway.makers import content, entry

pytestmark = pytest.mark.fast

MENU, BREAD = id_of("menu"), id_of("bread")


class Bench:
    """A deployment, its engine, and a clock that the test moves."""

    def __init__(self, *labels: str) -> None:
        self.engine = WatchedEngine()
        desired = Desired(labels or ("L",))
        self.deployment = Deployment(desired, self.engine, Backoff(1.0, 8.0).delay)
        self.now = 100.0

    def want(self, made: Entry, label: str = "L") -> None:
        self.deployment.put(label, made.api_id, made, None)

    def drop(self, name: str, label: str = "L") -> None:
        self.deployment.put(label, id_of(name), None, None)

    async def settle(self, *made: Entry) -> bool:
        """With the contents of these at hand."""
        contents = {each.digest: body_of(each) for each in made}
        return await self.deployment.settle(contents, self.now, itertools.repeat(1.0))

    async def deploy(self, *made: Entry, label: str = "L") -> None:
        for each in made:
            self.want(each, label)
        await self.settle(*made)

    @property
    def served(self) -> Mapping[str, bytes]:
        return dict(self.engine.snapshot())


def body_of(made: Entry) -> bytes:
    for version in (1, 2, 3):
        if entry(made.name, version).digest == made.digest:
            return content(made.name, version)
    raise AssertionError(made)


async def test_what_is_wanted_and_at_hand_is_served() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"), entry("bread"))
    assert bench.served == {MENU: content("menu"), BREAD: content("bread")}
    assert bench.deployment.applied.keys() == {MENU, BREAD}
    bench.drop("menu")
    assert await bench.settle()
    assert bench.served == {BREAD: content("bread")}
    assert bench.deployment.applied.keys() == {BREAD}


async def test_nothing_due_is_nothing_done() -> None:
    bench = Bench()
    assert not await bench.settle()
    await bench.deploy(entry("menu"))
    assert not await bench.settle(entry("menu"))
    assert bench.engine.deploys == {MENU: 1}


async def test_all_that_is_due_goes_in_one_swap() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"))
    seen: list[tuple[list[str], list[str]]] = []
    apply = bench.engine.apply

    async def watch(deploy, undeploy):  # type: ignore[no-untyped-def] # noqa: ANN001,ANN202
        seen.append(([each.entry.name for each in deploy], list(undeploy)))
        return await apply(deploy, undeploy)

    bench.engine.apply = watch  # type: ignore[method-assign]
    bench.drop("menu")
    await bench.deploy(entry("bread"))
    assert seen == [(["bread"], [MENU])]


@pytest.mark.promise(7)
async def test_the_same_bytes_from_another_revision_or_label_are_not_deployed_again() -> None:
    bench = Bench("L", "M")
    await bench.deploy(entry("menu"))
    await bench.deploy(entry("menu", revision=7))
    bench.want(entry("menu", revision=3), "M")
    bench.drop("menu")
    await bench.settle()
    assert bench.engine.deploys == {MENU: 1}
    assert bench.deployment.applied[MENU].label == "M"
    assert bench.deployment.applied[MENU].entry.revision == 3


# Waiting for bytes.


async def test_what_is_not_at_hand_is_asked_for_once_for_each_digest() -> None:
    bench = Bench()
    twin = Entry("twin", "t", "api", "twin", "1", "/twin", entry("menu").digest, 6, 1)
    bench.want(entry("menu"))
    bench.want(twin)
    await bench.settle()
    missing = entry("menu")
    assert bench.deployment.missing() == [Missing(missing.digest, missing.size, rank_of(missing))]
    assert bench.served == {}
    await bench.settle(missing)
    assert bench.served == {MENU: content("menu"), "twin": content("menu")}
    assert bench.deployment.missing() == []


@pytest.mark.promise(4)
async def test_the_version_before_is_served_while_the_new_one_is_fetched() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", 1))
    bench.want(entry("menu", 2, revision=2))
    await bench.settle()
    assert bench.served == {MENU: content("menu", 1)}
    await bench.settle(entry("menu", 2))
    assert bench.served == {MENU: content("menu", 2)}


async def test_bytes_that_nobody_waits_for_any_more_are_not_deployed() -> None:
    bench = Bench()
    bench.want(entry("menu", 1))
    await bench.settle()
    bench.want(entry("menu", 2))
    await bench.settle(entry("menu", 1))
    assert bench.served == {}
    assert [each.digest for each in bench.deployment.missing()] == [entry("menu", 2).digest]
    bench.drop("menu")
    await bench.settle()
    assert bench.deployment.missing() == []
    assert not await bench.settle(entry("menu", 2))
    assert bench.served == {}


async def test_going_back_to_what_is_served_needs_no_bytes() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", 1))
    bench.want(entry("menu", 2))
    await bench.settle()
    bench.want(entry("menu", 1, revision=3))
    await bench.settle()
    assert bench.deployment.missing() == []
    assert bench.engine.deploys == {MENU: 1}


async def test_bytes_that_the_store_does_not_have_are_a_failure_with_a_reason() -> None:
    bench = Bench()
    bench.want(entry("menu"))
    await bench.settle()
    bench.deployment.not_found([entry("menu").digest], bench.now, itertools.repeat(1.0))
    assert entry("menu").digest in bench.deployment.failed[MENU].reason
    assert bench.deployment.missing() == []
    bench.now = bench.deployment.failed[MENU].next_try
    await bench.settle()
    assert bench.deployment.missing()
    await bench.settle(entry("menu"))
    assert bench.served == {MENU: content("menu")}
    assert not bench.deployment.failed


# What the engine refuses.


@pytest.mark.promise(4)
async def test_a_refused_artifact_is_set_aside_and_the_others_go_on() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", 1))
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu", 2), entry("bread"))
    assert bench.served == {MENU: content("menu", 1), BREAD: content("bread")}
    failure = bench.deployment.failed[MENU]
    assert (failure.reason, failure.attempt, failure.next_try) == ("bad endpoint", 1, 101.0)
    assert bench.deployment.applied[MENU].entry.digest == entry("menu", 1).digest


@pytest.mark.promise(4)
async def test_it_is_tried_again_with_backoff() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu"))
    waits = []
    for attempt in range(2, 7):
        due = bench.deployment.next_try()
        assert due is not None
        waits.append(due - bench.now)
        bench.now = due - 0.001
        assert not await bench.settle(entry("menu"))
        bench.now = due
        await bench.settle(entry("menu"))
        assert bench.deployment.failed[MENU].attempt == attempt
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]
    del bench.engine.refuses[MENU]
    bench.now += 8.0
    await bench.settle(entry("menu"))
    assert bench.served == {MENU: content("menu")}
    assert bench.deployment.next_try() is None


@pytest.mark.promise(4)
async def test_new_bytes_are_tried_at_once() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    for number in range(4):
        bench.want(entry("menu"))
        await bench.settle(entry("menu"))
        bench.now += number * 10
    del bench.engine.refuses[MENU]
    await bench.deploy(entry("menu", 2))
    assert bench.served == {MENU: content("menu", 2)}
    assert not bench.deployment.failed


async def test_the_count_of_attempts_begins_anew_with_new_bytes() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu", 1))
    bench.now += 1
    await bench.settle(entry("menu", 1))
    await bench.deploy(entry("menu", 2))
    assert bench.deployment.failed[MENU].attempt == 1


async def test_what_failed_and_is_no_longer_wanted_is_forgotten() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu"))
    bench.drop("menu")
    await bench.settle()
    assert not bench.deployment.failed
    assert bench.deployment.next_try() is None


async def test_a_retry_that_waits_for_its_bytes_is_not_due_again_meanwhile() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu"))
    bench.now += 1
    assert await bench.settle()
    assert bench.deployment.missing()
    assert bench.deployment.next_try() is None  # a clock that is always due is a busy loop
    assert not await bench.settle()
    await bench.settle(entry("menu"))
    assert bench.deployment.failed[MENU].attempt == 2


@pytest.mark.promise(9)
async def test_a_failure_belongs_to_the_label_that_wants_it_now() -> None:
    bench = Bench("L", "M")
    bench.engine.refuses[MENU] = "bad endpoint"
    bench.want(entry("menu", revision=4), "M")
    await bench.deploy(entry("menu", revision=9), label="L")
    assert bench.deployment.failed[MENU].wanted.label == "L"
    bench.drop("menu", "L")
    await bench.settle()
    wanted = bench.deployment.failed[MENU].wanted
    assert (wanted.label, wanted.entry.revision) == ("M", 4)


# The engine as a whole.


@pytest.mark.promise(4)
async def test_an_engine_that_cannot_work_leaves_everything_for_later() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", 1))
    bench.engine.broken = "no connection"
    bench.drop("menu")
    await bench.deploy(entry("bread"))
    assert bench.served == {MENU: content("menu", 1)}
    assert bench.deployment.failed[BREAD].reason == "no connection"
    bench.engine.broken = ""
    bench.now += 1
    await bench.settle(entry("bread"))
    assert bench.served == {BREAD: content("bread")}


@pytest.mark.promise(9)
async def test_a_removal_that_the_engine_could_not_do_is_not_processed() -> None:
    bench = Bench("L", "M")
    await bench.deploy(entry("menu", revision=3))
    assert bench.deployment.processed("L", 3) == 3
    bench.engine.broken = "no connection"
    bench.drop("menu")
    await bench.settle()
    assert bench.deployment.processed("L", 4) == 3
    assert bench.deployment.processed("M", 8) == 8
    bench.engine.broken = ""
    await bench.settle()
    assert bench.served == {}
    assert bench.deployment.processed("L", 4) == 4


async def test_what_is_wanted_again_before_it_could_be_removed_is_kept() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", revision=3))
    bench.engine.broken = "no connection"
    bench.drop("menu")
    await bench.settle()
    bench.engine.broken = ""
    bench.want(entry("menu", revision=5))
    await bench.settle()
    assert bench.served == {MENU: content("menu")}
    assert bench.deployment.processed("L", 5) == 5
    assert bench.engine.undeploys == {}


@pytest.mark.promise(4)
async def test_a_swap_that_was_cancelled_half_way_is_done_again() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"), entry("ham"))
    bench.drop("menu")
    bench.want(entry("bread"))
    bench.want(entry("ham", 2))
    bench.engine.slow = 60.0
    swap = asyncio.create_task(bench.settle(entry("bread"), entry("ham", 2)))
    await asyncio.sleep(0)
    swap.cancel()
    await asyncio.wait([swap])
    bench.engine.slow = 0.0
    await bench.settle()
    assert bench.served == {id_of("ham"): content("ham")}
    assert {each.digest for each in bench.deployment.missing()} == {
        entry("bread").digest,
        entry("ham", 2).digest,
    }


# How far it is.


async def test_processed_stops_below_the_first_change_that_waits() -> None:
    bench = Bench("L", "M")
    await bench.deploy(entry("menu", revision=1))
    bench.want(entry("bread", revision=4))
    bench.want(entry("menu", 2, revision=6))
    await bench.settle()
    assert bench.deployment.processed("L", 7) == 3
    assert bench.deployment.processed("M", 9) == 9
    await bench.settle(entry("bread"))
    assert bench.deployment.processed("L", 7) == 5
    await bench.settle(entry("menu", 2))
    assert bench.deployment.processed("L", 7) == 7


@pytest.mark.promise(4)
async def test_what_was_set_aside_counts_as_processed_also_while_it_is_retried() -> None:
    bench = Bench()
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu", revision=2))
    assert bench.deployment.processed("L", 2) == 2
    bench.now += 1
    await bench.settle()
    assert bench.deployment.waiting
    assert bench.deployment.processed("L", 2) == 2


async def test_what_an_earlier_label_shadows_is_skipped_with_its_reason() -> None:
    bench = Bench("L", "M")
    await bench.deploy(entry("menu", context="/eat"), label="M")
    await bench.deploy(entry("bread", context="/eat"), label="L")
    assert bench.served == {BREAD: content("bread")}
    assert "bread" in bench.deployment.skipped[MENU].reason
    assert bench.deployment.processed("M", 1) == 1
    bench.drop("bread", "L")
    await bench.settle(entry("menu"))
    assert bench.served == {MENU: content("menu")}
    assert not bench.deployment.skipped


# What the engine really holds.


async def test_it_hashes_what_the_engine_holds_and_not_what_it_remembers() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"), entry("bread"))
    bench.engine.corrupt(MENU, content("menu", 2))
    bench.engine.corrupt(BREAD, None)
    bench.engine.corrupt("stray", b"?")
    found = await bench.deployment.inspect()
    assert found.keys() == {MENU, "stray"}
    assert found[MENU] == entry("menu", 2).digest


async def test_a_doubtful_artifact_is_deployed_again() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"))
    bench.engine.corrupt(MENU, b"rubbish")
    bench.deployment.retry([MENU])
    await bench.settle()
    assert [each.digest for each in bench.deployment.missing()] == [entry("menu").digest]
    await bench.settle(entry("menu"))
    assert bench.served == {MENU: content("menu")}
    bench.want(entry("menu", revision=2))
    await bench.settle()
    assert bench.engine.deploys == {MENU: 2}


@pytest.mark.promise(4)
async def test_a_doubtful_artifact_that_is_refused_stays_known_and_can_be_removed() -> None:
    bench = Bench()
    await bench.deploy(entry("menu", 1))
    bench.engine.refuses[MENU] = "bad endpoint"
    await bench.deploy(entry("menu", 2))
    bench.deployment.retry([MENU])
    await bench.settle(entry("menu", 2))
    assert bench.served == {MENU: content("menu", 1)}
    await bench.deployment.evict([MENU])  # it is no stray
    assert bench.served == {MENU: content("menu", 1)}
    bench.drop("menu")
    await bench.settle()
    assert bench.served == {}


async def test_only_what_nobody_asked_for_is_evicted() -> None:
    bench = Bench()
    await bench.deploy(entry("menu"))
    bench.engine.corrupt("stray", b"?")
    await bench.deployment.evict(["stray", MENU])
    assert bench.served == {MENU: content("menu")}
