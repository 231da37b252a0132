"""Who may connect to the broker: the nodes whose tokens are good, each with its own nkey."""

from collections.abc import Collection, Iterable

import structlog

from gatesync.artifacts.errors import Problem
from gatesync.events.nats_users import NodeUser, node_user
from gatesync.publisher.tokens import ANY_LABEL, Role, Token

__all__ = ["node_users"]

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


def _labels(token: Token) -> Collection[str] | None:
    return None if ANY_LABEL in token.labels else token.labels
