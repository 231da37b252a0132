"""Who reads one label learns of no other, whatever is announced."""

import asyncio
import uuid

import msgspec
import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import ChangeAnnounced, HeadsAnnounced, decode_announcement
from gatesync.publisher.requests import ChangeRequest, PublishItem
from gatesync.publisher.service import Publisher
from gatesync.stores.memory import MemoryStore

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

LABELS = ("Label A", "Label B", "Label C")
XML = b'<sequence xmlns="http://ws.apache.org/ns/synapse" name="fault"><drop/></sequence>'


async def test_each_message_speaks_of_the_label_that_it_is_sent_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[str, bytes]] = []

    async def note(self: InProcessHub, label: str, message: bytes) -> None:
        sent.append((label, message))

    monkeypatch.setattr(InProcessHub, "announce", note)
    publisher = Publisher(MemoryStore(), InProcessHub(), "publisher", heartbeat=3600.0)
    content = canonical.encode(artifact_from_xml(XML, "fault.xml"))
    item = PublishItem(msgspec.json.decode(content), digest_of(content))
    running = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(30):
            # One request, one transaction, one heartbeat: for all of them.
            await publisher.change(ChangeRequest(LABELS, (item,)), str(uuid.uuid4()), 0)
            await publisher.confirm(LABELS[0])
            publisher.start_verification()
            while {each for each, m in sent if _is_heads(m)} != set(LABELS):  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {label for label, message in sent if not _is_heads(message)} == set(LABELS)
    for label, message in sent:
        told = decode_announcement(message)
        if isinstance(told, ChangeAnnounced):
            assert told.change_set.label == label
        else:
            assert [head.label for head in told.heads] == [label]
        assert not any(other.encode() in message for other in LABELS if other != label)


def _is_heads(message: bytes) -> bool:
    return isinstance(decode_announcement(message), HeadsAnnounced)
