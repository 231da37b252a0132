import asyncio
from typing import Any

import pytest

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.events.messages import ApplyException, Inventory, LabelReport, NodeReport
from gatesync.publisher.fleet import Fleet, Receipt, ReceiptStatus
from gatesync.publisher.nodes import WATERMARKS

pytestmark = [pytest.mark.fast, pytest.mark.promise(9)]

EPOCH = "epoch"
HEARTBEAT = 5.0


class Bench:
    """A fleet whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.fleet = Fleet(
            heartbeat=HEARTBEAT,
            clock=lambda: self.now,
            wall_clock=lambda: 1_700_000_000 + self.now,
        )

    def wall_ms(self) -> int:
        return int((1_700_000_000 + self.now) * 1000)

    def next(self) -> int:
        """A sequence that is later than all before."""
        return self.fleet.version + 10

    async def reached(self, revision: int, count: int) -> bool:
        return await self.fleet.reached("L", Cursor(EPOCH, revision), revision, count, 60)

    def receive(self, *labels: LabelReport, **more: Any) -> None:
        self.fleet.receive(report(*labels, **more))

    def receipt(self, revision: int, *, node: str = "n1", **more: Any) -> Receipt:
        found = self.fleet.receipts("L", Cursor(EPOCH, revision), more.get("first", revision))
        return {each.node: each for each in found}[node]


def report(
    *labels: LabelReport,
    node: str = "n1",
    incarnation: str = "one",
    sequence: int = 1,
    uptime: float = 100.0,
    **more: Any,
) -> NodeReport:
    return NodeReport(
        node=node,
        incarnation=incarnation,
        sequence=sequence,
        version="1",
        engine="memory",
        admin_url="",
        uptime_ms=int(uptime * 1000),
        labels=labels,
        **more,
    )


def at(applied: int, *, desired: int | None = None, label: str = "L", **more: Any) -> LabelReport:
    return LabelReport(
        label=label,
        epoch=more.pop("epoch", EPOCH),
        desired=applied if desired is None else desired,
        applied=applied,
        digest=EMPTY_LABEL,
        count_applied=0,
        **more,
    )


def refusal(revision: int) -> ApplyException:
    return ApplyException("menu", revision, "00", "bad endpoint", 3, 1_500)


# Receipts.


def test_a_revision_is_applied_when_the_watermark_reached_it_and_dated_then() -> None:
    bench = Bench()
    bench.receive(at(1, took_us=700))
    first = bench.wall_ms()
    bench.now += 1
    bench.receive(at(4, took_us=900), sequence=2)
    assert bench.receipt(1) == Receipt("n1", ReceiptStatus.APPLIED, first, 700)
    for revision in (2, 3, 4):
        assert bench.receipt(revision) == Receipt("n1", ReceiptStatus.APPLIED, bench.wall_ms(), 900)


def test_a_revision_that_was_applied_before_anyone_remembers_has_no_time() -> None:
    bench = Bench()
    for number in range(200):
        bench.receive(at(number), sequence=number + 1)
    assert bench.receipt(199).at > 0
    assert bench.receipt(3).status is ReceiptStatus.APPLIED


def test_a_node_that_is_not_there_yet_is_waited_for() -> None:
    bench = Bench()
    bench.receive(at(3, desired=5))
    receipt = bench.receipt(5)
    assert receipt.status is ReceiptStatus.WAITING
    assert "3" in receipt.reason


def test_a_revision_of_another_epoch_is_not_reached() -> None:
    bench = Bench()
    bench.receive(at(9, epoch="another"))
    assert bench.receipt(5).status is ReceiptStatus.WAITING


def test_a_refused_artifact_fails_its_own_revision_with_the_reason() -> None:
    bench = Bench()
    bench.receive(at(7, exceptions=(refusal(5),)))
    receipt = bench.receipt(5)
    assert receipt.status is ReceiptStatus.FAILED
    for word in ("menu", "bad endpoint", "attempt 3", "1.5 s"):
        assert word in receipt.reason
    assert bench.receipt(6).status is ReceiptStatus.APPLIED
    assert bench.receipt(7, first=4).status is ReceiptStatus.FAILED
    assert bench.receipt(4).status is ReceiptStatus.APPLIED


def test_removals_that_wait_for_an_operator_are_told() -> None:
    bench = Bench()
    bench.receive(at(7, held=3))
    receipt = bench.receipt(7)
    assert receipt.status is ReceiptStatus.HELD
    assert "3 removals" in receipt.reason
    assert "labels confirm" in receipt.reason


def test_a_silent_node_is_lost_and_what_it_did_is_not() -> None:
    bench = Bench()
    bench.receive(at(3))
    bench.now += 3 * HEARTBEAT
    assert bench.receipt(4).status is ReceiptStatus.WAITING
    bench.now += 0.1
    assert bench.receipt(4).status is ReceiptStatus.LOST
    assert bench.receipt(3).status is ReceiptStatus.APPLIED
    [node] = bench.fleet.nodes()
    assert (node.lost, node.silent_ms) == (True, 15_100)


def test_only_nodes_of_the_label_have_receipts() -> None:
    bench = Bench()
    bench.receive(at(3))
    bench.receive(at(3, label="M"), node="n2")
    assert [each.node for each in bench.fleet.receipts("L", Cursor(EPOCH, 3))] == ["n1"]
    assert bench.fleet.receipts("never", Cursor(EPOCH, 1)) == []


def test_who_is_in_step_with_a_head() -> None:
    bench = Bench()
    bench.receive(at(3))
    bench.receive(at(2), node="n2")
    bench.receive(at(3, exceptions=(refusal(3),)), node="n3")
    assert bench.fleet.in_step(Head("L", EPOCH, 3)) == ["n1"]


def test_a_watermark_that_fell_dates_what_it_reaches_again() -> None:
    bench = Bench()
    bench.receive(at(5))
    bench.receive(at(2, desired=5), sequence=2)  # it found an artifact damaged
    assert bench.receipt(5).status is ReceiptStatus.WAITING
    bench.now += 7
    bench.receive(at(5), sequence=3)
    assert bench.receipt(5).at == bench.wall_ms()


# Old news.


@pytest.mark.promise(7)
def test_a_report_that_is_older_than_what_is_known_changes_nothing() -> None:
    bench = Bench()
    bench.receive(at(5), sequence=8)
    version = bench.fleet.version
    bench.now += 1
    for sequence in (8, 7, 1):
        bench.receive(at(3), sequence=sequence)
    assert bench.receipt(5).status is ReceiptStatus.APPLIED
    assert bench.fleet.version == version
    assert bench.fleet.nodes()[0].silent_ms == 1_000


@pytest.mark.promise(7)
def test_a_late_report_of_the_process_before_changes_nothing() -> None:
    bench = Bench()
    bench.receive(at(5), incarnation="one", sequence=50, uptime=3_600)
    bench.now += 2
    bench.receive(at(1), incarnation="two", sequence=1, uptime=0)
    assert bench.receipt(5).status is ReceiptStatus.WAITING
    bench.receive(at(9), incarnation="one", sequence=51, uptime=3_602)
    assert bench.receipt(5).status is ReceiptStatus.WAITING
    bench.receive(at(5), incarnation="two", sequence=2, uptime=1)
    assert bench.receipt(5).status is ReceiptStatus.APPLIED


@pytest.mark.promise(7)
def test_a_late_report_of_a_process_never_heard_of_does_not_hide_the_living_one() -> None:
    bench = Bench()
    bench.receive(at(1), incarnation="two", sequence=1, uptime=10)
    bench.receive(at(9), incarnation="one", sequence=700, uptime=3_600)
    bench.receive(at(5), incarnation="two", sequence=2, uptime=11)
    assert bench.receipt(5).status is ReceiptStatus.APPLIED
    assert bench.receipt(9).status is ReceiptStatus.WAITING


def test_a_living_process_that_was_taken_for_a_dead_one_is_believed_once_the_other_is_silent() -> (
    None
):
    bench = Bench()
    bench.receive(at(5), incarnation="living", sequence=1, uptime=10)
    bench.receive(at(2), incarnation="short", sequence=1, uptime=0)  # its word came late
    for beat in range(5):
        bench.now += HEARTBEAT
        bench.receive(at(5), incarnation="living", sequence=2 + beat, uptime=15 + 5 * beat)
    assert bench.receipt(5).status is ReceiptStatus.APPLIED
    assert not bench.fleet.nodes()[0].lost


def test_a_node_that_said_goodbye_is_gone_whatever_comes_late() -> None:
    bench = Bench()
    bench.receive(at(5), sequence=1)
    bench.receive(sequence=3, leaving=True)
    assert bench.fleet.nodes() == []
    bench.receive(at(5), sequence=2)
    assert bench.fleet.nodes() == []
    bench.receive(at(1), incarnation="two", sequence=1, uptime=0)
    assert bench.receipt(1).status is ReceiptStatus.APPLIED


# Verifications.


def test_answers_to_verifications_that_cross_each_other_are_all_kept() -> None:
    bench = Bench()
    bench.receive(at(1), sequence=1)
    assert bench.fleet.inventories("v1") == {"n1": None}
    bench.receive(at(1), sequence=2, verification=Inventory("v2", ()))
    bench.receive(at(1), sequence=3, verification=Inventory("v1", ()))
    bench.receive(at(1), sequence=4)
    assert bench.fleet.inventories("v1") == {"n1": Inventory("v1", ())}
    assert bench.fleet.inventories("v2") == {"n1": Inventory("v2", ())}


def test_old_answers_are_forgotten() -> None:
    bench = Bench()
    for number in range(100):
        bench.receive(at(1), sequence=number, verification=Inventory(f"v{number}", ()))
    assert bench.fleet.inventories("v0") == {"n1": None}
    assert bench.fleet.inventories("v99") == {"n1": Inventory("v99", ())}


# Waiting for news.


async def test_waiting_ends_with_the_news_or_the_time() -> None:
    bench = Bench()
    bench.receive(at(1))
    version = bench.fleet.version
    await bench.fleet.change(version - 1, 60)  # it came already
    await bench.fleet.change(version, 0.01)
    assert bench.fleet.version == version


async def test_a_wait_for_so_many_nodes_ends_with_the_last_of_them() -> None:
    bench = Bench()
    for number in range(3):
        bench.receive(at(4), node=f"n{number}", incarnation=f"i{number}")
    waiting = asyncio.create_task(bench.reached(5, count=2))
    await asyncio.sleep(0)
    for number, told in ((0, at(5)), (0, at(5)), (1, at(9, epoch="another")), (2, at(4))):
        bench.receive(told, node=f"n{number}", incarnation=f"i{number}", sequence=bench.next())
        await asyncio.sleep(0)
        assert not waiting.done(), told
    bench.receive(at(6), node="n2", incarnation="i2", sequence=bench.next())
    assert await waiting
    assert bench.fleet.waiting == 0
    assert await bench.reached(5, count=2)  # there is nothing to wait for any more


async def test_a_wait_for_so_many_nodes_ends_when_none_is_at_it_any_more() -> None:
    bench = Bench()
    bench.receive(at(4), node="n1")
    bench.receive(at(4), node="n2", incarnation="two")
    waiting = asyncio.create_task(bench.reached(5, count=2))
    await asyncio.sleep(0)
    bench.receive(at(5, exceptions=(refusal(5),)), sequence=bench.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.receive(at(5), node="n2", incarnation="two", sequence=bench.next())
    assert await waiting
    assert not await bench.reached(5, count=2)  # at once: whoever asks had better wait for news
    bench.now += 4 * HEARTBEAT
    assert not await bench.reached(6, count=1)  # the lost are not waited for


async def test_a_wait_for_so_many_nodes_looks_again_when_one_says_goodbye() -> None:
    bench = Bench()
    bench.receive(at(4), node="n1")
    waiting = asyncio.create_task(bench.reached(5, count=1))
    await asyncio.sleep(0)
    bench.receive(leaving=True, sequence=2)
    assert await waiting


# Dates.


def test_what_was_reached_before_the_first_report_is_dated_before_it() -> None:
    bench = Bench()
    bench.receive(at(500))  # a heartbeat: nothing was changed just now
    bench.now += 5
    bench.receive(at(501, took_us=80), sequence=2)
    first = bench.wall_ms() - 5_000
    assert (bench.receipt(400).at, bench.receipt(400).before) == (0, first)
    assert (bench.receipt(500).at, bench.receipt(500).before) == (0, first)
    assert (bench.receipt(501).at, bench.receipt(501).before) == (bench.wall_ms(), 0)


def test_what_is_older_than_the_memory_is_dated_before_the_oldest_in_it() -> None:
    bench = Bench()
    for number in range(1, 201):
        bench.now += 1
        bench.receive(at(number, took_us=1), sequence=number)
    oldest = bench.receipt(200 - WATERMARKS + 1)
    assert oldest.at > 0
    assert (bench.receipt(1).at, bench.receipt(1).before) == (0, oldest.at)


# What failed.


def test_a_failure_names_the_artifact_and_when_it_is_tried_again() -> None:
    bench = Bench()
    named = ApplyException("id", 5, "00", "bad endpoint", 3, 9_000, "api Menu 1.0.0")
    bench.receive(at(7, exceptions=(named, refusal(6))))
    bench.now += 4
    receipt = bench.receipt(7, first=5)
    assert receipt.reason == "api Menu 1.0.0: bad endpoint (attempt 3, next in 5.0 s), and 1 more"
    assert [(each.api_id, each.next_try_ms) for each in receipt.failures] == [
        ("id", 5_000),
        ("menu", 0),
    ]


def test_a_lost_node_says_for_how_long_it_was_silent() -> None:
    bench = Bench()
    bench.receive(at(3), status="ready", mode="sync")
    heard = bench.wall_ms()
    bench.now += 90
    receipt = bench.receipt(4)
    assert (receipt.status, receipt.silent_ms) == (ReceiptStatus.LOST, 90_000)
    [node] = bench.fleet.nodes()
    assert (node.heard_at, node.status, node.mode) == (heard, "ready", "sync")


async def test_a_thousand_reports_wake_who_waits_once() -> None:
    bench = Bench()
    waiting = asyncio.create_task(bench.fleet.change(bench.fleet.version, 60))
    await asyncio.sleep(0)
    for number in range(1_000):
        bench.receive(at(1), node=f"n{number}", incarnation=f"i{number}")
    await waiting
    assert bench.fleet.waiting == 0
    assert len(bench.fleet) == bench.fleet.version == 1_000
