"""The publisher over HTTP: Litestar handlers, an OpenAPI page, and one shape for every no.

Who is asking was found out in front (`web.guard`); what they may do is decided here.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
from litestar import Litestar, Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from gatesync.artifacts.changes import Confirmation, Cursor, Head
from gatesync.artifacts.extra import refuse_repeated_members
from gatesync.artifacts.names import check_label, check_name
from gatesync.events.messages import decode_report
from gatesync.publisher.answers import (
    ArtifactsAnswer,
    GatewaysAnswer,
    HistoryAnswer,
    LabelRequest,
    LabelsAnswer,
    ReceiptsAnswer,
    Verification,
    VerificationAnswer,
)
from gatesync.publisher.audit_http import draft_of, get_audit, get_audit_verification
from gatesync.publisher.audit_log import AuditLog
from gatesync.publisher.broker_users import get_broker_users
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.contents import (
    Frames,
    get_access,
    get_content,
    get_frame,
)
from gatesync.publisher.explaining import explain
from gatesync.publisher.keys_http import get_keys, post_keys_sign
from gatesync.publisher.log_http import (
    get_attestations,
    get_changes,
    get_digest,
    get_heads,
    get_manifest,
)
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.readable import ReadableContents
from gatesync.publisher.request_keys import new_key
from gatesync.publisher.requests import ChangeAnswer, ChangeRequest, PlanRequest, origin_of
from gatesync.publisher.rights import check_confirming, check_publishing, check_reading
from gatesync.publisher.service import IN_THREAD_BYTES, Publisher
from gatesync.publisher.signing import SigningKeys
from gatesync.publisher.tokens import Principal, Token
from gatesync.publisher.views import environments_for, history_for, nodes_for, report_for
from gatesync.publisher.workers import Workers
from gatesync.publisher.workers_http import post_workers
from gatesync.stores.wire import (
    ReportAnswer,
)
from gatesync.web.app import AppState, ForbiddenError, make_app

__all__ = ["publisher_app"]

WAIT_SECONDS: Final = 30.0  # one long poll takes no longer
COALESCE_SECONDS: Final = 0.05  # reports that come this close together are answered as one,
COALESCE_NODE_SECONDS: Final = 50e-6  # or closer, where few gateways are looked through

_Ask = Request[Principal, Any, State]
_Revision = Annotated[int, QueryParameter(ge=0, le=2**63 - 1)]  # what a store's column holds


def publisher_app(
    publisher: Publisher,
    cluster: ClusterAnswer,
    state: AppState,
    pulls: FullPulls | None = None,
    audit: AuditLog | None = None,
    tokens: Callable[[], Iterable[Token]] = tuple,
    *,
    keys: SigningKeys | None = None,
) -> Litestar:
    """The publisher's application, to be put behind a `Guard`.

    Args:
        publisher: what it speaks for.
        cluster: what `/v1/cluster` answers.
        state: readiness and metrics.
        pulls: hands out full pulls, to a default number of nodes at once unless given.
        audit: what `/v1/audit` reads; an `AuditLayer` around the guard writes it.
        tokens: all of them, as they are now: whose nodes the broker lets in.
        keys: what `/v1/keys` speaks of; None where nothing is signed.
    """
    state = msgspec.structs.replace(state, may_see_metrics=Principal.may_see_all)
    app = make_app("gatesync publisher", _HANDLERS, state, explain)
    app.state.publisher = publisher
    app.state.cluster = cluster
    app.state.audit = audit
    app.state.tokens = tokens
    app.state.signing_keys = keys
    app.state.frames = Frames()
    app.state.workers = Workers()
    app.state.readable = ReadableContents(publisher.saver)
    app.state.pulls = pulls or FullPulls(random=random.random)
    return app


def _publisher(request: _Ask) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _operator(request: _Ask) -> Principal:
    """Who asks; no gateway. What it is told is of the labels that it may read."""
    if not request.user.may_see_gateways():
        raise ForbiddenError("this token is a gateway's; it may not read what others do")
    return request.user


def _unlimited(request: _Ask) -> None:
    _operator(request)
    if not request.user.may_see_all():
        raise ForbiddenError("this token is for some labels only, and this is of all")


async def _heads(request: _Ask) -> list[Head]:
    """Of every used label that the token may read."""
    found = await _publisher(request).saver.labels()
    return [head for head in found if request.user.may_read(head.label)]


@get("/v1/cluster", sync_to_thread=False)
def get_cluster(request: _Ask) -> ClusterAnswer:
    """How to find the event hub, and which history and formats this publisher speaks."""
    cluster: ClusterAnswer = request.app.state.cluster
    return cluster


@post("/v1/changes", status_code=200)
async def post_changes(
    request: _Ask,
    data: JSONBody[ChangeRequest],
    idempotency_key: Annotated[
        str | None, HeaderParameter(name="Idempotency-Key", max_length=200)
    ] = None,
) -> ChangeAnswer:
    """Publish and remove. Durable when it answers; a repeated key changes nothing."""
    key = idempotency_key or new_key()
    draft = draft_of(request)
    draft.asks(data, key)
    check_publishing(request.user, data.labels)
    body = await request.body()
    if len(body) > IN_THREAD_BYTES:
        await asyncio.to_thread(refuse_repeated_members, body)
    else:
        refuse_repeated_members(body)
    origin = origin_of(request.client.host if request.client else "", data.sender)
    await draft.begin()
    answer = await _publisher(request).change(
        data,
        key,
        len(body),
        author=request.user.id,
        origin=origin,
        tenants=request.user.tenants,
    )
    draft.done(answer)
    return answer


@post("/v1/plans", status_code=200)
async def post_plan(request: _Ask, data: JSONBody[PlanRequest]) -> ChangeAnswer:
    """Say what a change would do, and what stands against it. Nothing is changed."""
    check_publishing(request.user, data.labels)
    return await _publisher(request).plan(data, tenants=request.user.tenants)


@get("/v1/history")
async def get_history(request: _Ask, name: FromQuery[str]) -> HistoryAnswer:
    """Say who changed the artifacts of this name or api_id, in which label, when, from where."""
    who = _operator(request)
    history = await _publisher(request).saver.history(check_name(name, "name"))
    return HistoryAnswer(history_for(who, history))


@get("/v1/artifacts")
async def get_artifacts(
    request: _Ask, label: FromQuery[str | None] = None, api_id: FromQuery[str | None] = None
) -> ArtifactsAnswer:
    """What one label holds, or all labels that the token may read."""
    who = _operator(request)
    if label is not None:
        check_reading(who, label)
    labels = [label] if label is not None else [head.label for head in await _heads(request)]
    return ArtifactsAnswer(tuple(await _publisher(request).find(labels, api_id)))


@get("/v1/labels")
async def get_labels(request: _Ask) -> LabelsAnswer:
    """The heads of all labels that were ever used and that the token may read."""
    _operator(request)
    return LabelsAnswer(tuple(await _heads(request)))


@post("/v1/labels/confirm", status_code=200)
async def confirm(request: _Ask, data: JSONBody[LabelRequest]) -> Confirmation:
    """Let gateways carry out the removals that another history of this label implies."""
    draft = draft_of(request)
    draft.confirms(data.label)
    check_confirming(request.user, data.label)
    label = check_label(data.label)
    await draft.begin()
    confirmation = await _publisher(request).confirm(label)
    draft.confirmed(label, confirmation.epoch, confirmation.revision)
    return confirmation


@get("/v1/gateways")
async def get_gateways(request: _Ask) -> GatewaysAnswer:
    """Every gateway that reported, with what it said last; every environment and worker."""
    who = _operator(request)
    heads = tuple(await _heads(request))
    environments = _publisher(request).announcer.pusher.statuses()
    return GatewaysAnswer(
        tuple(nodes_for(who, _publisher(request).fleet.nodes())),
        heads,
        tuple(environments_for(who, environments)),
        tuple(request.app.state.workers.rows()) if who.reads_all else (),
    )


@get("/v1/receipts")
async def get_receipts(
    request: _Ask,
    label: FromQuery[str],
    epoch: FromQuery[str],
    revision: _Revision,
    first: FromQuery[int | None] = None,
    version: FromQuery[int] = -1,
    wait: Annotated[float, QueryParameter(ge=0, le=WAIT_SECONDS)] = 0,
    applied: Annotated[int, QueryParameter(ge=0)] = 0,
) -> ReceiptsAnswer:
    """What each gateway of a label did about a revision, or about all from `first` to it.

    Waits up to `wait` seconds, if asked to: until so many gateways have `applied` it or nobody is
    at it any more; without `applied`, and where nobody is at it, for news after `version`.
    """
    check_reading(_operator(request), label)
    cursor = Cursor(epoch, revision)
    fleet = _publisher(request).fleet
    since = revision if first is None else first
    if wait and not (applied and await fleet.reached(label, cursor, since, applied, wait)):
        await fleet.change(version, wait)
        await asyncio.sleep(min(COALESCE_SECONDS, COALESCE_NODE_SECONDS * len(fleet)))
    receipts = fleet.receipts(label, cursor, since)
    return ReceiptsAnswer(tuple(receipts), fleet.version)


@post("/v1/reports", status_code=200, request_max_body_size=None)
async def post_report(request: _Ask) -> ReportAnswer:
    """A gateway's report, where no broker carries it. A node reports for itself only."""
    report = decode_report(await request.body())
    if not request.user.may_report_as(report.node):
        raise ForbiddenError(f"this token may not report for node {report.node!r}")
    _publisher(request).fleet.receive(report_for(request.user, report))
    return ReportAnswer(_publisher(request).announcer.verification)


@post("/v1/verifications", status_code=200, sync_to_thread=False)
def post_verification(request: _Ask) -> VerificationAnswer:
    """Ask every gateway to recompute what it holds, from its engine's bytes."""
    _unlimited(request)
    return VerificationAnswer(_publisher(request).start_verification())


@get("/v1/verifications/{verification:str}")
async def get_verification(request: _Ask, verification: FromPath[str]) -> Verification:
    """What the gateways answered so far, compared with the store."""
    _unlimited(request)
    return await _publisher(request).verification(verification)


_HANDLERS: Final = [
    get_cluster,
    get_broker_users,
    post_changes,
    post_plan,
    get_history,
    get_heads,
    get_changes,
    get_manifest,
    get_digest,
    get_attestations,
    get_frame,
    get_content,
    get_access,
    get_artifacts,
    get_labels,
    confirm,
    get_gateways,
    get_receipts,
    post_report,
    post_workers,
    post_verification,
    get_verification,
    get_audit,
    get_audit_verification,
    get_keys,
    post_keys_sign,
]
