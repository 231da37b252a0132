"""gateways: who is in step and who is not, since when, and why; the worst first."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gatesync.artifacts.changes import Head
from gatesync.cli.output import Output, ago
from gatesync.cli.remembering import said_when
from gatesync.cli.rsync_showing import WORKER_COLUMNS, worker_rows
from gatesync.cli.session import Target, call, open_session
from gatesync.events.messages import ApplyException, LabelReport
from gatesync.publisher.answers import GatewaysAnswer
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.publisher.receipts import NodeStatus
from gatesync.web.client import HttpClient, UnreachableError

__all__ = ["GatewayRow", "gateway_rows", "show_gateways", "summary_of"]

WATCH_SECONDS: Final = 1.0
STATES: Final = (
    *("failed", "lost", "unserved", "untrusted", "held", "behind", "starting", "stale", "in step"),
)
"""From the one that needs somebody to look to the one that does not."""

_COLUMNS: Final = ("GATEWAY", "LABEL", "STATE", "REVISION", "ARTIFACTS", "PROOF", "WHY")
_ENVIRONMENT_COLUMNS: Final = (
    *("ENVIRONMENT", "LABEL", "STATE", "REVISION", "NODE", "ANSWERED", "WHY"),
)


class GatewayRow(NamedTuple):
    """One label at one gateway, as the table shows it."""

    node: str
    label: str
    state: str
    revision: int | str
    artifacts: int | str
    proof: str
    why: str


def show_gateways(target: Target, output: Output, *, watch: bool) -> int:
    """Show who is in step and who is not, since when, and why."""
    if watch and not output.json:
        return _watch(target, output)

    async def work(client: HttpClient) -> GatewaysAnswer:
        return await client.get("/v1/gateways", GatewaysAnswer)

    answer = call(target, work)
    output.document(answer)
    rows = gateway_rows(answer.gateways, answer.heads)
    if rows:
        output.table(_COLUMNS, rows)
    elif not answer.workers:
        output.line("no gateway has reported to this publisher yet")
    if answer.environments:
        output.line("")
        output.table(_ENVIRONMENT_COLUMNS, _environment_rows(answer.environments))
    if answer.workers:
        if rows or answer.environments:
            output.line("")
        output.table(WORKER_COLUMNS, worker_rows(answer.workers))
    return 0


def gateway_rows(nodes: Sequence[NodeStatus], heads: Sequence[Head]) -> list[GatewayRow]:
    """A row for each label of each gateway, the worst first."""
    known = {head.label: head for head in heads}
    rows: list[GatewayRow] = []
    for node in nodes:
        for label in node.labels:
            state, why = _state(node, label, known.get(label.label))
            proof = "-" if label.proof_age_ms is None else ago(label.proof_age_ms + node.silent_ms)
            rows.append(
                GatewayRow(
                    node.node, label.label, state, label.applied, label.count_applied, proof, why
                )
            )
        if not node.labels:
            state, why = ("lost", _since(node)) if node.lost else ("starting", "")
            rows.append(GatewayRow(node.node, "-", state, "-", "-", "-", why))
    return sorted(rows, key=lambda row: (STATES.index(row.state), row.node, row.label))


def summary_of(rows: Sequence[GatewayRow]) -> str:
    """How many gateways there are, and in which state: of several labels the worst counts."""
    worst: dict[str, str] = {}
    for row in rows:  # the worst stand first
        worst.setdefault(row.node, row.state)
    counts = Counter(worst.values())
    gateways = "1 gateway" if len(worst) == 1 else f"{len(worst)} gateways"
    return ", ".join([gateways, *(f"{counts[each]} {each}" for each in STATES if counts[each])])


def _state(node: NodeStatus, label: LabelReport, head: Head | None) -> tuple[str, str]:
    """How a gateway is with a label, and why."""
    if node.lost:
        return "lost", _since(node)
    if label.exceptions:
        others = max(label.failed, len(label.exceptions)) - 1
        more = f", and {others} more" if others else ""
        return "failed", _failure(label.exceptions[0], node.silent_ms) + more
    if node.status == "unserved":
        return (
            "unserved",
            "what serves its artifacts is away or behind; /health/ready says why",
        )
    if label.untrusted:
        return "untrusted", label.untrusted
    if label.held:
        return "held", f"{label.held} removals wait for labels confirm"
    if head is not None and (label.epoch, label.applied) != (head.epoch, head.revision):
        starts = node.status == "starting"
        return "starting" if starts else "behind", f"the head is at {head.revision}"
    if label.stale:
        return "stale", "its proof is too old: it cannot tell whether it is in step"
    return "in step", ""


def _since(node: NodeStatus) -> str:
    return f"not heard since {said_when(node.heard_at)} ({ago(node.silent_ms)})"


def _failure(failed: ApplyException, silent_ms: int) -> str:
    next_try = max(0, failed.next_try_ms - silent_ms)
    return (
        f"{failed.artifact or failed.api_id}: {failed.reason} "
        f"(attempt {failed.attempt}, next in {ago(next_try)})"
    )


def _environment_rows(environments: Sequence[EnvironmentStatus]) -> list[tuple[Any, ...]]:
    """How this publisher's pushing goes; the time is since the last answer."""
    rows: list[tuple[Any, ...]] = []
    now = int(time.time() * 1000)
    for each in environments:
        state, why = "answers", each.doubt
        if each.failures:
            state, why = "failing", each.reason
        elif not each.answered_at:
            state = "starting"
        elif each.doubt:
            state = "doubtful"
        answered = ago(max(0, now - each.answered_at)) if each.answered_at else "-"
        for label in each.labels:
            revision = each.revisions.get(label, "-")
            rows.append((each.name, label, state, revision, each.node or "-", answered, why))
    return rows


def _watch(target: Target, output: Output) -> int:
    async def follow() -> None:
        async with open_session(target) as client:
            answer = await client.get("/v1/gateways", GatewaysAnswer)
            asked, trouble = time.monotonic(), ""
            with Live(console=output.console, auto_refresh=False) as live:
                while True:
                    live.update(_picture(answer, trouble), refresh=True)
                    await asyncio.sleep(WATCH_SECONDS)
                    try:
                        answer = await client.get("/v1/gateways", GatewaysAnswer)
                        asked, trouble = time.monotonic(), ""
                    except UnreachableError as error:  # what was seen last stays
                        old = ago(int((time.monotonic() - asked) * 1000))
                        trouble = f"as of {old} ago: {error}"

    try:
        call(target, lambda _: follow())
    except KeyboardInterrupt:
        return 0
    return 0


def _picture(answer: GatewaysAnswer, trouble: str) -> Group:
    """What a terminal shows. Of more rows than it has lines the first are seen: the worst."""
    rows = gateway_rows(answer.gateways, answer.heads)
    parts: list[Any] = [Text(summary_of(rows)), _table(_COLUMNS, rows)]
    if answer.environments:
        parts.append(_table(_ENVIRONMENT_COLUMNS, _environment_rows(answer.environments)))
    if answer.workers:
        parts.append(_table(WORKER_COLUMNS, worker_rows(answer.workers)))
    return Group(*([Text(trouble, style="bold red")] if trouble else []), *parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
