"""What every event hub owes. An adapter's test module has a class that inherits a suite.

`HubContract` needs a fixture `open_hub`: a callable that opens one more hub on the same broker.
`BrokerContract` needs `server` as well: the broker's process, which listens when a test begins.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

from gatesync.events.hub import (
    EventHub,
    HubError,
    Listener,
    Lost,
    Reported,
    ReportListener,
    TooLarge,
)
from tests.servers.nats import NatsProcess

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

PATIENCE = 15.0  # seconds, for what takes milliseconds

# Neighbours that a careless adapter, or a database's collation, would take for one.
LOOKALIKES = [
    *("A B", "A_B", "A.B", "A*B", "*", ">", "a", "A", "a ", " a", "a.b", "a.>"),
    *("\u00e4", "a\u0308", "\U0001f355", "\U0001f355\U0001f355", "x" * 254, "x" * 255),
    *("Production and Sandbox", "Production  and Sandbox", "production and sandbox"),
]


async def take(listener: Listener | ReportListener, count: int) -> list[bytes | Reported | Lost]:
    async with asyncio.timeout(PATIENCE):
        return [await listener.next() for _ in range(count)]


async def lost(listener: Listener | ReportListener) -> list[bytes | Reported]:
    """Read up to the next `Lost`; what came before it."""
    before: list[bytes | Reported] = []
    async with asyncio.timeout(PATIENCE):
        while not isinstance(message := await listener.next(), Lost):
            before.append(message)
    assert message.why
    return before


async def connected(hub: EventHub, expected: bool = True) -> None:
    async with asyncio.timeout(PATIENCE):
        while hub.connected is not expected:  # noqa: ASYNC110 - a property: nothing to await
            await asyncio.sleep(0.005)


async def logged(logs: list[Any], event: str, count: int = 1) -> Any:
    """The newest of this event's lines, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while len(found := [e for e in logs if e["event"] == event]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found[count - 1]


