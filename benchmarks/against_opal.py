"""Beside OPAL, in the same run: a change reaches 10 gateways, one starts, and what each one takes.

All are processes of their own. Ours: broker, publisher on SQLite, gateways; a change is durable
before anybody hears of it, each gateway verifies it and reports that it is deployed. OPAL: server
and clients as `opal_cluster` sets them up; nothing is durable, and its clients report what they
have saved. Both are asked over HTTP, in alternation. `inline`: OPAL's update carries the document;
`fetched`: each client fetches it, as OPAL's documentation recommends. A start is from the begin of
the process until all entries are held: ours says so to its service manager, OPAL's to its callback.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import uvloop

from cluster import LABEL, cluster, proportional_mb
from figures import Target, milliseconds, print_figure, print_skipped
from opal_cluster import PEER, Opal, opal_cluster
from parts import publish_all
from peers import MissingPeerError, opal
from starting import EMPTY, Node, node_token

NAME = "against_opal"
FASTER = Target(
    "times_faster",
    at_least=5.0,
    why="All processes of ours share the cores. The floor is the processor time that a change "
    "takes of all of them, over the cores: no order of work can be faster than that. Half of the "
    "time is the request's own: HTTP, the commit and the audit log, which both wait for the disk.",
)
START_FASTER = Target(
    "times_faster",
    at_least=20.0,
    why="The floor is the same start with nothing to load: Python, the libraries, the first "
    "questions to the publisher.",
)

REST = 0.15  # seconds after each turn, for what either side writes down behind its answer

MEMORY_WHY = "Python, its libraries, and the bytes that are served."


def main() -> None:
    """Measure, and print a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=10)
    parser.add_argument("--artifacts", type=int, default=10_000, help="that a start loads")
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=40, help="changes")
    parser.add_argument("--starts", type=int, default=3, help="of which the median is told; or 0")
    options = parser.parse_args()
    try:
        opal()
    except MissingPeerError as error:
        print_skipped(NAME, "all of it", str(error), PEER)
        return
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        uvloop.run(_changes(Path(folder), options))
    if options.starts:
        with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            uvloop.run(_starts(Path(folder), options))


# A change reaches all --------------------------------------------------------------------------


async def _changes(folder: Path, options: argparse.Namespace) -> None:
    count, size = options.gateways, options.size
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(cluster(folder / "gatesync"))
        gateways = [ours.start_gateway(f"gw{number}").pid for number in range(count)]
        await ours.until_ready(count)
        theirs = await stack.enter_async_context(opal_cluster(folder / "opal"))
        clients = _start_clients(stack.enter_context(ExitStack()), theirs, count)
        await theirs.source.until_reported(count)  # nothing to load, which each has reported
        took: dict[str, list[float]] = {"ours": [], "inline": [], "fetched": []}
        spent: list[dict[str, float]] = []
        for edit in range(options.rounds + 5):
            number = edit % 5
            before = ours.cpu_seconds()
            mine = await ours.publish(number, size, edit, count)
            cpu = {k: (now - before[k]) * 1000 for k, now in ours.cpu_seconds().items()}
            measured = {"ours": mine}
            for way in ("inline", "fetched"):
                await asyncio.sleep(REST)
                measured[way] = await theirs.publish(
                    number, size, edit, count, inline=way == "inline"
                )
            await asyncio.sleep(REST)
            if edit >= 5:  # the first ones warm up caches and connections
                spent.append(cpu)
                for way, each in measured.items():
                    took[way].append(each)
        memory = {
            "ours": _median_mb(gateways),
            "theirs": _median_mb(clients),
        }
    figures = milliseconds(took["ours"])
    cores = os.cpu_count() or 1
    cpu_ms = {who: round(statistics.mean(each[who] for each in spent), 2) for who in spent[0]}
    floor = {
        "cpu_ms": cpu_ms,
        "cores": cores,
        "ms_if_all_cores_were_busy": round(sum(cpu_ms.values()) / cores, 2),
    }
    for way in ("inline", "fetched"):
        limit = milliseconds(took[way])
        faster = round(limit["p50"] / figures["p50"], 2)
        print_figure(
            NAME,
            f"a change to {count} gateways in processes of their own; OPAL {way}, not durable",
            way=way,
            gateways=count,
            bytes=size,
            **figures,
            limit={"what": f"OPAL, {way}", **limit},
            ratio=round(1 / faster, 3),
            times_faster=faster,
            target=FASTER,
            floor=floor,
            peer=PEER,
        )
    _print_memory("with a few artifacts", memory, count)


