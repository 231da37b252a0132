"""`--wait`: until enough gateways have it, or the time is up; and who has it, and who not."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gatesync.artifacts.changes import Head
from gatesync.artifacts.errors import Problem
from gatesync.cli.output import Output, ago
from gatesync.publisher.answers import ReceiptsAnswer
from gatesync.publisher.receipts import Receipt, ReceiptStatus
from gatesync.web.client import HttpClient, UnreachableError

__all__ = [
    "Awaited",
    "Goal",
    "parse_goal",
    "progress_of",
    "tell_awaited",
    "wait_for",
    "worth_waiting",
]

RETRY_SECONDS: Final = 0.5  # between two questions to a publisher that does not answer
POLL_SECONDS: Final = 1.0  # one long poll; between two it is told how far it is
LOST_MS: Final = 60_000  # a gateway that is restarted comes back sooner than this
NAMED: Final = 20  # gateways that a list names one by one
_COUNT: Final = re.compile(r"([0-9]{1,6})(%?)")


class Goal(msgspec.Struct, frozen=True):
    """How many gateways must have it: `count`, or `share` of those known, from 0 to 1.

    `expect`: how many there must be at least; None stands for at least one.
    """

    count: int | None
    share: float
    expect: int | None

    def needed(self, known: int) -> int:
        """How many of `known` gateways must have it."""
        least = 1 if self.expect is None else self.expect
        if self.count is not None:
            return self.count
        return math.ceil(self.share * max(known, least))


class Awaited(msgspec.Struct, frozen=True):
    """How a wait ended for one label; `gave_up` where it was over before its time was up."""

    label: str
    epoch: str
    revision: int
    reached: bool
    needed: int
    receipts: tuple[Receipt, ...]
    gave_up: bool = False


def parse_goal(wait: str, expect: int | None) -> Goal:
    """Read `all`, `N` or `P%`. Raises `Problem` for anything else."""
    if wait == "all":
        return Goal(None, 1.0, expect)
    if found := _COUNT.fullmatch(wait):
        number = int(found[1])
        if not found[2]:
            return Goal(number, 1.0, expect)
        if number <= 100:
            return Goal(None, number / 100, expect)
    raise Problem(f"--wait {wait!r} is not understood; write all, a number, or a share such as 95%")


async def wait_for(
    client: HttpClient,
    heads: Sequence[tuple[Head, int]],
    goal: Goal,
    timeout: float,
    progress: Callable[[str], None],
) -> list[Awaited]:
    """Wait until each label's head has reached the goal, or nobody is left to wait for.

    Args:
        client: a publisher.
        heads: each with the first revision that matters in its label.
        goal: how many gateways.
        timeout: seconds for all together.
        progress: called with how it stands, for people.
    """
    deadline = time.monotonic() + timeout
    return [await _wait(client, head, first, goal, deadline, progress) for head, first in heads]


async def _wait(
    client: HttpClient,
    head: Head,
    first: int,
    goal: Goal,
    deadline: float,
    progress: Callable[[str], None],
) -> Awaited:
    pause, version, needed = 0.0, -1, 0
    while True:
        params = [("label", head.label), ("epoch", head.epoch), ("revision", head.revision)]
        params += [("first", first), ("version", version), ("wait", f"{pause:.3f}")]
        params += [("applied", needed)] if needed else []
        answer = await _ask(client, params, deadline)
        have = sum(each.status is ReceiptStatus.APPLIED for each in answer.receipts)
        needed = goal.needed(len(answer.receipts))
        progress(progress_of(head.label, answer.receipts, needed))
        reached = have >= needed
        left = deadline - time.monotonic()
        gave_up = not reached and not worth_waiting(answer.receipts, needed)
        if reached or gave_up or left <= 0:
            return Awaited(
                *(head.label, head.epoch, head.revision), reached, needed, answer.receipts, gave_up
            )
        pause, version = min(POLL_SECONDS, left), answer.version


def worth_waiting(receipts: Sequence[Receipt], needed: int) -> bool:
    """Whether more time may help: somebody is at it, or there are fewer than are needed.

    Who refused it has said so: the next try may be far away. Who was lost a moment ago may be
    back in another.
    """
    return len(receipts) < needed or any(
        each.status is ReceiptStatus.WAITING
        or (each.status is ReceiptStatus.LOST and each.silent_ms < LOST_MS)
        for each in receipts
    )


def progress_of(label: str, receipts: Sequence[Receipt], needed: int) -> str:
    """How a wait stands, in one line."""
    have = sum(each.status is ReceiptStatus.APPLIED for each in receipts)
    waiting = [each.node for each in receipts if each.status is ReceiptStatus.WAITING]
    text = f"{label}: {have} of {needed} gateways have it"
    for reason in _reasons(receipts):
        text += f", {reason}"
    return f"{text}; waiting for {_names(waiting, 3)}" if waiting else text


def tell_awaited(awaited: Awaited, published_at: int, output: Output) -> None:
    """Tell how a wait ended: who has it and when, who has not and why.

    `published_at` is in milliseconds since 1970; 0 where nothing was published.
    """
    have = [each for each in awaited.receipts if each.status is ReceiptStatus.APPLIED]
    known = len(awaited.receipts)
    output.line(
        f"{awaited.label}: {len(have)} of {known} gateways have revision {awaited.revision}"
    )
    if len(have) <= NAMED:
        for each in awaited.receipts:
            output.line(f"  {each.node}  {_said(each, published_at)}")
    else:
        times = sorted(each.at for each in have if each.at)
        last = _after(times[-1], published_at) if times else ""
        output.line(f"  {len(have)} gateways  applied{last and ', the last'}{last}")
        for each in awaited.receipts:
            if each.status is not ReceiptStatus.APPLIED:
                output.line(f"  {each.node}  {_said(each, published_at)}")
    if awaited.reached:
        return
    if not known:
        output.problem(
            f"no gateway of label {awaited.label!r} is known; use --expect 0 if there is none"
        )
    else:
        late = "" if awaited.gave_up else " in time"
        text = f"{awaited.label}: {awaited.needed} gateways were to have it{late}"
        output.problem("; ".join((text, *_reasons(awaited.receipts))))


def _said(receipt: Receipt, published_at: int) -> str:
    if receipt.status is ReceiptStatus.APPLIED:
        return f"applied{_after(receipt.at, published_at)}"
    return f"{receipt.status.value}: {receipt.reason}"


def _after(at: int, published_at: int) -> str:
    return f" after {ago(max(0, at - published_at))}" if at and published_at else ""


def _reasons(receipts: Sequence[Receipt]) -> list[str]:
    """Who will not have it soon."""
    said = {
        ReceiptStatus.FAILED: "refused by",
        ReceiptStatus.HELD: "held by",
        ReceiptStatus.LOST: "lost:",
    }
    names = {status: [each.node for each in receipts if each.status is status] for status in said}
    return [
        f"{words} {_names(names[status], 5)}" for status, words in said.items() if names[status]
    ]


def _names(names: Sequence[str], most: int) -> str:
    return ", ".join(names) if len(names) <= most else f"{len(names)} gateways"


async def _ask(
    client: HttpClient, params: Sequence[tuple[str, Any]], deadline: float
) -> ReceiptsAnswer:
    """Ask for receipts, again while a publisher that went away may come back.

    What is waited for is stored already, so nothing is at stake but the answer.
    """
    while True:
        try:
            return await client.get("/v1/receipts", ReceiptsAnswer, params)
        except UnreachableError:
            if time.monotonic() + RETRY_SECONDS >= deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)
