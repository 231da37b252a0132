"""What every engine owes (`gatesync.engines.engine`).

Derive a test class from `EngineContract`. It needs fixtures:

- `engine`: an empty engine.
- `refused`: a `Deployable` that the engine refuses, under the api_id of `deployable("menu")`;
  or None where it refuses nothing.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from gatesync.artifacts.digests import digest_of
from gatesync.engines.engine import Deployable, Engine
from tests.contracts.saves import id_of, publish

SWAPS = 300


def deployable(name: str, content: bytes | str = b"1") -> Deployable:
    made = publish(name, content)
    return Deployable(made.entry, made.content)


async def deploy(engine: Engine, *made: Deployable, undeploy: tuple[str, ...] = ()) -> None:
    assert await engine.apply(made, undeploy) == {}


def held(engine: Engine) -> Mapping[str, bytes | None]:
    return {api_id: engine.content(api_id) for api_id in engine.api_ids()}


class EngineContract:
    """Everything that holds for any engine."""

    @pytest.fixture
    def restless(self) -> Iterator[None]:
        """Threads take turns after each few instructions, so that a torn swap is seen."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            yield
        finally:
            sys.setswitchinterval(before)

    async def test_it_begins_empty_and_has_a_name(self, engine: Engine) -> None:
        assert list(engine.api_ids()) == []
        assert engine.content(id_of("menu")) is None
        assert engine.name

    async def test_it_serves_the_bytes_that_it_was_given(self, engine: Engine) -> None:
        bodies = [b"", b"\0\xff", b"\r\n \xef\xbb\xbf", "\U0001f355".encode(), b"x" * 1_000_000]
        made = [deployable(f"api-{number}", body) for number, body in enumerate(bodies)]
        await deploy(engine, *made)
        assert held(engine) == {each.entry.api_id: each.content for each in made}
        for each in made:
            content = engine.content(each.entry.api_id)
            assert content is not None
            assert digest_of(content) == each.entry.digest

    async def test_a_second_version_replaces_the_first(self, engine: Engine) -> None:
        await deploy(engine, deployable("menu", "1"), deployable("bread", "1"))
        await deploy(engine, deployable("menu", "2"))
        assert held(engine) == {id_of("menu"): b"2", id_of("bread"): b"1"}

    async def test_the_same_again_is_no_fault(self, engine: Engine) -> None:
        for _ in range(3):
            await deploy(engine, deployable("menu"))
        assert held(engine) == {id_of("menu"): b"1"}

    async def test_what_is_undeployed_is_gone(self, engine: Engine) -> None:
        await deploy(engine, deployable("menu"), deployable("bread"))
        await deploy(engine, undeploy=(id_of("menu"),))
        assert held(engine) == {id_of("bread"): b"1"}
        assert engine.content(id_of("menu")) is None
        await deploy(engine, deployable("menu", "2"))
        assert engine.content(id_of("menu")) == b"2"

    async def test_undeploying_what_is_not_there_is_no_fault(self, engine: Engine) -> None:
        await deploy(engine, deployable("bread"), undeploy=(id_of("menu"), "never heard of"))
        assert held(engine) == {id_of("bread"): b"1"}

    async def test_nothing_to_do_is_nothing_done(self, engine: Engine) -> None:
        await deploy(engine, deployable("menu"))
        await deploy(engine)
        assert held(engine) == {id_of("menu"): b"1"}

    async def test_the_list_of_what_is_deployed_is_of_one_moment(self, engine: Engine) -> None:
        await deploy(engine, deployable("menu"))
        before = engine.api_ids()
        await deploy(engine, deployable("bread"), undeploy=(id_of("menu"),))
        assert list(before) == [id_of("menu")]

    @pytest.mark.promise(4)
    async def test_what_is_refused_leaves_what_was_there_and_the_rest_goes_on(
        self, engine: Engine, refused: Deployable | None
    ) -> None:
        if refused is None:
            return  # there is nothing that this engine refuses
        await deploy(engine, deployable("menu", "1"), deployable("ham"))
        answer = await engine.apply([refused, deployable("bread")], [id_of("ham")])
        assert list(answer) == [id_of("menu")]
        assert answer[id_of("menu")]
        assert held(engine) == {id_of("menu"): b"1", id_of("bread"): b"1"}

    @pytest.mark.promise(5)
    async def test_a_reader_in_a_thread_never_meets_a_moment_without_what_is_replaced(
        self, engine: Engine, restless: None
    ) -> None:
        await deploy(engine, deployable("menu", "0"))
        api_id, missing, reads, older = id_of("menu"), 0, 0, 0
        stop = threading.Event()

        def read() -> None:
            nonlocal missing, reads, older
            newest = -1
            while not stop.is_set():
                content = engine.content(api_id)
                missing += content is None
                number = int(content or b"-1")
                older += number < newest
                newest = max(newest, number)
                reads += 1
                time.sleep(0)  # let the other thread have the interpreter

        await _while_reading(engine, read, stop)
        assert (missing, older) == (0, 0)
        assert reads > 0

    @pytest.mark.promise(5)
    async def test_a_reader_in_a_thread_never_sees_part_of_a_change(
        self, engine: Engine, restless: None
    ) -> None:
        """Each swap takes one of two pairs away and gives the other: always two, of one kind."""
        await deploy(engine, deployable("a1"), deployable("a2"))
        pairs = [{id_of("a1"), id_of("a2")}, {id_of("b1"), id_of("b2")}]
        torn: list[set[str]] = []
        seen: list[set[str]] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                found = set(engine.api_ids())
                if found not in pairs:
                    torn.append(found)
                elif not seen or seen[-1] != found:
                    seen.append(found)
                time.sleep(0)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for number in range(SWAPS):
                new, old = ("b", "a") if number % 2 == 0 else ("a", "b")
                await deploy(
                    engine,
                    deployable(f"{new}1"),
                    deployable(f"{new}2"),
                    undeploy=(id_of(f"{old}1"), id_of(f"{old}2")),
                )
                await asyncio.sleep(0.0005)
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)
        assert torn == []
        assert len(seen) > 1, "the reader saw no swap"


async def _while_reading(engine: Engine, read: Callable[[], None], stop: threading.Event) -> None:
    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(1, SWAPS):
            await deploy(engine, deployable("menu", str(number)))
            await asyncio.sleep(0.0005)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
