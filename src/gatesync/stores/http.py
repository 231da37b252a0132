"""A publisher's store, read over HTTP: the retriever of a gateway without a database."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import structlog

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Behind,
    Delta,
    Forbidden,
    ManifestPage,
    StoreError,
    TooOld,
)
from gatesync.stores.wire import (
    BATCH_DIGESTS,
    AttestationsAnswer,
    DeltaAnswer,
    DigestAnswer,
    HeadsAnswer,
    ManifestAnswer,
    ProblemAnswer,
    frame_path,
    unpack_contents,
)
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError

__all__ = ["HttpRetriever"]

_T = TypeVar("_T")

# A batch is bounded by what its caller asks for; this stops a frame that claims to be more.
FRAME_MAX_BYTES: Final = 4 * ARTIFACT_MAX_BYTES
WAIT_SECONDS: Final = 60  # no publisher tells a node to wait for longer at once
SPREAD_SECONDS: Final = 0.5  # Retry-After knows whole seconds only; this sets nodes apart
DISTRUST_SECONDS: Final = 30.0  # a cache that failed is not asked for so long
_OF_THE_TOKEN: Final = (401, 403)

_log = structlog.get_logger("gatesync.gateway")


class HttpRetriever:
    """See `Retriever`; each answer is the publisher's own word, never a replica's.

    Where many nodes start at once, a publisher tells each when to come back with its manifest and
    its large batches. That is a wait like that for any answer, no failure.

    Args:
        client: the publisher.
        contents_url: a cache before it, which is asked for contents first; None for none.
        clock: the monotonic clock.
        sleep: waits for so many seconds.
        random: a number from [0, 1).

    Attributes:
        on_wait: called with the seconds of each such wait when it begins.
        weak_history: whether the publisher's store has one, as its last list said (promise 6).
    """

    def __init__(
        self,
        client: HttpClient,
        contents_url: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.on_wait: Callable[[float], None] = lambda _: None
        self.weak_history = False
        self._client = client
        self._cache = client.at(contents_url) if contents_url else None
        self._cache_trusted_from = float("-inf")
        self._clock = clock
        self._sleep = sleep
        self._random = random

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        answer = await self._get("/v1/heads", HeadsAnswer, [("label", each) for each in labels])
        found = {head.label: head for head in answer.heads}
        if missing := set(labels) - set(found):
            raise StoreError(f"{self._client.url} gave no head of {sorted(missing)}")
        for label, wanted in (at_least or {}).items():
            head = found[label]
            if head.epoch != wanted.epoch or head.revision < wanted.revision:
                raise Behind(head, wanted)
        return found

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        params = [("label", label), ("epoch", since.epoch), ("since", since.revision)]
        answer = await self._get("/v1/changes", DeltaAnswer, params, wanted=since)
        return answer.delta

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        params: list[tuple[str, Any]] = [("label", label), ("after", after), ("limit", limit)]
        if at is not None:
            params += [("at_epoch", at.epoch), ("at_revision", at.revision)]
        if at_least is not None:
            params += [("epoch", at_least.epoch), ("revision", at_least.revision)]
        wanted = at or at_least
        answer = await self._get("/v1/manifest", ManifestAnswer, params, wanted=wanted)
        self.weak_history = answer.weak_history
        return answer.page

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        params = [("label", label), ("epoch", cursor.epoch), ("revision", cursor.revision)]
        return (await self._get("/v1/digest", DigestAnswer, params)).digest

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        params = [("label", label), ("after", after), ("limit", limit)]
        return (await self._get("/v1/attestations", AttestationsAnswer, params)).attestations

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`. What does not match its digest counts as not there."""
        asked = list(digests)
        found: dict[str, bytes] = {}
        for start in range(0, len(asked), BATCH_DIGESTS):
            batch = asked[start : start + BATCH_DIGESTS]
            kept = await self._from_cache(batch)
            found |= kept
            if absent := [digest for digest in batch if digest not in kept]:
                found |= await self._from_publisher(absent)
        return found

    async def _from_cache(self, digests: list[str]) -> dict[str, bytes]:
        """What the cache before the publisher has; nothing where it does not work as it should."""
        if self._cache is None or self._clock() < self._cache_trusted_from:
            return {}
        try:
            return await self._frame(self._cache, digests)
        except (AnsweredError, UnreachableError, FormatError) as error:
            if not isinstance(error, AnsweredError) or error.status not in _OF_THE_TOKEN:
                self._cache_trusted_from = self._clock() + DISTRUST_SECONDS
                _log.warning("the cache of contents did not answer", reason=str(error))
            return {}  # the publisher has everything, and says what is wrong with a token

    async def _from_publisher(self, digests: list[str]) -> dict[str, bytes]:
        try:
            return await self._frame(self._client, digests)
        except (AnsweredError, UnreachableError) as error:
            raise StoreError(str(error)) from error
        except FormatError as error:
            raise StoreError(f"{self._client.url}/v1/frames: {error}") from error

    async def _frame(self, client: HttpClient, digests: list[str]) -> dict[str, bytes]:
        """Up to `BATCH_DIGESTS`; what is too much for one answer is asked for in halves."""
        try:
            path = frame_path(digests)
            response = await self._in_turn(lambda: client.request("GET", path))
        except AnsweredError as error:
            half = len(digests) // 2
            if error.code != "too-much" or half == 0:
                raise
            return await self._frame(client, digests[:half]) | await self._frame(
                client, digests[half:]
            )
        return unpack_contents(response.body, FRAME_MAX_BYTES)

    async def _in_turn(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask, and come back as often as the publisher says that others are first."""
        while True:
            try:
                return await ask()
            except AnsweredError as error:
                if error.code != "busy" or error.retry_after is None:
                    raise
                told = min(error.retry_after, WAIT_SECONDS)
                seconds = told + SPREAD_SECONDS * self._random()
            self.on_wait(seconds)
            await self._sleep(seconds)

    async def _get(
        self,
        path: str,
        answer: type[_T],
        params: list[tuple[str, Any]],
        *,
        wanted: Cursor | None = None,
    ) -> _T:
        try:
            return await self._in_turn(lambda: self._client.get(path, answer, params))
        except UnreachableError as error:
            raise StoreError(str(error)) from error
        except AnsweredError as error:
            _raise(error, wanted)


def _raise(error: AnsweredError, wanted: Cursor | None) -> NoReturn:
    if error.code == "too-old":
        raise TooOld("; ".join(error.reasons)) from error
    if error.code == "forbidden":
        raise Forbidden(str(error)) from error
    if error.code == "behind" and wanted is not None:
        with contextlib.suppress(msgspec.DecodeError):  # then it is an answer like any other no
            answer = msgspec.json.decode(error.body, type=ProblemAnswer)
            if answer.head is not None:
                raise Behind(answer.head, wanted) from error
    raise StoreError(str(error)) from error
