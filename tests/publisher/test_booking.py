"""Receipts survive their publisher, and every publisher can answer."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gatesync.artifacts.changes import Cursor
from gatesync.events.messages import LabelReport
from gatesync.publisher.booking import Booking
from gatesync.publisher.fleet import Fleet, NodeStatus, Receipt, ReceiptStatus
from gatesync.publisher.nodes import WATERMARKS, merged_rises
from gatesync.publisher.receipts import Rise
from gatesync.stores.receipts import MemoryReceiptBook, NodeRecord
from gatesync.stores.store import StoreError
from tests.publisher.test_fleet import EPOCH, HEARTBEAT, at, refusal, report

pytestmark = [pytest.mark.fast, pytest.mark.promise(9)]

WEEK = 7 * 86_400.0


class CountedBook(MemoryReceiptBook):
    """Can fail, can be slow, and counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.failure = ""
        self.rows: list[int] = []
        self.listings = 0
        self.delayed: asyncio.Event | None = None

    async def editions(self) -> dict[str, int]:
        self.listings += 1
        self._fail()
        return await super().editions()

    async def read(self, nodes: Collection[str]) -> list[NodeRecord]:
        self._fail()
        return await super().read(nodes)

    async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
        if self.delayed is not None:
            await self.delayed.wait()
        self._fail()
        self.rows.append(len(records))
        return await super().write(records, seen)

    def _fail(self) -> None:
        if self.failure:
            raise StoreError(self.failure)


class Site:
    """Publishers with one book and one clock, which the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.book = CountedBook()

    def wall(self) -> float:
        return 1_700_000_000 + self.now

    def publisher(self, *, behind: float = 0.0, **options: Any) -> "One":
        """`behind`: seconds by which its wall clock is late."""
        return One(self, behind, options)


class One:
    """A publisher's fleet and booking; its monotonic clock began when it did."""

    def __init__(self, site: Site, behind: float, options: dict[str, Any]) -> None:
        began = site.now
        self.clock = lambda: site.now - began
        self.wall = lambda: site.wall() - behind
        times: Any = {"heartbeat": HEARTBEAT, "clock": self.clock, "wall_clock": self.wall}
        self.fleet = Fleet(**times)
        self.booking = Booking(self.fleet, site.book, **times, **options)

    async def turn(self) -> None:
        await self.booking.turn()

    def hear(self, *labels: LabelReport, everywhere: bool = True, **more: Any) -> None:
        self.fleet.receive(report(*labels, **more), everywhere=everywhere)

    def receipt(self, revision: int, label: str = "L", node: str = "n1") -> Receipt:
        found = self.fleet.receipts(label, Cursor(EPOCH, revision), revision)
        return {each.node: each for each in found}[node]

    def node(self) -> NodeStatus:
        [node] = self.fleet.nodes()
        return node


# A restart.


async def test_receipts_survive_a_restart_of_the_publisher() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(1, took_us=5), at(7, label="M"))
    site.now += 3
    before.hear(at(4, took_us=900), sequence=2)
    await before.turn()
    told = [before.receipt(1), before.receipt(4), before.receipt(7, "M")]
    site.now += 100
    after = site.publisher()
    await after.turn()
    assert [after.receipt(1), after.receipt(4), after.receipt(7, "M")] == told
    assert told[1].took_us == 900
    assert told[1].at == int((site.wall() - 100) * 1000)


async def test_why_a_node_refused_survives_too() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(5, exceptions=(refusal(5),)))
    await before.turn()
    site.now += 1
    after = site.publisher()
    await after.turn()
    receipt = after.receipt(5)
    assert receipt.status is ReceiptStatus.FAILED
    assert "bad endpoint (attempt 3, next in 0.5 s)" in receipt.reason


async def test_a_node_that_was_lost_is_shown_as_lost_since_then() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(3))
    await before.turn()
    heard = int(site.wall() * 1000)
    site.now += 16
    await before.turn()
    assert before.node().lost
    site.now += 3_600
    after = site.publisher()
    await after.turn()
    assert (after.node().lost, after.node().heard_at) == (True, heard)
    receipt = after.receipt(4)
    assert (receipt.status, receipt.silent_ms) == (ReceiptStatus.LOST, 3_616_000)
    assert after.receipt(3).status is ReceiptStatus.APPLIED


async def test_a_node_is_not_lost_because_its_publisher_was_away() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(3))
    await before.turn()
    site.now += 3_600
    after = site.publisher()
    await after.turn()
    assert after.receipt(4).status is ReceiptStatus.WAITING
    site.now += 5 * HEARTBEAT + 0.1
    assert after.receipt(4).status is ReceiptStatus.LOST
    assert after.node().silent_ms == 3_625_100


async def test_a_node_that_says_goodbye_leaves_the_book() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(3))
    before.hear(at(3), node="n2")
    await before.turn()
    before.hear(sequence=2, leaving=True)
    await before.turn()
    after = site.publisher()
    await after.turn()
    assert after.node().node == "n2"


