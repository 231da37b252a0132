"""A report counts for the node on whose way it came, and for nobody else."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import NodeReport, encode
from gatesync.publisher.service import Publisher
from gatesync.stores.memory import MemoryStore

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]


def report(node: str) -> bytes:
    return encode(NodeReport(node, "0" * 8, 1, "0", "memory", "http://127.0.0.1:1", 1, ()))


async def test_a_report_for_another_node_is_refused_counted_and_told() -> None:
    hub = InProcessHub()
    publisher = Publisher(MemoryStore(), hub, "publisher", heartbeat=3600.0)
    with capture_logs() as logs:
        running = asyncio.create_task(publisher.run())
        try:
            async with asyncio.timeout(30):
                while not publisher.fleet.nodes():
                    await hub.report("gw2", report("gw1"))  # forged
                    await hub.report("gw2", report("gw2"))
                    await asyncio.sleep(0)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert [each.node for each in publisher.fleet.nodes()] == ["gw2"]
    assert publisher.refused_reports >= 1
    told = next(entry for entry in logs if entry["event"] == "a report was refused")
    assert told["node"] == "gw2"
    assert "'gw1'" in told["reason"]
