"""What rsync's runners tell a publisher over HTTP."""

from typing import Any

from litestar import Request, post
from litestar.datastructures import State
from litestar.params import JSONBody

from gatesync.publisher.tokens import Principal
from gatesync.publisher.workers import Workers, WorkersAnswer, WorkersReport
from gatesync.web.app import ForbiddenError

__all__ = ["may_report_workers", "post_workers"]


@post("/v1/workers", status_code=200, sync_to_thread=False)
def post_workers(
    request: Request[Principal, Any, State], data: JSONBody[WorkersReport]
) -> WorkersAnswer:
    """How the workers are that rsync copies to: told by their runner, for itself only."""
    if not may_report_workers(request.user, data.runner):
        raise ForbiddenError(
            f"this token may not report for runner {data.runner!r}; the token of a node with that "
            "id may, and an operator's"
        )
    workers: Workers = request.app.state.workers
    workers.receive(data)
    return WorkersAnswer()


def may_report_workers(who: Principal, runner: str) -> bool:
    """Whether it is that runner's own node, or one who may do everything anyway."""
    return who.may_report_as(runner) or (who.may_publish() and who.reads_all)
