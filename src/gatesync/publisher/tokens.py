"""Access tokens: who may publish what, and which labels each token may read.

    gs_<token id>_<secret>        the secret: 32 random bytes as 43 characters of base64url

The publisher's data folder keeps `tokens.json` with the SHA-256 of each secret, never the secret.
A plain hash is enough: it is passwords that need a slow one, since they can be guessed, and 256
random bits cannot. Of a node's token it keeps the public nkey too, by which the broker knows
the node. `TokenFile` is for whoever creates and revokes, `TokenRegistry` (`token_registry`) for the
server.
"""

import base64
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.names import check_label, check_name, check_node_id
from gatesync.events.nkeys import PUBLIC_PATTERN, key_of_token
from gatesync.file_lock import wait_for_lock
from gatesync.private_file import write_private_file

__all__ = [
    "ANY_LABEL",
    "TOKEN_TEXT",
    "Principal",
    "Role",
    "Token",
    "TokenError",
    "TokenFile",
    "decode_tokens",
    "hash_of",
    "read_tokens_file",
]

ANY_LABEL = "*"
FORMAT = 1
LIMITED_FORMAT = 2  # with a publisher that is limited, whom a version that reads 1 would not limit
TOKEN_TEXT = re.compile(r"gs_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_LOCK_SECONDS = (
    10.0  # a change takes milliseconds; a lock held for longer is someone's stopped process
)


class TokenError(ValueError):
    """Tokens cannot be read, created or revoked; says which file or name, and what to do."""


class Role(StrEnum):
    """What a token is for."""

    PUBLISH = "publish"  # write and read everything, or what its labels and tenants allow
    NODE = "node"  # a gateway: read its labels, report for itself
    READ = "read"  # read everything, the gateways' state included


