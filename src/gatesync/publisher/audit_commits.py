"""What is saved on nobody's request stands in the audit log, too: a tree that others write."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher.audit import Event, Who
from gatesync.publisher.audit_file import AuditError
from gatesync.publisher.audit_http import revisions_of, shortened, touched_by
from gatesync.publisher.audit_log import AuditLog
from gatesync.stores.store import Refused, SaveOutcome, StoreError

__all__ = ["Commit", "recorded_commit"]

Commit: TypeAlias = Callable[[SaveRequest], Awaitable[SaveOutcome | Refused]]


def recorded_commit(commit: Commit, log: AuditLog | None, verb: str, detail: str) -> Commit:
    """The same, with an entry of each request that was saved or refused.

    One that failed changed nothing, or is repeated with its key, and told then.

    Args:
        commit: saves.
        log: where to write; None for nowhere. Where it is required, an entry comes first, and
            nothing is saved (`StoreError`) while there can be none.
        verb: what was done, as the entries say it.
        detail: more of that.
    """
    if log is None:
        return commit

    async def recorded(request: SaveRequest) -> SaveOutcome | Refused:
        def event(outcome: str, answer: SaveOutcome | Refused | None = None) -> Event:
            saved = answer.change_sets if isinstance(answer, SaveOutcome) else ()
            return Event(
                time=log.now(),
                who=Who(id=request.publisher),
                verb=verb,
                labels=request.labels,
                artifacts=touched_by(saved),
                count=sum(len(items) for items in request.sets),
                detail=detail,
                key=request.key,
                outcome=outcome,
                reasons=shortened(answer.reasons if isinstance(answer, Refused) else ()),
                revisions=revisions_of(saved),
            )

        if log.required:
            try:
                await log.demand(event("asked"))
            except AuditError as error:
                raise StoreError(f"nothing is saved without an audit log: {error}") from error
        answer = await commit(request)
        outcome = "refused" if isinstance(answer, Refused) else "done"
        if isinstance(answer, SaveOutcome) and answer.repeated:
            outcome = "repeated"
        await log.record(event(outcome, answer))
        return answer

    return recorded