def _start_clients(stack: ExitStack, theirs: Opal, count: int) -> list[int]:
    return [stack.enter_context(theirs.client(f"client{number}")).pid for number in range(count)]


def _median_mb(pids: Sequence[int]) -> float:
    return round(statistics.median(proportional_mb(pid) for pid in pids), 1)


def _print_memory(when: str, megabytes: dict[str, float], count: int) -> None:
    limit = megabytes["theirs"]
    print_figure(
        NAME,
        f"memory of a gateway {when}",
        n=count,
        unit="MB",
        value=megabytes["ours"],
        limit={"what": "a client of OPAL", "value": limit, "unit": "MB"},
        ratio=round(megabytes["ours"] / limit, 2),
        target=Target("value", at_most=limit, why=MEMORY_WHY),
        floor={"value": megabytes["ours"]},
        peer=PEER,
    )


# A start ---------------------------------------------------------------------------------------


async def _starts(folder: Path, options: argparse.Namespace) -> None:
    count, size = options.artifacts, options.size
    seconds: dict[str, list[float]] = {
        "ours": [],
        "nothing": [],
        "an entry each": [],
        "one document": [],
    }
    memory: dict[str, list[float]] = {"ours": [], "theirs": []}
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(cluster(folder / "gatesync"))
        token = node_token(ours.folder / "control.toml")
        await asyncio.to_thread(
            publish_all, ours.folder / "control" / "client.toml", LABEL, count, size
        )
        theirs = await stack.enter_async_context(opal_cluster(folder / "opal"))
        for number in range(options.starts):
            node = Node(ours.folder, f"node{number}", LABEL, token, ours.url)
            start = await asyncio.to_thread(node.start, count)
            seconds["ours"].append(start.seconds)
            memory["ours"].append(start.peak_mb)
            nothing = Node(ours.folder, f"empty{number}", EMPTY, token, ours.url)
            seconds["nothing"].append((await asyncio.to_thread(nothing.start, 0)).seconds)
            for way in ("one document", "an entry each"):
                if way == "an entry each" and number:
                    continue  # once is enough of what takes so long
                theirs.load_at_start(count, size, one_document=way == "one document")
                theirs.source.reports = 0
                began = time.perf_counter()
                with theirs.client(f"client{number}") as client:
                    await theirs.source.until_reported(1)
                    seconds[way].append(time.perf_counter() - began)
                    memory["theirs"].append(proportional_mb(client.pid))
    mine = statistics.median(seconds["ours"])
    floor = round(statistics.median(seconds["nothing"]), 3)
    for way in ("an entry each", "one document"):
        limit = statistics.median(seconds[way])
        judged: dict[str, Any] = {}
        if way == "an entry each":
            judged = {"target": START_FASTER, "floor": {"seconds_of_an_empty_start": floor}}
        print_figure(
            NAME,
            f"start of a gateway with {count:,} entries; OPAL with {way}",
            way=way,
            artifacts=count,
            bytes=size,
            n=len(seconds["ours"]),
            unit="s",
            value=round(mine, 3),
            limit={"what": f"OPAL, {way}", "value": round(limit, 3), "n": len(seconds[way])},
            ratio=round(mine / limit, 3),
            times_faster=round(limit / mine, 1),
            peer=PEER,
            **judged,
        )
    medians = {who: round(statistics.median(each), 1) for who, each in memory.items()}
    _print_memory(f"with {count:,} artifacts", medians, options.starts)


if __name__ == "__main__":
    main()
