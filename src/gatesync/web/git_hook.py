"""`POST /hooks/git`: a Git server says that something was pushed, and the branch is looked at.

It stands in front of the guard, as a Git server has no token of ours: it proves that it knows the
webhook's secret, as GitHub does (an HMAC of the body, in X-Hub-Signature-256; Gitea and Forgejo
do the same) or as GitLab does (the secret itself, in X-Gitlab-Token). Nothing that it sends is
believed but that: what was pushed is read from the repository, and verified as ever.
"""

import asyncio
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from gatesync.secret import Secret
from gatesync.web.guard import Receive, Scope, Send, problem_body
from gatesync.web.rates import Rates

__all__ = ["HOOK_PATH", "GitHook"]

HOOK_PATH: Final = "/hooks/git"
BODY_MAX: Final = 25 * 1024 * 1024  # GitHub sends no more; it is hashed as it comes, and not kept
READ_MAX: Final = 1024 * 1024  # of which the branch is read; a larger one may be of ours
BODY_SECONDS: Final = 10.0  # what GitHub waits for an answer
AT_ONCE: Final = 16  # bodies
PER_SECOND: Final = 5.0  # requests of one address, for as long as it likes
REMEMBERED: Final = 1_000  # deliveries
_FORMAT: Final = "gatesync.http/1"
_SIGNATURE: Final = re.compile(rb"sha256=([0-9a-f]{64})")
_PUSHES: Final = frozenset({b"push", b"Push Hook", b"System Hook"})

_log = structlog.get_logger("gatesync.git")


class _Push(msgspec.Struct):
    """What is read of a push; anything else in it is nobody's business here."""

    ref: str = ""


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, reason: str, retry_after: int = 0) -> None:
        self.status = status
        self.code = code
        self.retry_after = retry_after
        super().__init__(reason)


