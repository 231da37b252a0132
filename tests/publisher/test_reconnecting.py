"""A publisher whose broker was away tells the heads as soon as it is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.events.buffer import ReportBuffer
from gatesync.events.hub import BUFFER_MESSAGES, HubError, ReportListener
from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import HeadsAnnounced, decode_announcement
from gatesync.publisher.requests import ChangeRequest, PublishItem
from gatesync.publisher.service import Publisher
from gatesync.stores.memory import MemoryStore

pytestmark = pytest.mark.fast

LABEL = "Label1"
HEARTBEAT = 3600.0  # none but the first comes by itself
XML = b'<sequence xmlns="http://ws.apache.org/ns/synapse" name="fault"><drop/></sequence>'


class LateHub(InProcessHub):
    """Has no broker until `connect`; then its listeners are told, as `EventHub` says."""

    def __init__(self) -> None:
        super().__init__()
        self.there = False
        self.refused = asyncio.Event()
        self._listeners: list[ReportBuffer] = []

    def connect(self) -> None:
        self.there = True
        for listener in self._listeners:
            listener.lose("connected")

    async def announce(self, label: str, message: bytes) -> None:
        if not self.there:
            self.refused.set()
            raise HubError("no broker is connected")
        await super().announce(label, message)

    @asynccontextmanager
    async def reports(self, *, buffer: int = BUFFER_MESSAGES) -> AsyncIterator[ReportListener]:
        listener = ReportBuffer(buffer)
        self._listeners.append(listener)
        yield listener


@pytest.mark.promise(3)
async def test_heads_are_announced_when_the_broker_comes_not_a_heartbeat_later() -> None:
    store, hub = MemoryStore(), LateHub()
    content = canonical.encode(artifact_from_xml(XML, "fault.xml"))
    item = PublishItem(msgspec.json.decode(content), digest_of(content))
    publisher = Publisher(store, hub, "publisher", heartbeat=HEARTBEAT)

    async with asyncio.timeout(10), hub.announcements([LABEL]) as listener:
        running = asyncio.create_task(publisher.run())
        try:
            await publisher.change(ChangeRequest((LABEL,), (item,)), "key", len(content))
            await hub.refused.wait()  # its event went nowhere
            hub.connect()
            message = await listener.next()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    assert isinstance(message, bytes)
    announced = decode_announcement(message)
    assert isinstance(announced, HeadsAnnounced)
    assert announced.heads == tuple(await store.labels())
