"""What stands in front of every application: who is asking, how often, and how much at once.

Plain ASGI, so that nothing behind it can forget to ask.
"""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from gatesync.artifacts.compression import decompress
from gatesync.artifacts.errors import FormatError
from gatesync.web.rates import Rates

__all__ = ["Guard", "problem_body"]

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Any]
Send: TypeAlias = Callable[[dict[str, Any]], Any]

OPEN_PREFIX: Final = "/health/"  # the one thing that anybody may ask
OPEN_BYTES: Final = 1024  # of a stranger's request, who has nothing to send there
BODIES_AT_ONCE: Final = 4  # of the largest size: as much as one credential's requests may hold
_TOKEN_IN_QUERY: Final = re.compile(rb"(?:^|&)(?:access_)?token=|gs_[0-9a-f]{12}_", re.IGNORECASE)


class Guard:
    """Lets through what carries a known token; decompresses bodies under a cap.

    Args:
        app: the application; finds who is asking in `scope["user"]`.
        authenticate: who a token belongs to, or None.
        max_bytes: of one request's body, as sent and as decompressed. Whoever has no token
            may send 1 KiB.
        open_paths: what anybody may ask, beside health.
        passwords: take a token as the password of Basic authentication, too, whoever the user.
        rates: how often each credential may ask; without limit unless given.
        own_limit: bytes of a body that this user may send to this path, where that is less.
    """

    def __init__(
        self,
        app: Any,
        authenticate: Callable[[str], Any],
        max_bytes: int,
        *,
        open_paths: Collection[str] = (),
        passwords: bool = False,
        rates: Rates | None = None,
        own_limit: Callable[[Any, str], int] | None = None,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._max_bytes = max_bytes
        self._open_paths = frozenset(open_paths)
        self._passwords = passwords
        self._rates = rates
        self._own_limit = own_limit
        self._bodies = _Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] != "http":
            return
        if _TOKEN_IN_QUERY.search(unquote_to_bytes(scope.get("query_string", b""))):
            reason = (
                "a token does not belong in a URL, which proxies and shells write down: send it as "
                "Authorization: Bearer TOKEN, and revoke the one that was in this URL"
            )
            await _answer(send, 400, "token-in-url", reason)
            return
        headers = dict(scope["headers"])
        scope["user"] = self._who(headers.get(b"authorization", b""))
        if scope["user"] is None and not self._is_open(scope["path"]):
            reason = "a valid token is needed: Authorization: Bearer TOKEN"
            await _answer(send, 401, "unauthorized", reason)
            return
        if wait := self._wait(scope["user"]):
            reason = f"this credential asks too often; ask again in {wait} s"
            await _answer(send, 429, "busy", reason, retry_after=wait)
            return
        limit = self._limit(scope)
        with self._bodies.of(scope["user"], limit * BODIES_AT_ONCE) as hold:
            try:
                body = await _body(headers, receive, limit, hold)
            except _RefusedError as refused:
                later = int(refused.status == 429)
                await _answer(send, refused.status, refused.code, str(refused), retry_after=later)
                return
            if body is None:
                return  # the client went away
            await self._pass_on(scope, body, receive, send)

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if name not in (b"content-encoding", b"content-length")
        ] + [(b"content-length", str(len(body)).encode())]
        await self._app(scope, _replay(body, receive), send)

    def _who(self, header: bytes) -> Any:
        scheme, _, sent = header.partition(b" ")
        token = ""
        if scheme.lower() == b"bearer":
            token = sent.decode("latin-1").strip()
        elif scheme.lower() == b"basic" and self._passwords:
            token = _password(sent)
        return self._authenticate(token) if token else None

    def _wait(self, who: Any) -> int:
        """Seconds that this credential has to wait; strangers ask for their health only."""
        return self._rates.wait(who) if self._rates is not None and who is not None else 0

    def _limit(self, scope: Scope) -> int:
        """Bytes that this request's body may have."""
        user, path = scope["user"], scope["path"]
        if user is None:
            return OPEN_BYTES
        own = self._own_limit(user, path) if self._own_limit is not None else self._max_bytes
        return min(own, self._max_bytes)

    def _is_open(self, path: str) -> bool:
        return path.startswith(OPEN_PREFIX) or path in self._open_paths


def _password(sent: bytes) -> str:
    """What stands behind the first colon, as RFC 7617 says; empty where there is none."""
    try:
        return base64.b64decode(sent.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, reason: str) -> None:
        self.status = status
        self.code = code
        super().__init__(reason)


class _Bodies:
    """Counts the bytes of the bodies that each credential has us hold at the same time.

    Each body is small enough; a hundred of them that come at once, and slowly, are not. Nobody
    else has to wait for that.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, int] = {}

    @contextmanager
    def of(self, who: Hashable, most: int) -> Iterator[Callable[[int], None]]:
        """A function that counts more bytes until the block ends; raises `_RefusedError`."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            held = self._held.get(who, 0)
            if held + size > most:
                reason = f"this credential has {held} bytes of requests on the way; ask again later"
                raise _RefusedError(429, "busy", reason)
            self._held[who] = held + size
            mine += size

        try:
            yield hold
        finally:
            self._held[who] = self._held.get(who, 0) - mine
            if not self._held[who]:
                del self._held[who]


async def _body(
    headers: dict[bytes, bytes], receive: Receive, limit: int, hold: Callable[[int], None]
) -> bytes | None:
    """The whole body, decompressed; None when the client went away meanwhile."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b"zstd"):
        raise _RefusedError(415, "encoding", "the body may be sent as it is, or as zstd")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 19 or int(length) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        hold(len(chunks[-1]))
        if not message.get("more_body", False):
            break
    body = b"".join(chunks)
    if encoding == b"zstd" and body:
        try:
            body = decompress(body, limit)
            hold(len(body))
        except FormatError as error:
            raise _RefusedError(400, "encoding", f"the body {error}") from None
    return body


def _too_large(limit: int) -> _RefusedError:
    return _RefusedError(413, "too-large", f"a request has at most {limit} bytes")


def problem_body(code: str, *reasons: str) -> bytes:
    """The body of an answer that says no: a `ProblemAnswer`."""
    document = {"code": code, "reasons": reasons, "format": "gatesync.http/1"}
    return msgspec.json.encode(document)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> dict[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replay


async def _answer(send: Send, status: int, code: str, reason: str, *, retry_after: int = 0) -> None:
    body = problem_body(code, reason)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if retry_after:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
