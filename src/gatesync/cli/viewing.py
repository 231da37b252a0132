"""list and verify: what labels hold, and whether the gateways really serve it."""

import asyncio
import time
from typing import Final

from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE
from gatesync.cli.session import Target, call
from gatesync.publisher.answers import (
    ArtifactsAnswer,
    Verdict,
    Verification,
    VerificationAnswer,
)
from gatesync.web.client import HttpClient

__all__ = ["list_artifacts", "verify"]

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


def _tell_verdict(verdict: Verdict, output: Output) -> None:
    where = f"{verdict.node}  {verdict.label}".rstrip()
    output.line(f"{where}  {verdict.status}  {verdict.reason}".rstrip())
    for drift in verdict.drifted:
        actual = drift.actual[:12] or "nothing"
        expected = drift.expected[:12] or "nothing"
        output.line(f"    {drift.api_id}: holds {actual}, the store says {expected}")
