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
from gatesync.publisher.answers import ReceiptsAnswer
from gatesync.publisher.fleet import Receipt, ReceiptStatus
from gatesync.web.client import HttpClient, UnreachableError

__all__ = ["Awaited", "Goal", "parse_goal", "wait_for"]

RETRY_SECONDS: Final = 0.5  # between two questions to a publisher that does not answer
POLL_SECONDS: Final = 5.0  # one long poll; a lost gateway is noticed between two
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
    """How a wait ended for one label."""

    label: str
    epoch: str
    revision: int
    reached: bool
    needed: int
    receipts: tuple[Receipt, ...]


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
    progress: Callable[[str, int, int], None],
) -> list[Awaited]:
    """Wait until each label's head has reached the goal.

    Args:
        client: a publisher.
        heads: each with the first revision that matters in its label.
        goal: how many gateways.
        timeout: seconds for all together.
        progress: called with the label, how many have it, and how many are needed.
    """
    deadline = time.monotonic() + timeout
    return [await _wait(client, head, first, goal, deadline, progress) for head, first in heads]


async def _wait(
    client: HttpClient,
    head: Head,
    first: int,
    goal: Goal,
    deadline: float,
    progress: Callable[[str, int, int], None],
) -> Awaited:
    pause, version = 0.0, -1
    while True:
        params = [("label", head.label), ("epoch", head.epoch), ("revision", head.revision)]
        params += [("first", first), ("version", version), ("wait", f"{pause:.3f}")]
        answer = await _ask(client, params, deadline)
        have = sum(each.status is ReceiptStatus.APPLIED for each in answer.receipts)
        needed = goal.needed(len(answer.receipts))
        progress(head.label, have, needed)
        reached = have >= needed
        left = deadline - time.monotonic()
        if reached or left <= 0:
            return Awaited(head.label, head.epoch, head.revision, reached, needed, answer.receipts)
        pause, version = min(POLL_SECONDS, left), answer.version


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
