"""Who may connect to the broker: the nodes whose tokens are good, each with its own nkey."""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import structlog
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.openapi import ResponseSpec

from gatesync.artifacts.errors import Problem
from gatesync.events.nats_users import NodeUser, node_user
from gatesync.publisher.cluster import BrokerUsersAnswer
from gatesync.publisher.tokens import ANY_LABEL, Principal, Role, Token
from gatesync.web.app import ForbiddenError

__all__ = ["get_broker_users", "node_users"]

_log = structlog.get_logger("gatesync.publisher")


def node_users(tokens: Iterable[Token]) -> tuple[NodeUser, ...]:
    """The broker's users for these tokens: one for each node's that is not revoked.

    A node that is about to get another token has two meanwhile. Sorted, so that the same tokens
    make the same configuration.
    """
    found: dict[str, NodeUser] = {}
    for token in tokens:
        if token.role is not Role.NODE or token.revoked_at or token.nkey is None:
            continue
        try:
            found[token.nkey] = node_user(token.id, token.nkey, _labels(token))
        except Problem as problem:  # a file that people edited
            _log.error("broker_user_left_out", token_id=token.token_id, reason=str(problem))
    return tuple(sorted(found.values(), key=lambda user: (user.node, user.nkey)))


@get(
    "/v1/broker/users",
    sync_to_thread=False,
    responses={200: ResponseSpec(BrokerUsersAnswer, description="the nodes")},
)
def get_broker_users(request: Request[Principal, Any, State]) -> Response[bytes]:
    """The nodes that the broker lets in, with their public keys; 304 where `If-None-Match` fits."""
    if not request.user.may_see_all():
        raise ForbiddenError("this token is for some labels only; who there is, is of all")
    body = msgspec.json.encode(BrokerUsersAnswer(node_users(request.app.state.tokens())))
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _labels(token: Token) -> Collection[str] | None:
    return None if ANY_LABEL in token.labels else token.labels
