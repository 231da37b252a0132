"""A gateway starts with 10,000 artifacts: from its own disk and over HTTP, seconds and peak memory.

Real processes. Over HTTP the node's folder is empty, and a publisher on SQLite is up; from the
cache nobody else is. The clock runs from the start of the process until it tells its service
manager that it is ready, which is when everything in its first lists is deployed. `empty` is the
same with a label that holds nothing, in turn: Python and the libraries. The ratio is without that.

The limit, in the same run: read the same bytes with Python's own sqlite3 from the file that the
cache is, the entries decoded with msgspec and nothing verified.
"""

import argparse
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import msgspec

from gatesync.artifacts.changes import Entry
from parts import free_port, print_result, publish_all, role, wait_until
from starting import EMPTY, LABEL, Node, Start, median_start, node_token


def main() -> None:
    """Measure, and print one line for each of the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is told")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        measured = _measure(Path(folder), options)
    limit = measured.pop("limit").seconds
    for way in ("http", "cache"):
        start, empty = measured[way], measured[f"{way} empty"]
        print_result(
            "cold_start",
            way=way,
            n=options.artifacts,
            bytes=options.size,
            rounds=options.rounds,
            megabytes=round(options.artifacts * options.size / 1e6, 1),
            start=_rounded(start),
            empty=_rounded(empty),
            limit_seconds=round(limit, 3),
            ratio=round((start.seconds - empty.seconds) / limit, 1),
            cpu_ratio=round((start.cpu_seconds - empty.cpu_seconds) / limit, 1),
        )


def _rounded(start: Start) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.structs.asdict(start).items()}


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Start]:
    """The median of each way."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    control = folder / "control.toml"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n"
    )
    starts: dict[str, list[Start]] = {}
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{url}/health/ready")
        token = node_token(control)
        publish_all(folder / "control" / "client.toml", LABEL, options.artifacts, options.size)
        for number in range(options.rounds):
            full = Node(folder, f"full-{number}", LABEL, token, url)
            empty = Node(folder, f"empty-{number}", EMPTY, token, url)
            starts.setdefault("http", []).append(full.start(options.artifacts))
            starts.setdefault("http empty", []).append(empty.start(0))
    for _ in range(options.rounds):
        starts.setdefault("cache", []).append(full.start(options.artifacts))
        starts.setdefault("cache empty", []).append(empty.start(0))
        limit = _raw_read(full.data / "cache" / "cache.db", options.artifacts)
        starts.setdefault("limit", []).append(Start(limit, limit, 0.0))
    return {way: median_start(measured) for way, measured in starts.items()}


def _raw_read(path: Path, artifacts: int) -> float:
    decoder = msgspec.msgpack.Decoder(Entry)
    started = time.perf_counter()
    with closing(sqlite3.connect(path)) as database:
        entries = [decoder.decode(body) for (body,) in database.execute("SELECT body FROM entry")]
        contents = dict(database.execute("SELECT digest, body FROM content"))
    seconds = time.perf_counter() - started
    assert len(entries) == len(contents) == artifacts
    return seconds


if __name__ == "__main__":
    main()
