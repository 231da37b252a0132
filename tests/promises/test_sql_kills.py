"""Promises 2 and 3 on a database server, while publishers and the database itself are killed."""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from gatesync.stores.sql import open_sql_store
from tests.promises.kills import (
    LABELS,
    WRITERS,
    Kills,
    Publishers,
    Reader,
    Writer,
    changes_of,
    whole_log,
)
from tests.promises.outage import SERVERS
from tests.servers.database import DatabaseProcess
from tests.servers.gatesync import Place, until
from tests.servers.mariadb import mariadb_server
from tests.servers.postgresql import postgresql_server
from tests.stores.budget import BUDGET

PUBLISHERS, READERS = 4, 2
SECONDS: Final = 8.0 * BUDGET
ROUNDS: Final = max(1, round(2 * BUDGET))
END_SECONDS: Final = 60  # to answer what is under way, and for the gateways
DEADLOCK: Final = r"(?i)deadlock|lock wait|could not serialize|40P01|40001|\b1213\b|\b1205\b"


@contextmanager
def server_of(kind: str) -> Iterator[DatabaseProcess]:
    """A server of its own: it is going to die."""
    with postgresql_server() if kind == "postgresql" else mariadb_server() as process:
        yield process


def gateways(folder: Path, publishers: Publishers, url: str) -> list[Place]:
    """Two that follow every label: one reads from a publisher, one from the database."""
    nodes = [
        Place(folder / name, labels=LABELS, node=name, publisher=publisher.publisher)
        for name, publisher in zip(("gw0", "gw1"), publishers.places, strict=False)
    ]
    with nodes[1].config.open("a") as config:
        config.write(f'[database.sync_runtime_artifacts_db]\nurl = "{url}"\n')
    return nodes


def give_tokens(nodes: list[Place], broker: Place, publishers: Publishers) -> None:
    """The same tokens for all, as docs/publishers.md says: the broker's users are made of them."""
    for node in nodes:
        broker.give_token(node, *LABELS)
    for place in publishers.places:
        place.data.mkdir(mode=0o700)
        shutil.copy2(broker.data / "tokens.json", place.data)


@pytest.mark.promise(2)
@pytest.mark.promise(3)
@pytest.mark.timeout(120 + 3 * SECONDS)
@pytest.mark.parametrize("kind", SERVERS)
async def test_kills_lose_nothing_double_nothing_and_show_no_deadlock(
    kind: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(server_of(kind))
        url = stack.enter_context(server.database())
        broker = Place(tmp_path / "broker")
        stack.callback(broker.end)
        publishers = Publishers(tmp_path, url, broker, PUBLISHERS)
        stack.callback(publishers.end)
        nodes = gateways(tmp_path, publishers, url)
        give_tokens(nodes, broker, publishers)
        broker.role("traffic-manager").start()
        publishers.start()
        for node in nodes:
            stack.callback(node.end)
            node.role("gateway").start()
        store = await stack.enter_async_context(open_sql_store(url))

        kills = Kills(server, publishers)
        # MariaDB shows a commit before it is durable; what was acknowledged is.
        readers = [Reader(store, kills, forgets=kind == "mariadb") for _ in range(READERS)]
        writers = [
            Writer(publisher, f"{publisher.node}w{number}")
            for publisher in publishers.places
            for number in range(WRITERS)
        ]
        await run(kills, readers, writers, publishers)

        for reader in readers:
            await reader.step()
        log = await whole_log(store)
        told = sum((writer.told for writer in writers), Counter())
        print(report(kills, readers, writers, told))
        assert [text for text in told if re.search(DEADLOCK, text)] == []
        acknowledged = [
            each
            for writer in writers
            for answer in writer.acknowledged
            for each in answer.change_sets
        ]
        assert changes_of(acknowledged) == changes_of(log)  # each is there, once, and no other
        assert kills.database >= 2
        assert min(len(writer.acknowledged) for writer in writers) > 0
        until(lambda: in_step(publishers.places[0]), "every gateway is in step", END_SECONDS)
        assert nodes[0].held() == nodes[1].held() != {}


async def run(
    kills: Kills, readers: list[Reader], writers: list[Writer], publishers: Publishers
) -> None:
    """Write and read while things are killed, then let the writers come to an end."""
    stop, written = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        supervising = tasks.create_task(publishers.supervise())
        reading = [tasks.create_task(each.read(written)) for each in readers]
        writing = [tasks.create_task(each.write(stop)) for each in writers]
        await kills.kill(ROUNDS, SECONDS)
        stop.set()
        async with asyncio.timeout(END_SECONDS):
            await asyncio.gather(*writing)
        written.set()
        await asyncio.gather(*reading)
        supervising.cancel()


def in_step(publisher: Place) -> bool:
    """Whether verify is clean, and nothing waits to be confirmed."""
    if publisher.run("verify").code != 0:
        return False
    labels = publisher.run("labels", "--json").json()
    return not any(labels["removals_held"].values())


def report(kills: Kills, readers: list[Reader], writers: list[Writer], told: Counter[str]) -> str:
    done = sum(len(writer.acknowledged) for writer in writers)
    repeated = sum(each.repeated for writer in writers for each in writer.acknowledged)
    return (
        f"{kills.publishers} publishers and {kills.database // 2} databases killed; "
        f"{done} requests acknowledged, {repeated} of them by a repetition; "
        f"steps of the readers {[each.steps for each in readers]}, "
        f"labels of which each saw what a kill then took back {[each.lost for each in readers]}; "
        f"writers were told {dict(told)}"
    )