class Principal(msgspec.Struct, frozen=True):
    """Who is asking. For a node, `id` is its node id and `labels` what it may read.

    Where a publisher has `labels`, it reads and changes those only; where it has `tenants`, it
    changes artifacts of those only. `token_id` says with which of its tokens.
    """

    id: str
    role: Role
    labels: tuple[str, ...] = ()
    token_id: str = ""
    tenants: tuple[str, ...] = ()

    @property
    def reads_all(self) -> bool:
        """Whether it may read every label, those included that are yet to come."""
        return ANY_LABEL in self.labels or (self.role is not Role.NODE and not self.labels)

    def may_read(self, label: str) -> bool:
        """Whether it may read this label's heads, events and contents."""
        return self.reads_all or label in self.labels

    def may_publish(self) -> bool:
        """Whether it may change anything."""
        return self.role is Role.PUBLISH

    def may_publish_to(self, label: str) -> bool:
        """Whether it may change this label."""
        return self.may_publish() and self.may_read(label)

    def may_publish_for(self, tenant: str) -> bool:
        """Whether it may change artifacts of this tenant."""
        return self.may_publish() and (not self.tenants or tenant in self.tenants)

    def may_see_gateways(self) -> bool:
        """Whether it may read the state of the gateways, of the labels that it may read."""
        return self.role is not Role.NODE

    def may_see_all(self) -> bool:
        """Whether it may read what is of no single label: metrics, the audit log."""
        return self.may_see_gateways() and self.reads_all

    def may_report_as(self, node: str) -> bool:
        """Whether it may acknowledge for this node: a node does so for itself only."""
        return self.role is Role.NODE and self.id == node


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token. Times are milliseconds since 1970; `revoked_at` 0 is never.

    `nkey` is None where the token is no node's, or was made before there were any and has not been
    shown to a publisher since.
    """

    token_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{12}\Z")]
    role: Role
    id: str
    labels: tuple[str, ...] = ()
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    created_at: int
    revoked_at: int = 0
    nkey: Annotated[str, msgspec.Meta(pattern=PUBLIC_PATTERN)] | None = None
    tenants: tuple[str, ...] = ()

    @property
    def principal(self) -> Principal:
        """Who holds it."""
        return Principal(self.id, self.role, self.labels, self.token_id, self.tenants)

    @property
    def is_limited_publisher(self) -> bool:
        """Whether it publishes, but not everything."""
        return self.role is Role.PUBLISH and bool(self.tenants or not self.principal.reads_all)


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


class _Document(_Format, frozen=True, kw_only=True):
    tokens: tuple[Token, ...]


class TokenFile:
    """The tokens of a publisher, for creating, listing and revoking.

    Args:
        path: usually `<data>/tokens.json`; its folder is made when missing.
        clock: seconds since 1970.

    All methods block for as long as another process changes the file, 10 seconds at most, and
    raise `TokenError`.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def create(
        self,
        role: Role,
        holder: str,
        labels: Collection[str] = (),
        tenants: Collection[str] = (),
    ) -> str:
        """Make a token and return its text, which nothing can show again.

        Args:
            role: what it is for.
            holder: the principal's id: for a node its node id, else any name of that form.
            labels: what a node may read, `*` for every label; what a publisher may read and
                change, everything unless given.
            tenants: whose artifacts a publisher may change, everybody's unless given.
        """
        _check(role, holder, labels, tenants)
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        with self._locked():
            tokens = self.list()
            taken = {token.token_id for token in tokens}
            token_id = next(
                new for new in iter(lambda: secrets.token_hex(6), "") if new not in taken
            )
            text = f"gs_{token_id}_{secret}"
            token = Token(
                token_id=token_id,
                role=role,
                id=holder,
                labels=tuple(dict.fromkeys(labels)),
                tenants=tuple(dict.fromkeys(tenants)),
                sha256=hash_of(secret),
                created_at=self._now(),
                nkey=key_of_token(text).public if role is Role.NODE else None,
            )
            self._write((*tokens, token))
        return text

    def list(self) -> tuple[Token, ...]:
        """All tokens, the revoked ones too, oldest first."""
        try:
            content, _ = read_tokens_file(self._path)
        except FileNotFoundError:
            return ()
        return decode_tokens(content, self._path)

    def revoke(self, which: str) -> tuple[Token, ...]:
        """Revoke the token of this token id, or all tokens of this node or name.

        Returns those that were valid until now: none, when all were revoked before.
        """
        with self._locked():
            tokens = self.list()
            found = [token for token in tokens if which in {token.token_id, token.id}]
            if not found:
                raise TokenError(f"{self._path}: there is no token of {which!r}; see `token list`")
            now = self._now()
            revoked = {
                token.token_id: msgspec.structs.replace(token, revoked_at=now)
                for token in found
                if not token.revoked_at
            }
            if revoked:
                self._write(tuple(revoked.get(token.token_id, token) for token in tokens))
        return tuple(revoked.values())

    def learn(self, nkeys: Mapping[str, str]) -> None:
        """Keep the nkeys of tokens that have none yet, by token id."""
        with self._locked():
            tokens = self.list()
            learned = tuple(
                msgspec.structs.replace(token, nkey=token.nkey or nkeys.get(token.token_id))
                for token in tokens
            )
            if learned != tokens:
                self._write(learned)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that change the file, which is replaced: hence its own lock."""
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TokenError(f"{lock}: cannot be opened: {error.strerror}") from error
        try:
            if not wait_for_lock(descriptor, _LOCK_SECONDS):
                raise TokenError(f"{lock}: another process holds it for too long")
            yield
        finally:
            os.close(descriptor)

    def _write(self, tokens: tuple[Token, ...]) -> None:
        """Replace the file: a reader, or a crash, sees the old one or the new one, whole."""
        limited = any(token.is_limited_publisher for token in tokens)
        document = _Document(format=LIMITED_FORMAT if limited else FORMAT, tokens=tokens)
        content = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
        try:
            write_private_file(self._path, content)
        except OSError as error:
            raise TokenError(f"{self._path}: cannot be written: {error.strerror}") from error


def _check(role: Role, holder: str, labels: Collection[str], tenants: Collection[str]) -> None:
    try:
        check_node_id(holder)
        for label in labels:
            check_label(label)
        for tenant in tenants:
            check_name(tenant, "tenant")
    except Problem as problem:
        raise TokenError(str(problem)) from None
    if role is Role.NODE and not labels:
        raise TokenError(f"node {holder} needs a label that it may read; '*' is every label")
    if role is Role.READ and labels:
        raise TokenError(
            "a token of role read reads every label; give labels to nodes and publishers only"
        )
    if role is not Role.PUBLISH and tenants:
        raise TokenError(
            f"tenants limit what is published, and a token of role {role} publishes nothing"
        )


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def read_tokens_file(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's content and state. Raises `FileNotFoundError`, or `TokenError` for the rest."""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_mode & 0o077:
                mode = stat.st_mode & 0o777
                raise TokenError(
                    f"{path}: others can access it (mode {mode:04o}); run chmod 600 on it"
                )
            return file.read(), stat
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TokenError(f"{path}: cannot be read: {error.strerror}") from error


def decode_tokens(content: bytes, path: Path) -> tuple[Token, ...]:
    """The tokens in a file's content. Raises `TokenError`, naming the file."""
    try:
        version = msgspec.json.decode(content, type=_Format).format
        if version not in (FORMAT, LIMITED_FORMAT):
            raise TokenError(
                f"{path}: has format {version}; this version reads {FORMAT} and {LIMITED_FORMAT}"
            )
        found = msgspec.json.decode(content, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TokenError(
            f"{path}: is not a token file: {error}; restore it, or remove it and create new tokens"
        ) from error
    if len({token.token_id for token in found.tokens}) < len(found.tokens):
        raise TokenError(f"{path}: has two tokens of the same token_id; take one out")
    return found.tokens