class HubContract:
    """What holds with or without a broker in between."""

    @pytest.fixture
    async def hub(self, open_hub: OpenHub) -> AsyncIterator[EventHub]:
        async with open_hub() as hub:
            await connected(hub)
            yield hub

    async def test_messages_arrive_in_the_order_in_which_they_were_sent(
        self, hub: EventHub
    ) -> None:
        sent = [b"%d" % number for number in range(1_000)]
        async with hub.announcements(["L"]) as listener:
            for message in sent:
                await hub.announce("L", message)
            assert await take(listener, len(sent)) == sent

    async def test_order_holds_across_the_labels_of_one_listener(self, hub: EventHub) -> None:
        sent = [b"%d" % number for number in range(300)]
        async with hub.announcements(["A", "B", "C"]) as listener:
            for number, message in enumerate(sent):
                await hub.announce("ABC"[number % 3], message)
            assert await take(listener, len(sent)) == sent

    async def test_what_is_sent_right_after_entering_is_not_missed(self, hub: EventHub) -> None:
        for number in range(100):
            async with hub.announcements(["L"]) as listener:
                await hub.announce("L", b"%d" % number)
                assert await take(listener, 1) == [b"%d" % number]

    async def test_labels_are_literal(self, hub: EventHub) -> None:
        async with AsyncExitStack() as stack:
            listeners = {
                label: await stack.enter_async_context(hub.announcements([label]))
                for label in LOOKALIKES
            }
            for mark in ("1 ", "2 "):
                for label in LOOKALIKES:
                    await hub.announce(label, (mark + label).encode())
            for label, listener in listeners.items():
                expected = [("1 " + label).encode(), ("2 " + label).encode()]
                assert await take(listener, 2) == expected

    async def test_every_listener_of_a_label_gets_each_message_once(self, hub: EventHub) -> None:
        async with (
            hub.announcements(["L", "L"]) as first,
            hub.announcements(["L", "M"]) as second,
        ):
            for message in (b"1", b"2", b"3"):
                await hub.announce("L", message)
            assert await take(first, 3) == await take(second, 3) == [b"1", b"2", b"3"]

    async def test_reports_reach_every_publisher_and_no_gateway(self, hub: EventHub) -> None:
        async with (
            hub.reports() as first,
            hub.reports() as second,
            hub.announcements(["node-1"]) as gateway,
        ):
            await hub.report("node-1", b"here")
            await hub.announce("node-1", b"a label that is called like a node")
            await hub.report("node-2", b"here too")
            sent = [Reported("node-1", b"here"), Reported("node-2", b"here too")]
            assert await take(first, 2) == await take(second, 2) == sent
            assert await take(gateway, 1) == [b"a label that is called like a node"]

    @pytest.mark.promise(8)
    async def test_a_report_comes_with_the_node_as_which_it_was_sent(self, hub: EventHub) -> None:
        """Not as which it calls itself; and a node's id is no pattern that takes others in."""
        nodes = ["a", "A", "a-1", "a_1", "report", "x" * 64]
        async with hub.reports() as listener:
            for node in nodes:
                await hub.report(node, b"I am node-1")
            assert await take(listener, len(nodes)) == [
                Reported(node, b"I am node-1") for node in nodes
            ]

    async def test_empty_and_binary_messages_and_a_mebibyte_arrive_whole(
        self, hub: EventHub
    ) -> None:
        sent = [b"", b"\x00\r\n+OK\r\n" * 10, bytes(range(256)) * 4096]
        async with hub.announcements(["L"]) as listener:
            for message in sent:
                await hub.announce("L", message)
            assert await take(listener, 3) == sent

    async def test_an_overflow_is_one_lost_and_then_fresh_messages(self, hub: EventHub) -> None:
        async with (
            hub.announcements(["L"], buffer=10) as slow,
            hub.announcements(["L"]) as barrier,
        ):
            for number in range(11):
                await hub.announce("L", b"old %d" % number)
            await take(barrier, 11)
            for number in range(3):
                await hub.announce("L", b"new %d" % number)
            await take(barrier, 3)
            first, *rest = await take(slow, 4)
            assert isinstance(first, Lost)
            assert "11 messages" in first.why
            assert rest == [b"new 0", b"new 1", b"new 2"]

    async def test_reports_overflow_by_the_same_rule(self, hub: EventHub) -> None:
        async with hub.reports(buffer=2) as slow, hub.reports() as barrier:
            for number in range(3):
                await hub.report("n", b"%d" % number)
            await take(barrier, 3)
            assert await lost(slow) == []

    async def test_waiting_can_be_cancelled_and_loses_nothing(self, hub: EventHub) -> None:
        async with hub.announcements(["L"]) as listener:
            for number in range(50):
                waiting = asyncio.create_task(listener.next())
                await asyncio.sleep(0)
                await hub.announce("L", b"%d" % number)
                waiting.cancel()
                await asyncio.wait([waiting])
                if waiting.cancelled():
                    assert await take(listener, 1) == [b"%d" % number]
                else:
                    assert waiting.result() == b"%d" % number

    async def test_leaving_ends_the_listening_and_only_that(self, hub: EventHub) -> None:
        async with hub.announcements(["L"]) as stays:
            async with hub.announcements(["L"]) as leaves:
                await hub.announce("L", b"1")
                await take(leaves, 1)
            await hub.announce("L", b"2")
            assert await take(stays, 2) == [b"1", b"2"]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await leaves.next()

    async def test_a_hub_without_trouble_names_none(self, hub: EventHub) -> None:
        async with hub.announcements(["L"]), hub.reports():
            await hub.announce("L", b"1")
            assert hub.trouble == ""

    async def test_nothing_is_left_running(self, open_hub: OpenHub) -> None:
        before = asyncio.all_tasks()
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener, hub.reports():
                await hub.announce("L", b"1")
                await take(listener, 1)
        assert asyncio.all_tasks() == before

    async def test_cancelling_a_user_leaves_nothing_running(self, open_hub: OpenHub) -> None:
        before = asyncio.all_tasks()
        inside = asyncio.Event()

        async def use() -> None:
            async with open_hub() as hub, hub.announcements(["L"]) as listener:
                inside.set()
                while True:
                    await listener.next()

        user = asyncio.create_task(use())
        async with asyncio.timeout(PATIENCE):
            await inside.wait()
        user.cancel()
        await asyncio.wait([user], timeout=PATIENCE)
        assert user.cancelled()
        assert asyncio.all_tasks() == before

    async def test_an_error_in_the_block_comes_out_as_it_is(self, open_hub: OpenHub) -> None:
        with pytest.raises(ZeroDivisionError):
            async with open_hub() as hub, hub.announcements(["L"]):
                1 / 0  # noqa: B018


