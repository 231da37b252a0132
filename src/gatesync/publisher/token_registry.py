"""Who a token belongs to, and what a node may read: as the file says now, while a server runs."""

import hashlib
import hmac
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
import structlog

from gatesync.events.nkeys import key_of_token
from gatesync.publisher.tokens import (
    TOKEN_TEXT,
    Principal,
    Role,
    Token,
    TokenError,
    decode_tokens,
    hash_of,
    read_tokens_file,
)

__all__ = ["TokenRegistry"]

_NOBODY = hashlib.sha256(b"nobody").hexdigest()  # compared with for ids that do not exist

log = structlog.get_logger(__name__)


class TokenRegistry:
    """Tells a server who a token belongs to, and sees changes of the file without a restart.

    A file that turns unreadable, malformed or open to others while the server runs is not taken
    over: nothing that it adds counts, it is logged as an error, and the tokens known before go on
    working, since a slip of the pen must not cut off every gateway. A revocation in such a file
    waits until it is mended. A file that is gone is different: nobody removes it by a slip
    that leaves it half done, so then there are no tokens.

    Args:
        path: usually `<data>/tokens.json`. It may come into being later.

    `learned` are nkeys, by token id, that the file has not: their tokens were made before there
    were any, and were shown since. Whoever writes them down takes them out.

    Raises `TokenError` when the file is there and cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: dict[str, Token] = {}
        self._seen: tuple[int, ...] | None = None
        self._nodes: dict[str, Principal] = {}
        self.learned: dict[str, str] = {}
        self._load()

    def tokens(self) -> Collection[Token]:
        """All tokens as they are now, the revoked ones too."""
        self._refresh()
        return self._tokens.values()

    def node(self, node: str) -> Principal | None:
        """A node, with what any of its tokens may read: nothing, when all of them are revoked.

        None where none was ever made here.
        """
        self._refresh()
        return self._nodes.get(node)

    def authenticate(self, text: str) -> Principal | None:
        """Who holds this token, or None. Takes the same time for a wrong secret and a wrong id."""
        self._refresh()
        match = TOKEN_TEXT.fullmatch(text)
        if match is None:
            return None
        token = self._tokens.get(match[1])
        expected = token.sha256 if token is not None else _NOBODY
        right = hmac.compare_digest(hash_of(match[2]), expected)
        if not right or token is None or token.revoked_at:
            return None
        if token.nkey is None and token.role is Role.NODE:
            self._learn(token, text)
        return token.principal

    def _learn(self, token: Token, text: str) -> None:
        nkey = key_of_token(text).public
        self._tokens[token.token_id] = msgspec.structs.replace(token, nkey=nkey)
        self.learned[token.token_id] = nkey

    def _refresh(self) -> None:
        """Read the file again if it is another one than last time. One stat when it is not."""
        try:
            seen = _signature(self._path.stat())
        except OSError:
            seen = None
        if seen == self._seen:
            return
        try:
            self._load()
        except TokenError as problem:
            self._seen = seen  # logged once for each change of the file
            known = len(self._tokens)
            log.error("tokens_not_reloaded", reason=str(problem), still_valid=known)  # noqa: TRY400 - the reason says it all

    def _load(self) -> None:
        try:
            content, stat = read_tokens_file(self._path)
        except FileNotFoundError:
            if self._tokens:
                log.warning("tokens_gone", path=str(self._path), now_refused=len(self._tokens))
            self._tokens, self._nodes, self._seen = {}, {}, None
            return
        tokens = {token.token_id: token for token in decode_tokens(content, self._path)}
        self._tokens, self._nodes, self._seen = tokens, _nodes(tokens.values()), _signature(stat)


def _nodes(tokens: Iterable[Token]) -> dict[str, Principal]:
    found: dict[str, Principal] = {}
    for token in tokens:
        if token.role is Role.NODE:
            known = found.get(token.id, Principal(token.id, Role.NODE))
            labels = () if token.revoked_at else token.labels
            found[token.id] = msgspec.structs.replace(known, labels=(*known.labels, *labels))
    return found


def _signature(stat: os.stat_result) -> tuple[int, ...]:
    """Differs between any two versions of a file; the change time also tells a chmod."""
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