async def test_who_starts_anew_is_not_dated_by_the_process_before() -> None:
    site = Site()
    before = site.publisher()
    before.hear(at(5, took_us=1))
    await before.turn()
    site.now += 60
    before.hear(at(5), incarnation="two", uptime=0)
    await before.turn()
    after = site.publisher()
    await after.turn()
    for one in (before, after):
        receipt = one.receipt(5)
        assert (receipt.at, receipt.before) == (0, int(site.wall() * 1000))


async def test_a_silent_node_is_forgotten_in_the_end() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher(forget_after=3_600.0)
    one.hear(at(3))
    await one.turn()
    await other.turn()
    site.now += 3_500
    await other.turn()
    assert other.node().lost
    site.now += 200
    await other.turn()
    assert other.fleet.nodes() == []
    await one.turn()
    assert one.fleet.nodes() == [], "the book forgot it"
    one.hear(at(3), sequence=2)
    assert not one.node().lost, "and it is welcome when it comes back"


# Several publishers.


async def test_a_publisher_that_heard_nothing_can_answer() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    await other.turn()
    one.hear(at(4, took_us=70), everywhere=False)
    await one.turn()
    site.now += HEARTBEAT
    await other.turn()
    assert other.receipt(4) == one.receipt(4)
    assert other.receipt(4).took_us == 70


async def test_whoever_waits_learns_in_the_next_turn() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    await other.turn()
    waiting = asyncio.create_task(other.fleet.change(other.fleet.version, 60))
    await asyncio.sleep(0)
    one.hear(at(4))
    await one.turn()
    site.now += 1  # less than a heartbeat
    await other.turn()
    await waiting
    assert other.receipt(4).status is ReceiptStatus.APPLIED


async def test_a_node_that_moved_to_another_publisher_is_not_lost() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    one.hear(at(1), everywhere=False)
    for turn in range(40):  # seconds
        site.now += 1
        if turn % HEARTBEAT == 0:
            other.hear(at(1), sequence=2 + turn, everywhere=False)
        await other.turn()
        await one.turn()
        assert not one.node().lost
        assert one.receipt(2).status is ReceiptStatus.WAITING


async def test_newer_news_wins_whoever_writes_last() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    one.hear(at(1, took_us=1), at(1, label="M"))
    await one.turn()
    await other.turn()
    other.hear(at(5, took_us=5), sequence=9, everywhere=False)
    one.hear(at(2, label="M", took_us=2), sequence=8, everywhere=False)  # it comes late
    for _ in range(2):
        await other.turn()
        await one.turn()
        site.now += HEARTBEAT
    third = site.publisher()
    for each in (one, other, third):
        await each.turn()
        assert each.receipt(5).took_us == 5
        assert each.receipt(2, "M").took_us == 2
        assert each.receipt(1).took_us == 1


async def test_a_goodbye_that_one_heard_is_known_to_all() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    one.hear(at(1), everywhere=False)
    await one.turn()
    await other.turn()
    other.hear(sequence=2, leaving=True, everywhere=False)
    await other.turn()
    site.now += HEARTBEAT
    await one.turn()
    assert one.fleet.nodes() == other.fleet.nodes() == []
    await other.turn()
    assert await site.book.editions() == {}


async def test_a_late_goodbye_does_not_take_the_new_process_along() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    one.hear(at(1))
    await one.turn()
    await other.turn()
    other.hear(at(1), incarnation="two", uptime=0)
    one.hear(sequence=2, leaving=True)
    await other.turn()
    await one.turn()
    site.now += HEARTBEAT
    for each in (one, other, one):
        await each.turn()
    assert one.node().node == other.node().node == "n1"


async def test_an_earlier_process_in_the_book_gives_way_to_the_living_one() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    one.hear(at(9), incarnation="one", uptime=500)
    await one.turn()
    other.hear(at(2), incarnation="two", uptime=1)
    await other.turn()
    await other.turn()
    site.now += HEARTBEAT
    await one.turn()
    for each in (one, other):
        assert each.receipt(9).status is ReceiptStatus.WAITING
        assert each.receipt(2).status is ReceiptStatus.APPLIED


async def test_clocks_that_differ_by_a_minute_lose_nothing() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher(behind=60.0)
    for number in range(1, 5):
        (one if number % 2 else other).hear(
            at(number, took_us=number), sequence=number, everywhere=False
        )
        site.now += HEARTBEAT
        for each in (one, other, one, other):
            await each.turn()
    site.now += HEARTBEAT
    for each in (one, other):
        await each.turn()
        assert [each.receipt(number).took_us for number in range(1, 5)] == [1, 2, 3, 4]


# How little it costs.


async def test_merely_being_alive_is_rarely_written() -> None:
    site = Site()
    one, other = site.publisher(), site.publisher()
    for second in range(120):
        site.now += 1
        if second % HEARTBEAT == 0:
            for each in (one, other):
                each.hear(at(3, proof_age_ms=second), sequence=second + 1)
        await one.turn()
        await other.turn()
    assert sum(site.book.rows) <= 1 + 1 + 120 / (6 * HEARTBEAT)
    assert site.book.listings <= 2 * (120 / HEARTBEAT + 6)
    assert not one.node().lost