class GitHook:
    """Takes that one path; passes everything else on.

    Args:
        app: what stands behind it.
        secret: what a Git server has to know.
        branch: pushes to others are no news.
        pushed: looks at the branch; called for each delivery that is news, and returns at once.
        rates: how often one address may ask, whatever it proves.
        body_seconds: what a request may take to arrive.
    """

    def __init__(
        self,
        app: Any,
        secret: Secret,
        branch: str,
        pushed: Callable[[], None],
        *,
        rates: Rates | None = None,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._secret = secret.reveal().encode()
        self._ref = f"refs/heads/{branch}"
        self._pushed = pushed
        self._rates = rates or Rates(PER_SECOND)
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._body_seconds = body_seconds
        self._reading = 0
        self._told = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] != "http" or scope["path"] != HOOK_PATH:
            await self._app(scope, receive, send)
            return
        try:
            said = await self._answer(scope, receive)
        except _RefusedError as error:
            # Who asks a thousand times fills no log.
            tell = _log.debug if error.code == self._told else _log.warning
            tell("a webhook was refused", address=_address(scope), reason=str(error))
            self._told = error.code
            await _refuse(send, error)
            return
        if said is not None:  # else the client went away
            _log.info("a webhook came", address=_address(scope), made_of_it=said)
            self._told = ""
            await _send(send, 200, msgspec.json.encode({"status": said, "format": _FORMAT}))

    async def _answer(self, scope: Scope, receive: Receive) -> str | None:
        """What is made of a request; None where it ended before it was all there."""
        if wait := self._rates.wait(_address(scope)):
            raise _RefusedError(429, "busy", f"too many webhooks; ask again in {wait} s", wait)
        if scope["method"] != "POST":
            raise _RefusedError(405, "method", "webhooks are sent with POST")
        headers = dict(scope["headers"])
        proof = _Proof(headers, self._secret)  # who has none is not listened to
        body = await self._read(headers, receive, proof)
        if body is None:
            return None
        proof.check()
        event = headers.get(b"x-github-event") or headers.get(b"x-gitlab-event", b"push")
        if event not in _PUSHES:
            return "pong" if event == b"ping" else "ignored: it tells of no push"
        if not self._is_ours(body):
            return "ignored: it is another branch's"
        if self._is_known(headers, proof.digest):
            return "known: it came before"
        self._pushed()
        return "looking at the branch"

    async def _read(
        self, headers: dict[bytes, bytes], receive: Receive, proof: "_Proof"
    ) -> bytes | None:
        """The body, or its beginning where it is a large one; None where it did not end."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 19 or int(length) > BODY_MAX:
            raise _too_large()
        if self._reading >= AT_ONCE:
            raise _RefusedError(429, "busy", "many webhooks come in; ask again in 1 s", 1)
        self._reading += 1
        try:
            async with asyncio.timeout(self._body_seconds):
                return await _body(receive, proof)
        except TimeoutError:
            reason = f"it took longer than {self._body_seconds:g} s"
            raise _RefusedError(408, "slow", reason) from None
        finally:
            self._reading -= 1

    def _is_ours(self, body: bytes) -> bool:
        """Whether it is about our branch, or does not say so that we could tell."""
        try:
            ref = msgspec.json.decode(body, type=_Push).ref
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return True  # form-encoded, or cut off at READ_MAX
        return not ref or ref == self._ref

    def _is_known(self, headers: dict[bytes, bytes], digest: bytes) -> bool:
        """Remembers a delivery by its id and by its body, as an id is not what is signed.

        To look once more would do no harm, but to Git servers that count questions.
        """
        given = headers.get(b"x-github-delivery") or headers.get(b"x-gitlab-event-uuid") or b""
        names = {b"body " + digest} | ({b"id " + given[:100]} if given else set())
        known = any(name in self._seen for name in names)
        for name in names:
            self._seen[name] = None
            self._seen.move_to_end(name)
        while len(self._seen) > 2 * REMEMBERED:
            self._seen.popitem(last=False)
        return known


class _Proof:
    """That the sender knows the secret: told by a header, or by one and the body."""

    def __init__(self, headers: dict[bytes, bytes], secret: bytes) -> None:
        self._signature = _SIGNATURE.fullmatch(headers.get(b"x-hub-signature-256", b""))
        self._hmac = hmac.new(secret, digestmod=hashlib.sha256)
        self._body = hashlib.sha256()
        if self._signature is not None:
            return
        token = headers.get(b"x-gitlab-token", b"")
        # Hashed first, so that not even its length can be measured.
        if not hmac.compare_digest(hashlib.sha256(token).digest(), hashlib.sha256(secret).digest()):
            raise _no_proof()

    @property
    def digest(self) -> bytes:
        """Of the body."""
        return self._body.digest()

    def take(self, chunk: bytes) -> None:
        """More of the body."""
        self._body.update(chunk)
        self._hmac.update(chunk)

    def check(self) -> None:
        """After the whole body. Raises `_RefusedError` where it is not what was signed."""
        if self._signature is not None and not hmac.compare_digest(
            self._signature[1], self._hmac.hexdigest().encode()
        ):
            raise _no_proof()


def _no_proof() -> _RefusedError:
    return _RefusedError(
        401,
        "unauthorized",
        "X-Hub-Signature-256 or X-Gitlab-Token has to prove the webhook's secret: the same as "
        "webhook_secret in [apim.sync_runtime_artifacts.git]",
    )


def _too_large() -> _RefusedError:
    return _RefusedError(413, "too-large", f"a webhook has at most {BODY_MAX} bytes")


async def _body(receive: Receive, proof: _Proof) -> bytes | None:
    kept = bytearray()
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_MAX:
            raise _too_large()
        proof.take(chunk)
        kept += chunk[: READ_MAX - len(kept)]
        if not message.get("more_body", False):
            return bytes(kept)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _refuse(send: Send, error: _RefusedError) -> None:
    headers = [(b"retry-after", str(error.retry_after).encode())] if error.retry_after else []
    if error.status == 405:
        headers.append((b"allow", b"POST"))
    if error.status in (408, 413):
        headers.append((b"connection", b"close"))
    await _send(send, error.status, problem_body(error.code, str(error)), headers)


async def _send(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    all_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