class BrokerContract(HubContract):
    """What holds where a broker can be away (promise 1)."""

    @pytest.mark.promise(1)
    async def test_a_broker_that_was_killed_is_found_again_and_the_gap_is_told(
        self, open_hub: OpenHub, server: NatsProcess
    ) -> None:
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener, hub.reports() as reports:
                await hub.announce("L", b"before")
                assert await take(listener, 1) == [b"before"]
                server.kill()
                await connected(hub, False)
                with pytest.raises(HubError, match=str(server.port)):
                    await hub.announce("L", b"stale")
                assert str(server.port) in hub.trouble
                await server.start()
                assert await lost(listener) == []
                assert await lost(reports) == []
                await hub.announce("L", b"after")
                await hub.report("n", b"after, too")
                assert await take(listener, 1) == [b"after"]  # and nothing stale
                assert await take(reports, 1) == [Reported("n", b"after, too")]

    @pytest.mark.promise(1)
    async def test_each_loss_is_told(self, open_hub: OpenHub, server: NatsProcess) -> None:
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                for number in range(3):
                    server.kill()
                    await server.start()
                    assert await lost(listener) == []
                    await hub.announce("L", b"%d" % number)
                    assert await take(listener, 1) == [b"%d" % number]

    @pytest.mark.promise(1)
    async def test_entering_without_a_broker_neither_waits_nor_fails(
        self, open_hub: OpenHub, server: NatsProcess
    ) -> None:
        server.kill()
        async with asyncio.timeout(PATIENCE), open_hub() as hub:
            async with hub.announcements(["L"]) as listener:
                assert not hub.connected
                with pytest.raises(HubError):
                    await hub.announce("L", b"to nobody")
                await server.start()
                assert await lost(listener) == []
                await connected(hub)
                await hub.announce("L", b"news")
                assert await take(listener, 1) == [b"news"]

    async def test_leaving_while_no_broker_can_be_reached_leaves_nothing_running(
        self, open_hub: OpenHub, server: NatsProcess
    ) -> None:
        server.kill()
        before = asyncio.all_tasks()
        async with asyncio.timeout(PATIENCE):
            async with open_hub() as hub, hub.announcements(["L"]):
                pass
        assert asyncio.all_tasks() == before

    async def test_a_message_that_is_too_large_is_refused_with_its_sizes(
        self, open_hub: OpenHub
    ) -> None:
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                with pytest.raises(TooLarge, match=r"8388609 bytes.* at most 8388608") as refused:
                    await hub.announce("L", bytes(8_388_609))
                assert (refused.value.size, refused.value.limit) == (8_388_609, 8_388_608)
                await hub.announce("L", b"small")
                assert await take(listener, 1) == [b"small"]

    async def test_a_message_of_the_largest_size_arrives(self, open_hub: OpenHub) -> None:
        async with open_hub() as hub:
            await connected(hub)
            async with hub.announcements(["L"]) as listener:
                await hub.announce("L", bytes(8_388_608))
                assert await take(listener, 1) == [bytes(8_388_608)]