async def test_a_thousand_nodes_that_answer_are_one_write() -> None:
    site = Site()
    one = site.publisher()
    await one.turn()
    for number in range(1_000):
        one.hear(at(1), node=f"n{number}", incarnation=f"i{number}")
    await one.turn()
    assert site.book.rows == [1_000]
    await one.turn()
    assert site.book.rows == [1_000]


async def test_while_changes_follow_each_other_a_node_is_written_once_a_heartbeat() -> None:
    site = Site()
    one = site.publisher()
    for second in range(20):
        one.hear(at(second), sequence=second + 1)
        await one.turn()
        site.now += 1
    assert len(site.book.rows) == 20 / HEARTBEAT
    await one.booking.turn(everything=True)
    after = site.publisher()
    await after.turn()
    assert after.receipt(19) == one.receipt(19)


async def test_what_nobody_else_hears_is_written_in_the_next_turn() -> None:
    site = Site()
    one = site.publisher()
    for second in range(5):
        one.hear(at(second), sequence=second + 1, everywhere=False)
        await one.turn()
        site.now += 1
    assert len(site.book.rows) == 5


# A book that fails.


async def test_a_book_that_is_away_is_told_of_once_and_harms_nothing() -> None:
    site = Site()
    one = site.publisher()
    site.book.failure = "database shop: connection refused"
    with capture_logs() as logs:
        for number in range(1, 5):
            one.hear(at(number, took_us=1), sequence=number)
            await one.turn()
            site.now += HEARTBEAT
        assert one.receipt(4).status is ReceiptStatus.APPLIED
        site.book.failure = ""
        await one.turn()
    told = [(each["log_level"], each["event"]) for each in logs]
    assert told == [
        ("warning", "receipts are kept in memory only"),
        ("info", "receipts are kept again"),
    ]
    assert logs[0]["reason"] == "database shop: connection refused"
    after = site.publisher()
    await after.turn()
    assert after.receipt(2) == one.receipt(2), "nothing of it is missing afterwards"


async def test_a_write_of_unknown_outcome_is_looked_into() -> None:
    site = Site()
    one = site.publisher()
    await one.turn()
    one.hear(at(1))

    class Torn(CountedBook):
        async def write(self, records: Sequence[NodeRecord], seen: Mapping[str, int]) -> set[str]:
            await site.book.write(records, seen)
            raise StoreError("the connection broke")

    one.booking._book = Torn()
    await one.turn()
    one.booking._book = site.book
    one.hear(at(2), sequence=2)
    for _ in range(2):
        await one.turn()
    after = site.publisher()
    await after.turn()
    assert after.receipt(2).status is ReceiptStatus.APPLIED


async def test_what_comes_while_the_book_writes_is_written_next() -> None:
    site = Site()
    one = site.publisher()
    one.hear(at(1))
    site.book.delayed = asyncio.Event()
    turn = asyncio.create_task(one.turn())
    while not turn.done() and one.fleet.unbooked:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    one.hear(at(2), sequence=2)
    site.book.delayed.set()
    await turn
    site.now += HEARTBEAT
    await one.turn()
    after = site.publisher()
    await after.turn()
    assert after.receipt(2).status is ReceiptStatus.APPLIED


async def test_what_another_version_wrote_is_left_alone() -> None:
    site = Site()
    strange = NodeRecord("n9", 7, int(site.wall() * 1000), b"\x80")
    await site.book.write([strange], {})
    one = site.publisher()
    one.hear(at(1))
    with capture_logs() as logs:
        for _ in range(3):
            await one.turn()
            site.now += HEARTBEAT
    assert [each["node"] for each in logs] == ["n9"]
    assert await site.book.read(["n9"]) == [strange]
    assert one.receipt(1).status is ReceiptStatus.APPLIED


async def test_what_is_not_booked_yet_is_booked_at_the_end() -> None:
    site = Site()
    one = site.publisher()
    running = asyncio.create_task(one.booking.run())
    while not site.book.listings:  # noqa: ASYNC110 - a few turns of the loop
        await asyncio.sleep(0)
    one.hear(at(1))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert set(await site.book.editions()) == {"n1"}


# Rises.

rises = st.lists(st.integers(1, 50), unique=True).map(sorted)


@given(rises, rises)
def test_merged_rises_have_each_once_in_order(ours: list[int], theirs: list[int]) -> None:
    mine = [Rise(each - 1, each, 1_000 + each, 1) for each in ours]
    others = [Rise(each - 1, each, 2_000 + each, 2) for each in theirs]
    merged = merged_rises(mine, others)
    assert [each.revision for each in merged] == sorted({*ours, *theirs})
    assert {each.revision for each in merged if each.took_us == 1} == set(ours)
    assert merged == merged_rises(others, mine)
    assert merged == merged_rises(merged, others)


def test_no_more_rises_are_kept_than_a_node_has_room_for() -> None:
    many = [Rise(each - 1, each, each, 1) for each in range(1, 300)]
    assert [each.revision for each in merged_rises(many, ())] == list(range(300 - WATERMARKS, 300))
