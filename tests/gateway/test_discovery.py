"""Finding the broker: whatever a publisher answers, a gateway goes on and asks again."""

from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import msgspec
import pytest

from gatesync.events.hub import AskAgain, EventHub, HubAddress, HubError
from gatesync.events.in_process import open_in_process_hub
from gatesync.events.nats import open_nats_hub
from gatesync.gateway.agent import ClusterView, discovered_hub
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError
from tests.gateway.virtual_time import in_virtual_time, now

pytestmark = pytest.mark.fast

URL = "http://publisher.example"


class Told:
    """A publisher that answers these in turn, the last one for ever."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def get(self, path: str, answer: type[ClusterView]) -> ClusterView:
        assert path == "/v1/cluster"
        self.asked += 1
        told = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(told, Exception):
            raise told
        return msgspec.convert({"event_hub": told}, answer)


def opened(told: HubAddress, ask_again: AskAgain) -> AbstractAsyncContextManager[EventHub]:
    return open_nats_hub(told.endpoints, user=None, password=None, name="n1", ask_again=ask_again)


def discovered(told: Told) -> AbstractAsyncContextManager[EventHub | None]:
    return discovered_hub(cast(HttpClient, told), opened)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": []},
        {"endpoints": ["amqp://broker.example"]},
        {"endpoints": ["nats://broker.example:99999"]},
        {"endpoints": [""]},
        UnreachableError("it is away"),
        AnsweredError(URL, 503, b""),
    ],
    ids=str,
)
@in_virtual_time
async def test_it_is_asked_again_until_it_tells_of_a_broker_or_of_none(wrong: Any) -> None:
    told = Told(wrong, wrong, None)
    started = now()
    async with discovered(told) as hub:
        assert hub is None
    assert told.asked == 3
    assert 0.5 <= now() - started <= 2


@in_virtual_time
async def test_what_goes_wrong_later_is_not_taken_for_a_wrong_answer() -> None:
    told = Told(None)
    with pytest.raises(UnreachableError, match="later"):
        async with discovered(told):
            raise UnreachableError("later")
    assert told.asked == 1


@in_virtual_time
async def test_a_broker_that_is_lost_is_asked_for_again() -> None:
    """Whatever a publisher answers then, an error or none, is no address."""
    here, there = ({"endpoints": [f"nats://{host}.example"]} for host in ("here", "there"))
    told = Told(here, UnreachableError("it is away"), AnsweredError(URL, 503, b""), None, there)
    asking: list[AskAgain] = []

    def keep(_: HubAddress, ask_again: AskAgain) -> AbstractAsyncContextManager[EventHub]:
        asking.append(ask_again)
        return open_in_process_hub()

    async with discovered_hub(cast(HttpClient, told), keep):
        (ask_again,) = asking
        for wrong in ("it is away", "503", "no broker any more"):
            with pytest.raises(HubError, match=wrong):
                await ask_again()
        assert (await ask_again()).endpoints == ("nats://there.example",)
