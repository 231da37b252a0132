"""list, gateways and verify: what labels hold, and whether the gateways serve it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from rich.live import Live
from rich.table import Table

from gatesync.artifacts.changes import Head
from gatesync.cli.output import Output, ago
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE
from gatesync.cli.session import Target, call, open_session
from gatesync.publisher.answers import (
    ArtifactsAnswer,
    GatewaysAnswer,
    Verdict,
    Verification,
    VerificationAnswer,
)
from gatesync.publisher.fleet import NodeStatus
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.web.client import HttpClient

__all__ = ["list_artifacts", "show_gateways", "verify"]

WATCH_SECONDS: Final = 1.0
VERIFY_POLL_SECONDS: Final = 0.1


def list_artifacts(target: Target, label: str | None, output: Output) -> int:
    """List what one label or all labels hold."""

    async def work(client: HttpClient) -> ArtifactsAnswer:
        params = [("label", label)] if label is not None else []
        return await client.get("/v1/artifacts", ArtifactsAnswer, params)

    answer = call(target, work)
    output.document(answer)
    rows = [
        (h.label, h.entry.kind, h.entry.name, h.entry.version, h.entry.tenant, h.entry.revision,
         h.entry.digest[:12])
        for h in sorted(answer.artifacts, key=lambda each: (each.label, each.entry.identity))
    ]  # fmt: skip
    if rows:
        columns = ("LABEL", "KIND", "NAME", "VERSION", "TENANT", "REVISION", "DIGEST")
        output.table(columns, rows)
    else:
        output.line("nothing is published")
    return 0


def show_gateways(target: Target, output: Output, *, watch: bool) -> int:
    """Show who is in step and who is not, since when, and why."""
    if watch and not output.json:
        return _watch(target, output)

    async def work(client: HttpClient) -> GatewaysAnswer:
        return await client.get("/v1/gateways", GatewaysAnswer)

    answer = call(target, work)
    output.document(answer)
    rows = _gateway_rows(answer.gateways, answer.heads)
    if rows:
        output.table(_GATEWAY_COLUMNS, rows)
    else:
        output.line("no gateway has reported to this publisher yet")
    if answer.environments:
        output.line("")
        output.table(_ENVIRONMENT_COLUMNS, _environment_rows(answer.environments))
    return 0


def verify(target: Target, output: Output, timeout: float) -> int:
    """Have every gateway recompute what it holds, and compare that with the store.

    Answers with 0 when all are in step, 1 on any drift, 3 where a gateway gave no answer.
    """

    async def work(client: HttpClient) -> Verification:
        deadline = time.monotonic() + timeout
        started = await client.post("/v1/verifications", {}, VerificationAnswer)
        while True:
            found = await client.get(f"/v1/verifications/{started.id}", Verification)
            if found.complete or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(VERIFY_POLL_SECONDS)

    found = call(target, work)
    output.document(found)
    for verdict in found.verdicts:
        _tell_verdict(verdict, output)
    if not found.verdicts:
        output.line("no gateway has reported to this publisher yet")
    statuses = {verdict.status for verdict in found.verdicts}
    if statuses & {"drift", "behind"}:
        return EXIT_NO
    return EXIT_UNREACHABLE if "no answer" in statuses else 0


_GATEWAY_COLUMNS: Final = ("GATEWAY", "LABEL", "STATE", "REVISION", "ARTIFACTS", "PROOF", "WHY")
_ENVIRONMENT_COLUMNS: Final = (
    *("ENVIRONMENT", "LABEL", "STATE", "REVISION", "NODE", "ANSWERED", "WHY"),
)


def _gateway_rows(nodes: Sequence[NodeStatus], heads: Sequence[Head]) -> list[tuple[Any, ...]]:
    known = {head.label: head for head in heads}
    rows: list[tuple[Any, ...]] = []
    for node in nodes:
        for label in node.labels:
            head = known.get(label.label)
            reached = (label.epoch, label.applied)
            behind = head is not None and reached != (head.epoch, head.revision)
            state, why = "in step", ""
            if node.lost:
                state, why = "lost", f"silent for {ago(node.silent_ms)}"
            elif label.exceptions:
                failed = label.exceptions[0]
                state, why = "failed", f"{failed.api_id}: {failed.reason}"
            elif label.held:
                state, why = "held", f"{label.held} removals wait for labels confirm"
            elif behind and head is not None:
                state, why = "behind", f"the head is at {head.revision}"
            proof = "-" if label.proof_age_ms is None else ago(label.proof_age_ms + node.silent_ms)
            rows.append(
                (node.node, label.label, state, label.applied, label.count_applied, proof, why)
            )
        if not node.labels:
            rows.append((node.node, "-", "lost" if node.lost else "starting", "-", "-", "-", ""))
    return rows


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
            with Live(console=output.console, auto_refresh=False) as live:
                while True:
                    answer = await client.get("/v1/gateways", GatewaysAnswer)
                    table = Table(*_GATEWAY_COLUMNS, box=None, pad_edge=False)
                    for row in _gateway_rows(answer.gateways, answer.heads):
                        table.add_row(*(str(cell) for cell in row))
                    live.update(table, refresh=True)
                    await asyncio.sleep(WATCH_SECONDS)

    try:
        call(target, lambda _: follow())
    except KeyboardInterrupt:
        return 0
    return 0


def _tell_verdict(verdict: Verdict, output: Output) -> None:
    where = f"{verdict.node}  {verdict.label}".rstrip()
    output.line(f"{where}  {verdict.status}  {verdict.reason}".rstrip())
    for drift in verdict.drifted:
        actual = drift.actual[:12] or "nothing"
        expected = drift.expected[:12] or "nothing"
        output.line(f"    {drift.api_id}: holds {actual}, the store says {expected}")
