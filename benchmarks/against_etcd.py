"""Beside etcd, in the same run: a change reaches 10 gateways, and 10 watchers of one etcd.

etcd as its documentation starts it for one member: durable, each put waits for the disk. The
watchers are `etcdctl watch`, processes of their own, over gRPC; the put goes to etcd's gRPC gateway
on a connection that stays open. A watcher has the change when it has printed it; in etcd's favour
nothing verifies it, deploys it or reports back. Ours: broker, publisher on SQLite, and gateways, in
processes of their own, until each has reported that the change is deployed.
"""

import argparse
import asyncio
import base64
import os
import shutil
import subprocess
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from cluster import cluster
from figures import Peer, milliseconds, print_figure, print_skipped
from gatesync.artifacts import canonical
from gatesync.web.client import HttpClient, open_client
from parts import artifact_of, free_port, wait_until
from peers import MissingPeerError, etcd, version_of

NAME = "against_etcd"
KEYS = "/apis/"
WARM_UP = 5  # rounds
SECONDS_MOST = 60.0
SETTINGS = {
    "etcd": "one member, loopback, no TLS, no users; everything else by default",
    "watchers": f"etcdctl watch --prefix {KEYS}",
    "put": "POST /v3/kv/put",
}


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=10)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of an artifact, canonical")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    try:
        program = etcd()
        if shutil.which("etcdctl") is None:
            raise MissingPeerError("not installed: apt-get install etcd-client")
    except MissingPeerError as error:
        print_skipped(NAME, "a change to watchers of etcd", str(error), Peer("etcd"))
        return
    peer = Peer("etcd", version_of(program, "--version").rpartition(" ")[2], SETTINGS)
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        ours, theirs = uvloop.run(_measure(Path(folder), program, options))
    mine, limit = milliseconds(ours), milliseconds(theirs)
    print_figure(
        NAME,
        f"a change to {options.watchers} gateways in processes of their own",
        gateways=options.watchers,
        bytes=options.size,
        **mine,
        limit={"what": "as many watchers of etcd, which report nothing", **limit},
        ratio=round(mine["p50"] / limit["p50"], 2),
        peer=peer,
    )


async def _measure(
    folder: Path, program: Path, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    count = options.watchers
    ours: list[float] = []
    theirs: list[float] = []
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(cluster(folder / "gatesync"))
        for number in range(count):
            mine.start_gateway(f"gw{number}")
        await mine.until_ready(count)
        url = stack.enter_context(_etcd(program, folder))
        client = await stack.enter_async_context(open_client(url, "", timeout=60.0))
        watchers = [await _watcher(stack, url) for _ in range(count)]
        await _until_all_watch(client, watchers)
        for edit in range(options.rounds + WARM_UP):
            here = await mine.publish(edit % 5, options.size, edit, count)
            content = canonical.encode(artifact_of(edit % 5, options.size, edit))
            there = await _put(client, watchers, content)
            if edit >= WARM_UP:
                ours.append(here)
                theirs.append(there)
    return ours, theirs


@contextmanager
def _etcd(program: Path, folder: Path) -> Iterator[str]:
    url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command: list[str | Path] = [program, "--name", "bench", "--data-dir", folder / "etcd"]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url]
    command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    command += ["--initial-cluster", f"bench={peers}"]
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(f"{url}/health")
        yield url
    finally:
        process.terminate()
        process.wait()


async def _watcher(stack: AsyncExitStack, url: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        *("etcdctl", "--endpoints", url, "watch", "--prefix", KEYS),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"ETCDCTL_API": "3"},
        limit=1 << 20,
    )

    async def end() -> None:
        process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process


async def _until_all_watch(client: HttpClient, watchers: list[Process]) -> None:
    """A watcher does not say when it has begun: all have, when one put has reached them all."""
    deadline = time.monotonic() + SECONDS_MOST
    pending = {id(each): each for each in watchers}
    number = 0
    while pending:
        assert time.monotonic() < deadline, f"{len(pending)} watchers of etcd hear nothing"
        number += 1
        value = f"begin {number}".encode()
        await client.post("/v3/kv/put", _body(value), dict[str, Any])
        for key, each in list(pending.items()):
            try:
                async with asyncio.timeout(0.5):
                    await _until_printed(each, value)
            except TimeoutError:
                continue
            del pending[key]


async def _put(client: HttpClient, watchers: list[Process], content: bytes) -> float:
    """Milliseconds from the put until all watchers have printed it."""
    began = time.perf_counter()
    await client.post("/v3/kv/put", _body(content), dict[str, Any])
    async with asyncio.timeout(SECONDS_MOST):
        await asyncio.gather(*(_until_printed(each, content) for each in watchers))
    return (time.perf_counter() - began) * 1000


async def _until_printed(watcher: Process, value: bytes) -> None:
    assert watcher.stdout is not None
    while (line := await watcher.stdout.readline()).rstrip(b"\n") != value:
        assert line, "a watcher of etcd ended"


def _body(value: bytes) -> dict[str, msgspec.Raw | str]:
    key = base64.b64encode(f"{KEYS}one".encode()).decode()
    return {"key": key, "value": base64.b64encode(value).decode()}


if __name__ == "__main__":
    main()
