"""A publisher's store, read over HTTP: the retriever of a gateway without a database."""

import contextlib
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES
from gatesync.stores.store import (
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
    ContentsRequest,
    DeltaAnswer,
    DigestAnswer,
    HeadsAnswer,
    ManifestAnswer,
    ProblemAnswer,
    unpack_contents,
)
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError

__all__ = ["HttpRetriever"]

_T = TypeVar("_T")

# A batch is bounded by what its caller asks for; this stops a frame that claims to be more.
FRAME_MAX_BYTES: Final = 4 * ARTIFACT_MAX_BYTES


class HttpRetriever:
    """See `Retriever`; each answer is the publisher's own word, never a replica's."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

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
        return answer.page

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        params = [("label", label), ("epoch", cursor.epoch), ("revision", cursor.revision)]
        return (await self._get("/v1/digest", DigestAnswer, params)).digest

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`. What does not match its digest counts as not there."""
        asked = list(digests)
        found: dict[str, bytes] = {}
        for start in range(0, len(asked), BATCH_DIGESTS):
            found.update(await self._batch(asked[start : start + BATCH_DIGESTS]))
        return found

    async def _batch(self, digests: list[str]) -> dict[str, bytes]:
        """Up to `BATCH_DIGESTS`; what is too much for one answer is asked for in halves."""
        try:
            response = await self._client.request(
                "POST",
                "/v1/contents",
                body=msgspec.json.encode(ContentsRequest(tuple(digests))),
                headers={"Content-Type": "application/json"},
            )
            return unpack_contents(response.body, FRAME_MAX_BYTES)
        except AnsweredError as error:
            half = len(digests) // 2
            if error.code != "too-much" or half == 0:
                raise StoreError(str(error)) from error
            return await self._batch(digests[:half]) | await self._batch(digests[half:])
        except UnreachableError as error:
            raise StoreError(str(error)) from error
        except FormatError as error:
            raise StoreError(f"{self._client.url}/v1/contents: {error}") from error

    async def _get(
        self,
        path: str,
        answer: type[_T],
        params: list[tuple[str, Any]],
        *,
        wanted: Cursor | None = None,
    ) -> _T:
        try:
            return await self._client.get(path, answer, params)
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
