"""The retriever and a publisher that has no place for it, and a cache before the publisher."""

from typing import Any

import msgspec
import pytest

from gatesync.artifacts.digests import digest_of
from gatesync.stores.batching import in_shared_batches
from gatesync.stores.http import DISTRUST_SECONDS, WAIT_SECONDS, HttpRetriever
from gatesync.stores.store import StoreError
from gatesync.stores.wire import BATCH_DIGESTS, digests_in, frame_path, pack_contents
from gatesync.web.client import AnsweredError, Response, UnreachableError

pytestmark = pytest.mark.fast

GOOD = digest_of(b"good")
BUSY = b'{"code": "busy", "reasons": ["many nodes start at once"]}'
HEADS = b'{"heads": [{"label": "L", "epoch": "e"}], "format": "gatesync.http/1"}'


class Told:
    """A service that gives these answers, one after the other, and counts what it is asked."""

    def __init__(self, *answers: bytes | Exception, cache: "Told | None" = None) -> None:
        self.url = "http://told"
        self.asked: list[str] = []
        self._answers = list(answers)
        self._cache = cache

    def at(self, _url: str) -> "Told":
        assert self._cache is not None
        return self._cache

    async def request(self, _method: str, path: str) -> Response:
        self.asked.append(path)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Response(200, {}, answer)

    async def get(self, path: str, answer: type[Any], _params: Any) -> Any:
        return msgspec.json.decode((await self.request("GET", path)).body, type=answer)


def busy(seconds: int | None, body: bytes = BUSY, status: int = 429) -> AnsweredError:
    return AnsweredError("http://told", status, body, seconds)


class Sleeper:
    """Time that passes in sleep only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def retriever(self, told: Told, cache_url: str | None = None) -> HttpRetriever:
        return HttpRetriever(
            told,  # type: ignore[arg-type]
            cache_url,
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.5,
        )


async def test_it_comes_back_when_it_is_told_to_and_that_is_no_failure() -> None:
    time, told = Sleeper(), Told(busy(3), busy(7), pack_contents({GOOD: b"good"}))
    retriever, waits = time.retriever(told), list[float]()
    retriever.on_wait = waits.append
    assert await retriever.contents([GOOD]) == {GOOD: b"good"}
    assert time.slept == waits == [3.25, 7.25]


async def test_no_wait_is_longer_than_a_minute() -> None:
    time, told = Sleeper(), Told(busy(86_400), HEADS)
    await time.retriever(told).heads(["L"])
    assert time.slept == [WAIT_SECONDS + 0.25]


@pytest.mark.parametrize(
    "refusal",
    [busy(None), busy(3, b"<html>", 503), busy(3, b'{"code": "store", "reasons": ["x"]}', 503)],
    ids=["no time", "of a proxy", "of a store that failed"],
)
async def test_any_other_no_is_a_failure(refusal: AnsweredError) -> None:
    time = Sleeper()
    with pytest.raises(StoreError):
        await time.retriever(Told(refusal)).contents([GOOD])
    assert time.slept == []


async def test_what_the_cache_has_is_not_asked_of_the_publisher() -> None:
    cache = Told(pack_contents({GOOD: b"good"}))
    told = Told(cache=cache)
    assert await Sleeper().retriever(told, "http://cache").contents([GOOD]) == {GOOD: b"good"}
    assert cache.asked == [frame_path([GOOD])]
    assert told.asked == []


@pytest.mark.promise(8)
async def test_what_the_cache_has_damaged_comes_from_the_publisher() -> None:
    cache = Told(pack_contents({GOOD: b"evil"}))
    told = Told(pack_contents({GOOD: b"good"}), cache=cache)
    assert await Sleeper().retriever(told, "http://cache").contents([GOOD]) == {GOOD: b"good"}


@pytest.mark.parametrize(
    "trouble",
    [UnreachableError("no"), busy(None, b"<html>", 502), b"<html>"],
    ids=["away", "its publisher is away", "no frame"],
)
async def test_a_cache_that_fails_is_left_alone_for_a_while(trouble: bytes | Exception) -> None:
    frame, time = pack_contents({GOOD: b"good"}), Sleeper()
    cache = Told(trouble, frame)
    retriever = time.retriever(Told(frame, frame, cache=cache), "http://cache")
    for asked in (1, 1):
        assert await retriever.contents([GOOD]) == {GOOD: b"good"}
        assert len(cache.asked) == asked
    time.now += DISTRUST_SECONDS
    assert await retriever.contents([GOOD]) == {GOOD: b"good"}
    assert len(cache.asked) == 2


async def test_the_path_of_a_frame_names_its_digests_and_fits_a_request_line() -> None:
    digests = tuple(digest_of(str(number).encode()) for number in range(BATCH_DIGESTS))
    for some in (digests[:1], digests[:2], digests[:3], digests):
        path = frame_path(some)
        assert digests_in(path.removeprefix("/v1/frames/")) == some
        assert len(f"GET {path} HTTP/1.1\r\n") < 8_000


class Item:
    size = 1

    def __init__(self, number: int) -> None:
        self.digest = digest_of(str(number).encode())


def test_nodes_that_want_nearly_the_same_ask_for_nearly_the_same_batches() -> None:
    items = sorted(map(Item, range(10_000)), key=lambda item: item.digest)
    batches = {frozenset(batch) for batch in in_shared_batches(items, 10**9, BATCH_DIGESTS)}
    assert 55 <= len(batches) <= 90
    assert {len(batch) <= BATCH_DIGESTS for batch in batches} == {True}
    one_less = items[:5_000] + items[5_001:]
    others = {frozenset(batch) for batch in in_shared_batches(one_less, 10**9, BATCH_DIGESTS)}
    assert len(others - batches) < 8
    assert sum(map(len, others)) == 9_999
