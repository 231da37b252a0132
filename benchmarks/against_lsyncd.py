"""Beside lsyncd, in the same run: a change reaches 4 gateways, and 4 folders that lsyncd mirrors.

lsyncd watches a tree and starts one rsync for each target. Here `delay = 0`: it waits for nothing,
where 15 s are its default; and its targets are folders of this machine, without ssh, which it would
need in a cluster: both are in its favour. The tree has as many files as there are artifacts, and
each target has all of them before the first change. A target has the change when the file's bytes
are there. Ours: broker, publisher on SQLite, and gateways, in processes of their own, until each
has reported that the change is deployed. `benchmarks/rsync.py` measures `gatesync rsync`.
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import uvloop

from cluster import LABEL, cluster
from figures import Peer, milliseconds, print_figure, print_skipped
from gatesync.artifacts import canonical
from parts import artifact_of, publish_all
from peers import MissingPeerError, lsyncd, version_of

NAME = "against_lsyncd"
SECONDS_MOST = 60.0
LOOK_SECONDS = 0.002
SETTINGS = {
    "sync": "default.rsync, one for each target, delay = 0 (15 by default)",
    "targets": "folders of the same machine, without ssh",
    "settings": "nodaemon, inotifyMode = 'CloseWrite' (the default)",
}


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--artifacts", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of an artifact, canonical")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    try:
        program = lsyncd()
    except MissingPeerError as error:
        print_skipped(NAME, "a change to folders of lsyncd", str(error), Peer("lsyncd"))
        return
    peer = Peer("lsyncd", version_of(program, "--version").rpartition(" ")[2], SETTINGS)
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        ours, theirs = uvloop.run(_measure(Path(folder), program, options))
    mine, limit = milliseconds(ours), milliseconds(theirs)
    print_figure(
        NAME,
        f"a change to {options.targets} gateways in processes of their own",
        gateways=options.targets,
        artifacts=options.artifacts,
        bytes=options.size,
        **mine,
        limit={"what": "as many folders that lsyncd mirrors without ssh", **limit},
        ratio=round(mine["p50"] / limit["p50"], 3),
        times_faster=round(limit["p50"] / mine["p50"], 1),
        peer=peer,
    )


async def _measure(
    folder: Path, program: Path, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    count, size = options.targets, options.size
    ours: list[float] = []
    theirs: list[float] = []
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(cluster(folder / "gatesync"))
        client = mine.folder / "control" / "client.toml"
        await asyncio.to_thread(publish_all, client, LABEL, options.artifacts, size)
        for number in range(count):
            mine.start_gateway(f"gw{number}")
        await mine.until_ready(count)
        source = folder / "source"
        source.mkdir()
        for number in range(options.artifacts):
            file = source / f"{number}.json"
            file.write_bytes(canonical.encode(artifact_of(number, size)))
            os.utime(file, (1e9, 1e9))  # rsync takes the same size and second for the same file
        targets = [folder / f"target{number}" for number in range(count)]
        stack.enter_context(_lsyncd(program, folder, source, targets))
        log = folder / "lsyncd.log"  # which says `finished` for each target that has it all
        await asyncio.to_thread(_until, lambda: log.read_text().count("finished") == count)
        for edit in range(1, options.rounds + 2):
            number = edit * 31 % options.artifacts
            here = await mine.publish(number, size, edit, count)
            content = canonical.encode(artifact_of(number, size, edit))
            there = await asyncio.to_thread(_write, source, targets, f"{number}.json", content)
            if edit > 1:
                ours.append(here)
                theirs.append(there)
    return ours, theirs


@contextmanager
def _lsyncd(program: Path, folder: Path, source: Path, targets: Sequence[Path]) -> Iterator[None]:
    syncs = "".join(
        f'sync {{ default.rsync, source = "{source}", target = "{target}", delay = 0 }}\n'
        for target in targets
    )
    config = folder / "lsyncd.lua"
    config.write_text(
        f'settings {{ logfile = "{folder}/lsyncd.log", nodaemon = true,\n'
        f'  inotifyMode = "CloseWrite" }}\n{syncs}'
    )
    with (folder / "lsyncd.out").open("wb") as out:
        process = subprocess.Popen([program, config], stdout=out, stderr=out, cwd=folder)
    try:
        _until((folder / "lsyncd.log").exists)
        yield
    finally:
        process.terminate()
        process.wait()


def _write(source: Path, targets: Sequence[Path], name: str, content: bytes) -> float:
    """Milliseconds from the write until each target has the same bytes."""
    began = time.perf_counter()
    (source / name).write_bytes(content)  # in place: with delay = 0 it does not follow renames
    _until(lambda: all((each / name).read_bytes() == content for each in targets))
    return (time.perf_counter() - began) * 1000


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MOST
    while not condition():
        assert time.monotonic() < deadline, "lsyncd did not bring everything to its targets"
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
