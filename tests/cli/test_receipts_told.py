"""What is said of gateways: whom a wait still waits for, how it ends, and who stands first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.changes import Head
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.cli.gateways import STATES, gateway_rows, summary_of
from gatesync.cli.output import Output
from gatesync.cli.waiting import Awaited, progress_of, tell_awaited, worth_waiting
from gatesync.events.messages import ApplyException, LabelReport
from gatesync.publisher.receipts import NodeStatus, Receipt, ReceiptStatus

pytestmark = [pytest.mark.fast, pytest.mark.promise(9)]

APPLIED = Receipt("gw1", ReceiptStatus.APPLIED, at=1_700_000_000_250)
WAITING = Receipt("gw2", ReceiptStatus.WAITING, reason="at revision 6")
FAILED = Receipt("gw3", ReceiptStatus.FAILED, reason="api Menu: no (attempt 1, next in 9.0 s)")
HELD = Receipt("gw4", ReceiptStatus.HELD, reason="3 removals wait")
LOST = Receipt("gw5", ReceiptStatus.LOST, reason="not heard of for 61 s", silent_ms=61_000)
MISSING = Receipt("gw6", ReceiptStatus.LOST, reason="not heard of for 59 s", silent_ms=59_000)


@pytest.mark.parametrize("goal", [2, 3, 6])
@pytest.mark.parametrize("other", [WAITING, MISSING])
def test_who_is_at_it_or_may_come_back_is_waited_for(other: Receipt, goal: int) -> None:
    assert worth_waiting([APPLIED, FAILED, other], goal)


@pytest.mark.parametrize("other", [FAILED, HELD, LOST])
def test_nobody_is_waited_for_who_will_not_come(other: Receipt) -> None:
    assert not worth_waiting([APPLIED, other], 2)
    assert not worth_waiting([APPLIED, FAILED, other], 2)


@pytest.mark.parametrize("receipts", [[], [APPLIED], [APPLIED, FAILED]])
def test_gateways_that_are_not_known_yet_are_waited_for(receipts: list[Receipt]) -> None:
    assert worth_waiting(receipts, 3)


def test_progress_says_who_refused_and_whom_is_waited_for() -> None:
    receipts = [APPLIED, WAITING, FAILED, LOST]
    assert progress_of("L", receipts, 4) == (
        "L: 1 of 4 gateways have it, refused by gw3, lost: gw5; waiting for gw2"
    )
    assert progress_of("L", [APPLIED], 1) == "L: 1 of 1 gateways have it"


def told(capsys: pytest.CaptureFixture[str], awaited: Awaited) -> tuple[list[str], str]:
    tell_awaited(awaited, 1_700_000_000_000, Output(json=False))
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err


def test_the_end_of_a_wait_names_each_with_time_or_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    receipts = (APPLIED, FAILED, LOST)
    lines, error = told(capsys, Awaited("L", "e", 7, False, 3, receipts, gave_up=True))
    assert lines == [
        "L: 1 of 3 gateways have revision 7",
        "  gw1  applied after 250 ms",
        "  gw3  failed: api Menu: no (attempt 1, next in 9.0 s)",
        "  gw5  lost: not heard of for 61 s",
    ]
    assert error == "gatesync: L: 3 gateways were to have it; refused by gw3; lost: gw5\n"


def test_of_many_gateways_only_those_that_lack_it_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = [
        Receipt(f"n{number}", ReceiptStatus.APPLIED, at=1_700_000_000_000 + number)
        for number in range(1, 998)
    ]
    receipts = (*many, FAILED, WAITING, *([LOST] * 6))
    lines, error = told(capsys, Awaited("L", "e", 7, False, 1_005, receipts))
    assert lines[:4] == [
        "L: 997 of 1005 gateways have revision 7",
        "  997 gateways  applied, the last after 997 ms",
        "  gw3  failed: api Menu: no (attempt 1, next in 9.0 s)",
        "  gw2  waiting: at revision 6",
    ]
    assert len(lines) == 10
    assert error.endswith("were to have it in time; refused by gw3; lost: 6 gateways\n")


# The table.


def gateway(name: str, *labels: LabelReport, **more: Any) -> NodeStatus:
    silent = more.pop("silent_ms", 0)
    return NodeStatus(
        name, "memory", "1", "", 9_000, silent, more.pop("lost", False), labels,
        **({"heard_at": 1_700_000_000_000} | more),
    )  # fmt: skip


def at(applied: int, label: str = "L", **more: Any) -> LabelReport:
    return LabelReport(label, "e", applied, applied, EMPTY_LABEL, 2, **more)


REFUSED = ApplyException("id", 7, "00", "no", 2, 9_000, "api Menu 1.0.0")
ONE_OF_EACH = [
    gateway("a-good", at(7, proof_age_ms=100)),
    gateway("b-stale", at(7, stale=True)),
    gateway("c-starting", at(3), status="starting"),
    gateway("d-behind", at(6), status="ready"),
    gateway("e-held", at(7, held=3)),
    gateway("e-untrusted", at(6, untrusted="revision 7 is not signed")),
    gateway("f-unserved", at(7), status="unserved"),
    gateway("f-lost", at(7), lost=True, silent_ms=300_000),
    gateway("g-failed", at(7, exceptions=(REFUSED,), failed=4), silent_ms=2_000),
]


def test_the_worst_stand_first_with_the_reason() -> None:
    rows = gateway_rows(ONE_OF_EACH, [Head("L", "e", 7)])
    assert [row.state for row in rows] == list(STATES)
    assert {row.state: row.why for row in rows} == {
        "failed": "api Menu 1.0.0: no (attempt 2, next in 7.0 s), and 3 more",
        "lost": "not heard since 2023-11-14 22:13:20 UTC (5 min)",
        "unserved": "what serves its artifacts is away or behind; /health/ready says why",
        "untrusted": "revision 7 is not signed",
        "held": "3 removals wait for labels confirm",
        "behind": "the head is at 7",
        "starting": "the head is at 7",
        "stale": "its proof is too old: it cannot tell whether it is in step",
        "in step": "",
    }


def test_a_summary_counts_each_gateway_once_by_its_worst_label() -> None:
    both = gateway("both", at(7), at(1, "M"), at(7, "N", held=1))
    heads = [Head(label, "e", 7) for label in ("L", "M", "N")]
    assert summary_of(gateway_rows([both], heads)) == "1 gateway, 1 held"
    assert summary_of(gateway_rows(ONE_OF_EACH, heads)).startswith("9 gateways, 1 failed, 1 lost,")


@given(st.permutations(ONE_OF_EACH))
def test_the_order_does_not_depend_on_who_reported_first(nodes: list[NodeStatus]) -> None:
    heads = [Head("L", "e", 7)]
    assert gateway_rows(nodes, heads) == gateway_rows(ONE_OF_EACH, heads)


def test_a_gateway_without_labels_is_starting_or_lost() -> None:
    rows = gateway_rows([gateway("a"), gateway("b", lost=True, silent_ms=300_000)], [])
    assert [(row.node, row.state) for row in rows] == [("b", "lost"), ("a", "starting")]
    assert rows[0].why == "not heard since 2023-11-14 22:13:20 UTC (5 min)"
