"""Contents by digest over HTTP: answers that never change, for gateways and for caches before them.

    GET /v1/frames/DIGESTS    many at once, as one zstd frame; the same URL for the same contents
    GET /v1/contents/DIGEST   one artifact's canonical form
    GET /v1/access            whether a token may read one of these, for a cache that has it already

A token reads what its labels hold or lately held (`readable`). Anything else is to it as if it
were not there.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, Any, Final
from weakref import WeakValueDictionary

import structlog
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import FromPath, HeaderParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError
from gatesync.publisher.pulling import FullPulls
from gatesync.publisher.readable import ReadableContents
from gatesync.publisher.service import Publisher
from gatesync.publisher.tokens import Principal, Role
from gatesync.stores.wire import BATCH_BYTES, CONTENTS_TYPE, digests_in, pack_contents
from gatesync.web.app import BusyError, ForbiddenError, NotFoundError

__all__ = [
    "Frames",
    "TooMuchError",
    "begin_pull",
    "get_access",
    "get_content",
    "get_frame",
    "in_pull",
]

# Of packed contents kept, for gateways that start. 100,000 of 4 kB take 150 MB, and are not to
# push each other out: to make a frame takes a publisher ten times as long as to send it.
FRAMES_BYTES: Final = 192 * 1024 * 1024
LARGE_DIGESTS: Final = 16  # more at once are part of a full pull,
LARGE_BYTES: Final = 1024 * 1024  # and so is a larger frame
FOREVER: Final = "public, max-age=31536000, immutable"
_CONTENT_URI: Final = re.compile(r"/v1/contents/([0-9a-f]{64})")
_FRAMES: Final = "/v1/frames/"

_log = structlog.get_logger("gatesync.publisher")
_Ask = Request[Principal, Any, State]


class TooMuchError(Exception):
    """More was asked for at once than this process wants to hold."""


class Frames:
    """Answers made once for the gateways that ask for the same, also at the same time.

    A frame is kept under its digests, a page of a manifest under its head and where it begins.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._making: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        self._size = 0

    async def get(
        self, digests: tuple[str, ...], make: Callable[[], Awaitable[tuple[bytes, bool]]]
    ) -> tuple[bytes, bool]:
        """The frame, and whether it is complete; `make` makes it, and only that is kept."""
        if (frame := self._known(digests)) is not None:
            return frame, True
        lock = self._making.setdefault(digests, asyncio.Lock())
        async with lock:
            if (frame := self._known(digests)) is not None:
                return frame, True
            frame, complete = await make()
            if complete:
                self._keep(digests, frame)
            return frame, complete

    def _known(self, digests: tuple[str, ...]) -> bytes | None:
        frame = self._frames.get(digests)
        if frame is not None:
            self._frames.move_to_end(digests)
        return frame

    def _keep(self, digests: tuple[str, ...], frame: bytes) -> None:
        self._frames[digests] = frame
        self._size += len(frame)
        while self._size > FRAMES_BYTES:
            self._size -= len(self._frames.popitem(last=False)[1])


