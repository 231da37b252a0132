"""The store as a gateway reads it: over HTTP, from a publisher, through the same contract."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gatesync.artifacts.changes import Cursor
from gatesync.artifacts.digests import digest_of
from gatesync.publisher.cluster import ClusterAnswer
from gatesync.publisher.http import publisher_app
from gatesync.publisher.service import Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import StoreError, has_weak_history
from gatesync.stores.wire import frame_path, pack_contents
from gatesync.web.app import AppState
from gatesync.web.client import AnsweredError, Response, UnreachableError, open_client
from gatesync.web.guard import Guard
from gatesync.web.server import serve
from tests.contracts.saves import asked, publish
from tests.contracts.store import StoreContract
from tests.stores.reading_through import ReadThrough
from tests.stores.sql_bench import SqlBench, opened


class HttpBench:
    """A store on SQLite, a publisher's HTTP in front of it, and a gateway's retriever."""

    store: ReadThrough

    def __init__(self, inner: SqlBench, folder: Path) -> None:
        self._inner = inner
        self._folder = folder
        self._publisher = Publisher(inner.store, None, "p")

    async def catch_up(self) -> None:
        await self._inner.catch_up()
        # A cache may go on answering with what was compacted away; this is about the store.
        self._app.state.frames = type(self._app.state.frames)()

    async def reopen(self) -> None:
        await self._inner.reopen()
        self._publisher.saver = self._inner.store

    async def open(self, stack: AsyncExitStack) -> None:
        token = TokenFile(self._folder / "tokens.json").create(Role.NODE, "n1", ["*"])
        registry = TokenRegistry(self._folder / "tokens.json")
        cluster = ClusterAnswer("p", self._inner.store.epoch, 5000, None)
        self._app = publisher_app(self._publisher, cluster, AppState(_ready, CollectorRegistry()))
        guard = Guard(self._app, registry.authenticate, 1024 * 1024)
        port = await stack.enter_async_context(serve(guard, "127.0.0.1", 0))
        self.client = await stack.enter_async_context(
            open_client(f"http://127.0.0.1:{port}", token)
        )
        self.store = ReadThrough(lambda: self._inner.store, HttpRetriever(self.client))


async def _ready() -> tuple[bool, None]:
    return True, None


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[HttpBench]:
    async with opened(f"sqlite:///{tmp_path}/store.db") as inner, AsyncExitStack() as stack:
        bench = HttpBench(inner, tmp_path)
        await bench.open(stack)
        yield bench


class TestHttpRetriever(StoreContract):
    """The whole contract, with every question asked over HTTP."""


async def test_what_is_too_much_for_one_answer_is_asked_for_in_halves(bench: HttpBench) -> None:
    items = [publish(f"N{number}", os.urandom(10 * 1024 * 1024)) for number in range(7)]
    items.append(publish("Small", "small"))
    for item in items:
        await bench.store.save([asked("Shop", item)])
    digests = [item.entry.digest for item in items]
    found = await bench.store.contents(digests)
    assert found == {item.entry.digest: item.content for item in items}
    with pytest.raises(AnsweredError, match=r"these are 73400325 bytes") as caught:
        await bench.client.request("GET", frame_path(digests))
    assert (caught.value.status, caught.value.code) == (413, "too-much")


class Liar:
    """A publisher that answers what a test tells it to."""

    url = "http://liar"

    def __init__(self, answer: bytes | AnsweredError) -> None:
        self.answer = answer

    async def get(self, _path: str, answer: type[Any], _params: Any = ()) -> Any:
        if isinstance(self.answer, AnsweredError):
            raise self.answer
        try:
            return msgspec.json.decode(self.answer, type=answer)
        except msgspec.DecodeError as error:
            raise UnreachableError(str(error)) from None

    async def request(self, *_: Any, **__: Any) -> Response:
        assert isinstance(self.answer, bytes)
        return Response(200, {}, self.answer)


@pytest.mark.promise(8)
async def test_contents_that_do_not_match_their_digest_count_as_not_there() -> None:
    good, bad = digest_of(b"good"), digest_of(b"bad")
    liar = Liar(pack_contents({good: b"good", bad: b"something else"}))
    assert await HttpRetriever(liar).contents([good, bad]) == {good: b"good"}  # type: ignore[arg-type]


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "frame", [b"", b"{}", pack_contents({digest_of(b"a"): b"a"})[:-3]], ids=["none", "json", "cut"]
)
async def test_contents_of_another_shape_are_no_answer(frame: bytes) -> None:
    with pytest.raises(StoreError, match="/v1/frames"):
        await HttpRetriever(Liar(frame)).contents([digest_of(b"a")])  # type: ignore[arg-type]


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b'{"heads": [], "format": "gatesync.http/1"}',
        b'{"heads": [{"label": "L", "epoch": "e", "digest": {"total": "zz", "count": 1}}]}',
        b'{"heads": [{"label": "L", "epoch": "e", "revision": -1}]}',
        b'{"heads": [{"label": "L", "epoch": "e"}], "format": "gatesync.http/2"}',
    ],
)
async def test_heads_of_another_shape_are_no_answer(answer: bytes) -> None:
    with pytest.raises(StoreError):
        await HttpRetriever(Liar(answer)).heads(["L"])  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b'{"code": "behind"}', b'{"code": "behind", "head": 3}'])
async def test_behind_without_a_head_is_a_no_like_any_other(body: bytes) -> None:
    liar = Liar(AnsweredError("http://liar/v1/changes", 409, body))
    with pytest.raises(StoreError) as caught:
        await HttpRetriever(liar).changes("L", Cursor("e", 1))  # type: ignore[arg-type]
    assert type(caught.value) is StoreError


@pytest.mark.promise(6)
async def test_a_list_says_how_weak_the_history_is_that_it_comes_from(
    bench: HttpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git and shares are that: what is read of them by way of a publisher is no better proof."""
    retriever = HttpRetriever(bench.client)
    await bench.store.save([asked("Shop", publish("Menu"))])
    await retriever.manifest("Shop")
    assert not has_weak_history(retriever)
    monkeypatch.setattr(bench._publisher.saver, "weak_history", True, raising=False)
    await bench.store.save([asked("Shop", publish("Bread"))])
    await retriever.manifest("Shop")
    assert has_weak_history(retriever)
