"""The contract on a cluster of three, whose member with the connection was killed; and the kill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.events.hub import EventHub, Listener
from gatesync.events.nats import NatsHub, open_nats_hub
from tests.contracts.hub import (
    PATIENCE,
    BrokerContract,
    OpenHub,
    connected,
    logged,
    lost,
)
from tests.servers.nats import NatsCluster, nats_cluster


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    async with nats_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def open_hub(server: NatsCluster) -> OpenHub:
    """Each begins with the first member."""
    return partial(
        open_nats_hub, server.urls, user=None, password=None, name="test", jitter=lambda: 0.0
    )


class TestNatsCluster(BrokerContract):
    """An outage is one of all three; the suite itself runs after one member has died."""

    @pytest.fixture
    async def hub(self, open_hub: OpenHub, server: NatsCluster) -> AsyncIterator[EventHub]:
        with capture_logs() as logs:
            async with open_hub() as hub:
                assert (await logged(logs, "broker.connected"))["endpoint"] == server.urls[0]
                server.servers[0].kill()
                assert (await logged(logs, "broker.connected", 2))["endpoint"] == server.urls[1]
                yield hub


@pytest.mark.promise(1)
async def test_each_death_is_told_and_the_next_member_serves(
    open_hub: OpenHub, server: NatsCluster
) -> None:
    """The gateway's member dies, again and again; the publisher's stays."""
    publisher_at = partial(open_nats_hub, user=None, password=None, name="publisher")
    async with open_hub() as gateway, gateway.announcements(["L"]) as news:
        await lost(news)
        for number in range(3):
            await connected(gateway)
            mine = next(each for each in server.servers if str(each.port) in where(gateway))
            other = next(each for each in server.servers if each is not mine)
            mine.kill()
            assert set(await lost(news)) <= {b"%d" % (number - 1)}  # sent twice, heard late
            await connected(gateway)
            async with publisher_at([other.url]) as publisher:
                await connected(publisher)
                async with asyncio.timeout(PATIENCE):
                    await heard(publisher, news, b"%d" % number)
            await mine.start()
            await server.formed()


def where(hub: EventHub) -> str:
    assert isinstance(hub, NatsHub)
    assert hub._connection is not None
    return str(hub._connection.connected_url)


async def heard(publisher: EventHub, news: Listener, message: bytes) -> None:
    """Once the members have told each other who listens, which takes them a moment."""
    while True:
        await publisher.announce("L", message)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while await news.next() != message:
                    pass
                return