def in_pull(app: ASGIApp) -> ASGIApp:
    """Middleware of what may be part of a full pull: sees to it that what began ends."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)  # until the answer was sent
        finally:
            state: dict[str, Any] = scope.get("state", {})
            if (end := state.pop("end_pull", None)) is not None:
                end()

    return answer


def begin_pull(request: _Ask, *, further: bool = False) -> None:
    """Count the request as part of a full pull. Raises `BusyError` where others are first.

    What is `further` goes on with a list that its node has the beginning of: it is not refused.

    People's own tokens are not limited: there are few of them, and they wait for an answer.
    """
    node = request.user
    pulls: FullPulls = request.app.state.pulls
    if node.role is not Role.NODE or "end_pull" in request.scope["state"]:
        return
    if further:
        if not pulls.go_on(node.id):
            return
    elif (wait := pulls.begin(node.id)) is not None:
        raise BusyError(f"many nodes start at once; this one's turn is in {wait} s", wait)
    request.scope["state"]["end_pull"] = lambda: pulls.end(node.id)


@get("/v1/frames/{name:str}", middleware=[in_pull])
async def get_frame(request: _Ask, name: FromPath[str]) -> Response[bytes]:
    """Up to 180 artifacts by digest, in one zstd frame; what is not there is left out.

    `name` is the digests' bytes, one behind the other, in base64url. 413 too-much where several
    are together more than 32 MiB: ask for fewer. 429 busy with Retry-After where many nodes start.
    """
    digests = digests_in(name)
    if len(digests) > LARGE_DIGESTS:
        begin_pull(request)
    readable = await _readable(request, digests)
    frames: Frames = request.app.state.frames
    frame, complete = await frames.get(readable, lambda: _frame(request, readable))
    if len(frame) > LARGE_BYTES:
        begin_pull(request)
    if not complete or len(readable) < len(digests):  # what is missing may come
        return Response(frame, media_type=CONTENTS_TYPE, headers={"Cache-Control": "no-store"})
    return _immutable(request, frame, CONTENTS_TYPE, name[:43] + digest_of(frame)[:16])


async def _frame(request: _Ask, digests: tuple[str, ...]) -> tuple[bytes, bool]:
    """A frame of what the store gave out undamaged, and whether that is everything.

    A frame is kept for everyone who asks, so one bad read must not get into it (promise 8).
    """
    publisher: Publisher = request.app.state.publisher
    size = sum((await publisher.saver.sizes(digests)).values())
    if size > BATCH_BYTES and len(digests) > 1:
        raise TooMuchError(f"these are {size} bytes; ask for at most {BATCH_BYTES} at once")
    contents = await publisher.saver.contents(digests)
    packed, good = await asyncio.to_thread(_pack, contents)
    return packed, good == len(set(digests))


def _pack(contents: dict[str, bytes]) -> tuple[bytes, int]:
    good = {digest: each for digest, each in contents.items() if digest_of(each) == digest}
    if len(good) < len(contents):
        _log.error("the store holds other bytes", digests=sorted(contents.keys() - good.keys()))
    return pack_contents(good), len(good)


@get("/v1/contents/{digest:str}")
async def get_content(request: _Ask, digest: FromPath[str]) -> Response[bytes]:
    """One artifact's canonical form. It never changes; any cache may keep it."""
    publisher: Publisher = request.app.state.publisher
    found = await publisher.saver.contents(await _readable(request, (digest,)))
    if digest not in found or digest_of(found[digest]) != digest:  # promise 8
        raise NotFoundError(f"no contents with digest {digest[:64]}")
    return _immutable(request, found[digest], "application/json", digest)


@get("/v1/access", status_code=204)
async def get_access(
    request: _Ask,
    original: Annotated[str, HeaderParameter(name="X-Original-URI")] = "",
) -> None:
    """204 where the token may read all that the URI in X-Original-URI names; else 403, or 401.

    For a cache, before it answers. It is looked at each time: a token that was revoked opens
    nothing any more, and what is not there is as closed as what the token may not read.
    """
    if request.user.reads_all:
        return
    if not original:
        raise ForbiddenError("X-Original-URI is missing: the cache has to say what is asked for")
    digests = _named(original)
    if not digests or len(await _readable(request, digests)) < len(digests):
        raise ForbiddenError("the cache may not answer this; ask the publisher itself")


@lru_cache(maxsize=256)  # nodes that start together ask for the same; 28 kB each at most
def _named(uri: str) -> tuple[str, ...]:
    """The digests in the URI of contents, exactly as gateways write it; none in any other."""
    if (content := _CONTENT_URI.fullmatch(uri)) is not None:
        return (content[1],)
    if uri.startswith(_FRAMES):
        with contextlib.suppress(FormatError):
            return digests_in(uri.removeprefix(_FRAMES))
    return ()


async def _readable(request: _Ask, digests: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the digests that the token may read."""
    readable: ReadableContents = request.app.state.readable
    return await readable.of(request.user, digests)


def _immutable(request: _Ask, body: bytes, media_type: str, tag: str) -> Response[bytes]:
    """No `Vary`: there is one form of it, whatever a request says it accepts."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": FOREVER}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
