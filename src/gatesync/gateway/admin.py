"""The gateway's own HTTP: what it holds, its bytes and digests, health. For its operator.

    GET  /v1/status          how far it is, and what failed or is skipped, and why
    GET  /v1/held            everything that the engine serves, hashed now
    GET  /v1/held/content    one of them, byte for byte
    POST /v1/redeploy        deploy one anew, or all
    POST /v1/undeploy        undeploy one until its next change
    POST /v1/events          for publishers alone, see `receiving`

WSO2's names for the same are in `wso2_admin`.
"""

from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromQuery, JSONBody

from gatesync.artifacts.errors import FormatError
from gatesync.gateway import events_http, wso2_admin
from gatesync.gateway.health import FORMAT, GatewayStatus, Health
from gatesync.gateway.operating import Operator
from gatesync.gateway.receiving import BusyError, Receiver
from gatesync.gateway.selecting import Selection, SelectionError
from gatesync.stores.wire import ProblemAnswer
from gatesync.web.app import AppState, NotFoundError, make_app

__all__ = [
    "GatewayStatus",
    "HeldAnswer",
    "HeldArtifact",
    "OperatedAnswer",
    "PublicHealth",
    "admin_app",
    "public_health",
]

REASONS_LISTED: Final = 100

_Ask = Request[Any, Any, State]


class HeldArtifact(msgspec.Struct, frozen=True):
    """An artifact that the engine serves, hashed as it is now."""

    api_id: str
    digest: str
    size: int
    label: str = ""
    kind: str = ""
    name: str = ""
    version: str = ""
    tenant: str = ""


class HeldAnswer(msgspec.Struct, frozen=True):
    """Everything that the engine serves."""

    artifacts: tuple[HeldArtifact, ...]
    format: str = FORMAT


class OperatedAnswer(msgspec.Struct, frozen=True):
    """How many artifacts it was done with; `waiting` are those whose contents are on their way."""

    artifacts: int
    waiting: tuple[str, ...] = ()
    format: str = FORMAT


class PublicHealth(msgspec.Struct, frozen=True):
    """What of readiness anybody is told: no label's name, and no count of what one holds."""

    ready: bool
    status: str
    mode: str
    connected: bool
    uptime_ms: int
    format: str = FORMAT


def public_health(health: Health) -> PublicHealth:
    """What of it is for those who show no admin token."""
    return PublicHealth(
        health.ready, health.status, health.mode, health.connected, health.uptime_ms
    )


class _NotDoneError(Exception):
    """Some of what was asked for was not done."""

    def __init__(self, failed: dict[str, str]) -> None:
        self.reasons = tuple(f"{api_id}: {reason}" for api_id, reason in sorted(failed.items()))
        super().__init__("; ".join(self.reasons))


def admin_app(operator: Operator, state: AppState, receiver: Receiver) -> Litestar:
    """The admin application, to be put behind a `Guard` with `OPEN_PATHS`, and `with_events`."""
    state = msgspec.structs.replace(state, public=public_health)
    app = make_app("gatesync gateway", _HANDLERS, state, _explain)
    app.state.operator = operator
    app.state.receiver = receiver
    return app


def _operator(request: _Ask) -> Operator:
    operator: Operator = request.app.state.operator
    return operator


@get("/v1/status", sync_to_thread=False)
def get_status(request: _Ask) -> GatewayStatus:
    """How far this node is with each of its labels; what failed or is skipped, and why."""
    return _operator(request).view.status()


@get("/v1/held")
async def get_held(request: _Ask) -> HeldAnswer:
    """Everything that the engine serves, with digests recomputed from its bytes."""
    operator = _operator(request)
    deployment = operator.informer.deployment
    held = []
    for api_id, digest in sorted((await deployment.inspect()).items()):
        wanted = deployment.applied.get(api_id)
        size = len(operator.content(api_id) or b"")
        if wanted is None:
            held.append(HeldArtifact(api_id, digest, size))
            continue
        entry = wanted.entry
        held.append(
            HeldArtifact(
                api_id=api_id,
                digest=digest,
                size=size,
                label=wanted.label,
                kind=entry.kind,
                name=entry.name,
                version=entry.version,
                tenant=entry.tenant,
            )
        )
    return HeldAnswer(tuple(held))


@get("/v1/held/content", sync_to_thread=False)
def get_content(request: _Ask, api_id: FromQuery[str]) -> Response[bytes]:
    """The canonical form that the engine serves under an api_id, byte for byte."""
    content = _operator(request).content(api_id)
    if content is None:
        raise NotFoundError(f"this node serves nothing under api_id {api_id[:255]!r}")
    return Response(content, media_type="application/json")


@post("/v1/redeploy", status_code=200)
async def post_redeploy(request: _Ask, data: JSONBody[Selection]) -> Response[OperatedAnswer]:
    """Deploy one artifact anew, or all that this node is to serve.

    404: not here; 409: several have the name, or this node is not to serve it, or the engine
    refuses it. 202: the contents have not come yet; it goes on by itself.
    """
    operator = _operator(request)
    data.check()
    outcome = await operator.redeploy(None if data.all else [operator.find(data)])
    if outcome.failed:
        raise _NotDoneError(outcome.failed)
    answer = OperatedAnswer(outcome.done, outcome.waiting)
    return Response(answer, status_code=202 if outcome.waiting else 200)


@post("/v1/undeploy", status_code=200)
async def post_undeploy(request: _Ask, data: JSONBody[Selection]) -> OperatedAnswer:
    """Undeploy one artifact from this node until a label changes it, or it is redeployed.

    404: not here; 409: several have the name, or this node is not to serve it.
    """
    operator = _operator(request)
    data.check()
    if data.all:
        reason = 'undeploy takes one artifact at a time, by api_id or name, not "all"'
        raise SelectionError(400, "invalid", reason)
    outcome = await operator.undeploy([operator.find(data)])
    if outcome.failed:
        raise _NotDoneError(outcome.failed)
    return OperatedAnswer(outcome.done)


_HANDLERS: Final = [
    get_status,
    get_held,
    get_content,
    post_redeploy,
    post_undeploy,
    *events_http.HANDLERS,
    *wso2_admin.HANDLERS,
]


def _explain(error: Exception) -> tuple[int, Any] | None:
    match error:
        case FormatError():
            return 400, ProblemAnswer("invalid", (str(error),))
        case BusyError():
            return 503, ProblemAnswer("busy", (str(error),))
        case SelectionError():
            return error.status, ProblemAnswer(error.code, (str(error),))
        case _NotDoneError():
            return 409, ProblemAnswer("refused", error.reasons[:REASONS_LISTED])
        case wso2_admin.Wso2RefusedError():
            return error.status, wso2_admin.wso2_answer(error)
        case _:
            return None
