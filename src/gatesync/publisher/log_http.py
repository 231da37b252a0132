"""What gateways read from a publisher over HTTP: the log of their labels; contents are beside it.

GET /v1/heads, /v1/changes, /v1/manifest, /v1/digest, /v1/attestations
"""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery, QueryParameter

from gatesync.artifacts.changes import Cursor, Head
from gatesync.publisher.contents import Frames, begin_pull, in_pull
from gatesync.publisher.rights import check_reading
from gatesync.publisher.service import Publisher
from gatesync.publisher.tokens import Principal
from gatesync.stores.store import PAGE_ATTESTATIONS, has_weak_history
from gatesync.stores.wire import (
    AttestationsAnswer,
    DeltaAnswer,
    DigestAnswer,
    HeadsAnswer,
    ManifestAnswer,
)

__all__ = ["get_attestations", "get_changes", "get_digest", "get_heads", "get_manifest"]

PAGE_SECONDS: Final = 5.0  # a page is kept for no longer
PAGE_LIMIT: Final = 5_000

_Ask = Request[Principal, Any, State]
_Revision = Annotated[int, QueryParameter(ge=0, le=2**63 - 1)]  # what a store's column holds


@get("/v1/heads")
async def get_heads(
    request: _Ask, labels: Annotated[list[str], QueryParameter(name="label")]
) -> HeadsAnswer:
    """Where these labels stand. One never used is at revision 0."""
    for label in labels:
        check_reading(request.user, label)
    publisher = _publisher(request)
    found = await publisher.saver.heads(labels)
    return HeadsAnswer(tuple(publisher.issuer.issue_all(found.values())))


@get("/v1/changes")
async def get_changes(
    request: _Ask, label: FromQuery[str], epoch: FromQuery[str], since: _Revision
) -> DeltaAnswer:
    """What happened in a label since a revision. 410 too-old, 409 behind."""
    check_reading(request.user, label)
    return DeltaAnswer(await _publisher(request).saver.changes(label, Cursor(epoch, since)))


@get(
    "/v1/manifest",
    middleware=[in_pull],
    responses={200: ResponseSpec(ManifestAnswer, description="a page")},
)
async def get_manifest(
    request: _Ask,
    label: FromQuery[str],
    after: FromQuery[str] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT)] = 1_000,
    epoch: FromQuery[str] = "",
    revision: _Revision = 0,
    at_epoch: FromQuery[str] = "",
    at_revision: _Revision = 0,
) -> Response[bytes]:
    """A page of everything that a label holds, now or at an earlier revision.

    429 busy with Retry-After for a first page where many nodes start.
    """
    check_reading(request.user, label)
    begin_pull(request, further=bool(after))
    saver = _publisher(request).saver
    at = Cursor(at_epoch, at_revision) if at_epoch else None
    at_least = Cursor(epoch, revision) if epoch else None
    head = (await saver.heads([label]))[label]

    async def make() -> tuple[bytes, bool]:
        page = await saver.manifest(label, at=at, after=after, limit=limit, at_least=at_least)
        answer = ManifestAnswer(page, weak_history=has_weak_history(saver))
        return msgspec.json.encode(answer), page.head == head

    if at_least is None and at in (None, head.cursor):
        body = await _once(request, ("manifest", after, str(limit)), head, make)
    else:
        body, _ = await make()
    return Response(body, media_type="application/json")


async def _once(
    request: _Ask,
    page: tuple[str, ...],
    head: Head,
    make: Callable[[], Awaitable[tuple[bytes, bool]]],
) -> bytes:
    """A page that is made once for all nodes that start at this head.

    The head's digest tells it from other histories; and it is made anew after a while, for a page
    cannot be checked alone and may be damaged.
    """
    period = str(time.monotonic() // PAGE_SECONDS)
    key = (*page, period, msgspec.json.encode(head).decode())
    frames: Frames = request.app.state.frames
    body, _ = await frames.get(key, make)
    return body


@get("/v1/digest")
async def get_digest(
    request: _Ask, label: FromQuery[str], epoch: FromQuery[str], revision: _Revision
) -> DigestAnswer:
    """The label digest that this history had at a revision, if it had one."""
    check_reading(request.user, label)
    return DigestAnswer(await _publisher(request).saver.digest_at(label, Cursor(epoch, revision)))


@get(
    "/v1/attestations",
    responses={200: ResponseSpec(AttestationsAnswer, description="a page")},
)
async def get_attestations(
    request: _Ask,
    label: FromQuery[str],
    after: _Revision = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_ATTESTATIONS)] = PAGE_ATTESTATIONS,
) -> Response[bytes]:
    """A page of what proves that a label's changes were signed, after a revision."""
    check_reading(request.user, label)
    saver = _publisher(request).saver
    head = (await saver.heads([label]))[label]

    async def make() -> tuple[bytes, bool]:
        page = await saver.attestations(label, after, limit)
        return msgspec.json.encode(AttestationsAnswer(page)), True

    body = await _once(request, ("attestations", str(after), str(limit)), head, make)
    return Response(body, media_type="application/json")


def _publisher(request: _Ask) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher
