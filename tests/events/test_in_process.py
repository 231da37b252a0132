from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatesync.events.hub import EventHub
from gatesync.events.in_process import InProcessHub, open_in_process_hub
from tests.contracts.hub import HubContract, OpenHub

pytestmark = pytest.mark.fast


class TestInProcessHub(HubContract):
    @pytest.fixture
    def open_hub(self) -> OpenHub:
        hub = InProcessHub()

        @asynccontextmanager
        async def enter() -> AsyncIterator[EventHub]:
            yield hub

        return enter


async def test_it_opens_like_any_other_adapter() -> None:
    async with open_in_process_hub([], user=None, password=None, name="n") as hub:
        assert hub.connected
