"""A report counts for the node on whose way it came, of the labels that it may read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import LabelReport, NodeReport, encode
from gatesync.publisher.service import KnownNode, Publisher
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Role, TokenFile
from gatesync.stores.memory import MemoryStore

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

EPOCH = "00000000-0000-0000-0000-000000000000"


def report(node: str, *labels: str) -> bytes:
    told = tuple(LabelReport(label, EPOCH, 1, 1, EMPTY_LABEL, 0) for label in labels)
    return encode(NodeReport(node, "0" * 8, 1, "0", "memory", "http://127.0.0.1:1", 1, told))


@asynccontextmanager
async def listening(hub: InProcessHub, known: KnownNode) -> AsyncIterator[Publisher]:
    """A publisher that hears reports; when the block ends it has heard all that were sent in it."""
    store = MemoryStore()
    publisher = Publisher(store, hub, "publisher", heartbeat=3600.0, known_node=known)
    running = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(30):
            while not hub._reports:  # noqa: ASYNC110
                await asyncio.sleep(0)
            yield publisher
            await hub.report("last", report("last"))
            while "last" not in {n.node for n in publisher.fleet.nodes()}:  # noqa: ASYNC110
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_report_for_another_node_is_refused_counted_and_told() -> None:
    hub = InProcessHub()
    with capture_logs() as logs:
        async with listening(hub, lambda _: None) as publisher:
            for _ in range(3):
                await hub.report("gw2", report("gw1"))  # forged
            await hub.report("gw2", report("gw2"))
    assert {each.node for each in publisher.fleet.nodes()} == {"gw2", "last"}
    assert publisher.refused_reports == 3
    refused = [entry for entry in logs if entry["event"] == "a report was refused"]
    assert [entry["log_level"] for entry in refused] == ["warning", "debug", "debug"]
    told = refused[0]
    assert told["node"] == "gw2"
    assert "'gw1'" in told["reason"]


async def test_a_node_has_no_say_in_a_label_that_it_may_not_read(tmp_path: Path) -> None:
    """It could keep a `--wait all` there waiting for ever."""
    tokens = TokenFile(tmp_path / "tokens.json")
    tokens.create(Role.NODE, "gw1", ["A"])
    tokens.create(Role.NODE, "gw1", ["B"])
    tokens.create(Role.NODE, "gw2", ["*"])
    tokens.create(Role.NODE, "gone", ["A"])
    tokens.create(Role.READ, "reader")
    tokens.revoke("gone")
    hub, registry = InProcessHub(), TokenRegistry(tmp_path / "tokens.json")
    async with listening(hub, registry.node) as publisher:
        for node in ("gw1", "gw2", "gone", "elsewhere"):
            await hub.report(node, report(node, "A", "B", "C"))

    def labels(node: str) -> Sequence[str]:
        (found,) = (each for each in publisher.fleet.nodes() if each.node == node)
        return [each.label for each in found.labels]

    assert labels("gw1") == ["A", "B"]
    assert labels("gw2") == ["A", "B", "C"]
    assert labels("elsewhere") == ["A", "B", "C"]  # which only the broker knows
    assert "gone" not in {each.node for each in publisher.fleet.nodes()}
    assert publisher.refused_reports == 1
