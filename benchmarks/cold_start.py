"""A gateway starts with 10,000 and 100,000 artifacts: from PostgreSQL, over HTTP, from its cache.

Real processes. `database`: the gateway reads PostgreSQL itself. `http`: its folder is empty, and a
publisher on that PostgreSQL is up, whose first full pull, for which it makes the frames that all
others share, is told by itself. `cache`: from its own disk; the publisher is stopped. The clock
runs from the start of the process until it tells its service manager that it is ready, which is
when everything in its first lists is deployed. An `empty` start, in turn with the others, has a
label that holds nothing: Python and the libraries. The ratio that is judged is without that: the
driver's side has no interpreter, imports or connection in it, either. `ratio_whole` is with it, and
`cpu_ratio` is of processor time.

The limit, in the same run: the raw driver reads the same rows as objects, and nothing is verified.
For `database` and `http` psycopg with binary results, all columns that a gateway needs of an
artifact, whose name lies in another table than its bytes; for `cache` Python's own sqlite3 from the
file that the cache is: what its label holds and what was applied, decoded, and the contents.
"""

import argparse
import asyncio
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from at_hand import seconds_at_hand
from databases import MissingError, database, driver
from figures import Target, print_figure, print_skipped
from filling import fill
from gatesync.artifacts.changes import Entry
from gatesync.cli.logs import configure_logs
from gatesync.config import LogFormat, LogLevel
from gatesync.stores.sql import open_sql_store
from parts import GATESYNC, free_port, role, wait_until
from starting import EMPTY, Node, Start, median_start

WAYS = ("database", "http", "cache")
_WHY = (
    "The floor is the limit, and what a start takes of a processor with everything at hand, over "
    "the limit, all of this run: SHA-256 of each content, the label's digest, who wins which name "
    "and path, and the engine's map. That is about as much again as the driver's read. What there "
    "is beside it, by way, is in docs/benchmarks."
)
RATIO = Target("ratio", at_most=2.0, why=_WHY)
LINEAR = Target(
    "value", at_most=1.25, why="Memory grows with the label, and what is swept and paged with it."
)
MEMORY_WHY = "What is served, what is on its way into the cache, and what was just received."
FIXED_MB, TIMES_BYTES = 110.0, 2.0
ROWS = (
    "SELECT API_ID, TENANT_DOMAIN, KIND, API_NAME, API_VERSION, CONTEXT, DIGEST, CONTENT_SIZE,"
    " REVISION, ARTIFACT FROM AM_GW_API_ARTIFACTS JOIN AM_GW_PUBLISHED_API_DETAILS USING (API_ID)"
    " WHERE GATEWAY_LABEL = %s"
)
ENTRIES, APPLIED = "SELECT label, body FROM entry", "SELECT label, body FROM applied"
JUDGED = 10_000  # from here on; fewer are for the picture


def main() -> None:
    """Measure, and print lines for each way and number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--rounds", type=int, default=3, help="of up to 10,000")
    options = parser.parse_args()
    configure_logs(LogFormat.JSON, LogLevel.ERROR)
    name = "postgresql"
    try:
        with database(name) as url, tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
            _measure_all(Path(folder), url, options)
    except MissingError as error:
        print_skipped("cold_start", "a gateway's start", str(error))


def _measure_all(folder: Path, url: str, options: argparse.Namespace) -> None:
    counts: Sequence[int] = options.artifacts
    asyncio.run(_fill(url, counts, options.size))
    port = free_port()
    served = f"http://127.0.0.1:{port}"
    control = folder / "control.toml"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n{_database_section(url)}"
    )
    nodes = _Nodes(folder, served, url)
    measured: dict[tuple[int, str], list[Start]] = {}
    at_hand: dict[int, list[float]] = {count: [] for count in counts}
    for count in counts:
        limits: dict[str, list[float]] = {way: [] for way in WAYS}
        rounds = range(options.rounds if count <= JUDGED else 1)  # one takes half a minute
        with role("publisher", control, folder / "publisher.log"):
            wait_until(f"{served}/health/ready")
            nodes.token = nodes.token or _token(control, counts)
            first = nodes.start("http", count, f"{count}-first")
            for number in rounds:
                for way in ("database", "http"):
                    for each in _with_empty(count):
                        start = nodes.start(way, each, f"{count}-{number}")
                        measured.setdefault((each, way), []).append(start)
                    seconds, rows = _read_rows(url, _label(count), count)
                    limits[way].append(seconds)
                at_hand[count].append(seconds_at_hand(rows))
        for _ in rounds:
            for each in _with_empty(count):
                start = nodes.last("http", each).start(each)
                measured.setdefault((each, "cache"), []).append(start)
            cache = nodes.last("http", count).data / "cache" / "cache.db"
            limits["cache"].append(_read_cache(cache, count))
        medians = {which: median_start(starts) for which, starts in measured.items()}
        for way, read in limits.items():
            figures = medians[count, way], medians.get((0, way)), statistics.median(read)
            more = statistics.median(at_hand[count])
            _print(way, count, *figures, more, first, size=options.size, rounds=len(rounds))
    for way in WAYS:
        _print_linear(way, counts, medians)


def _with_empty(count: int) -> tuple[int, ...]:
    """What a round starts: so many artifacts, and none where that is taken off."""
    return (count, 0) if count >= JUDGED else (count,)


class _Nodes:
    """Gateways, each with a folder of its own."""

    def __init__(self, folder: Path, served: str, url: str) -> None:
        self.token = ""
        self._folder = folder
        self._served = served
        self._url = url
        self._last: dict[tuple[str, int], Node] = {}

    def start(self, way: str, count: int, name: str) -> Start:
        """Start a new one."""
        more = _database_section(self._url) if way == "database" else ""
        label = _label(count) if count else EMPTY
        name = f"{way}-{name}-{'full' if count else 'empty'}"
        node = Node(self._folder, name, label, self.token, self._served, more)
        self._last[way, count] = node
        return node.start(count, kept=way == "http")  # it is started from its disk afterwards

    def last(self, way: str, count: int) -> Node:
        """The newest of its kind, with what it has on its disk."""
        return self._last[way, count]


def _label(count: int) -> str:
    return f"Of{count}"


def _database_section(url: str) -> str:
    return f"[database.sync_runtime_artifacts_db]\nurl = '{url}'\n"


async def _fill(url: str, counts: Sequence[int], size: int) -> None:
    async with open_sql_store(url) as store:
        for count in counts:
            await fill(store, _label(count), count, size)


def _token(control: Path, counts: Sequence[int]) -> str:
    labels = [option for each in (EMPTY, *map(_label, counts)) for option in ("--label", each)]
    create = [GATESYNC, "token", "create", "--role", "node", "--id", "bench", *labels]
    done = subprocess.check_output([*create, "--config", str(control)], text=True)
    return done.strip()


def _read_rows(url: str, label: str, artifacts: int) -> tuple[float, list[tuple[Any, ...]]]:
    """Seconds in which psycopg reads what a gateway needs into objects, and these."""
    run, close = driver(url)
    started = time.perf_counter()
    rows = run(ROWS, (label,), binary=True).fetchall()
    seconds = time.perf_counter() - started
    close()
    assert len(rows) == artifacts
    return seconds, rows


def _read_cache(path: Path, artifacts: int) -> float:
    decoder = msgspec.msgpack.Decoder(Entry)
    started = time.perf_counter()
    with closing(sqlite3.connect(path)) as cache:
        entries = [decoder.decode(body) for _, body in cache.execute(ENTRIES)]
        applied = [(label, decoder.decode(body)) for label, body in cache.execute(APPLIED)]
        contents = dict(cache.execute("SELECT digest, body FROM content"))
    seconds = time.perf_counter() - started
    assert len(entries) == len(applied) == len(contents) == artifacts
    return seconds


def _print(
    way: str,
    count: int,
    start: Start,
    empty: Start | None,
    limit: float,
    at_hand: float,
    first: Start,
    *,
    size: int,
    rounds: int,
) -> None:
    series = {"database": "from PostgreSQL", "http": "over HTTP", "cache": "from its cache"}[way]
    of = {"cache": "sqlite3"}.get(way, "psycopg")
    points = [(series, start.seconds)] + ([(f"{of}, the rows", limit)] if way != "http" else [])
    judged: dict[str, Any] = {"value": round(start.seconds, 3)}
    if empty is not None and count >= JUDGED:  # fewer take no longer than none
        net, cpu = start.seconds - empty.seconds, start.cpu_seconds - empty.cpu_seconds
        judged = {
            "empty": _rounded(empty),
            "value": round(net, 3),
            "ratio": round(net / limit, 2),
            "cpu_ratio": round(cpu / limit, 2),
            "ratio_whole": round(start.seconds / limit, 2),
            "target": RATIO,
            "floor": {"ratio": round((limit + at_hand) / limit, 2), "at_hand": round(at_hand, 3)},
        }
    print_figure(
        "cold_start",
        f"start with {count:,} artifacts, {series}{', less an empty one' * (count >= JUDGED)}",
        way=way,
        artifacts=count,
        bytes=size,
        n=rounds,
        unit="s",
        whole=_rounded(start),
        **({"the_publishers_first": _rounded(first)} if way == "http" else {}),
        limit={"what": f"{of} reads the same rows as objects", "value": round(limit, 3)},
        plots=[
            {"chart": "cold_start", "series": name, "x": count, "y": round(seconds, 4)}
            for name, seconds in points
        ],
        **judged,
    )
    megabytes = count * size / 1e6
    most = round(TIMES_BYTES * megabytes + FIXED_MB, 1)
    wanted: dict[str, Any] = {}
    if empty is not None and count >= JUDGED:
        least = round(empty.peak_mb + megabytes)
        wanted = {
            "limit": {"what": "an empty start, and the bytes", "value": least},
            "target": Target("value", at_most=most, why=MEMORY_WHY),
            "floor": {"MB": least},
        }
    print_figure(
        "cold_start",
        f"peak of memory with {count:,} artifacts, {series}",
        way=way,
        artifacts=count,
        bytes=size,
        n=rounds,
        unit="MB",
        value=round(start.peak_mb, 1),
        plots=[
            {
                "chart": "memory_by_artifacts",
                "series": series,
                "x": count,
                "y": round(start.peak_mb, 1),
            }
        ],
        **wanted,
    )


def _print_linear(
    way: str, counts: Sequence[int], medians: Mapping[tuple[int, str], Start]
) -> None:
    judged = [each for each in counts if each >= JUDGED]
    if len(judged) < 2:
        return
    few, many = judged[0], judged[-1]
    empty = medians[0, way].seconds
    each = [(medians[count, way].seconds - empty) / count * 1e6 for count in (few, many)]
    print_figure(
        "cold_start",
        f"linear, {way}: time for each of {many:,} over that for each of {few:,}",
        way=way,
        value=round(each[1] / each[0], 2),
        us_each={f"{few}": round(each[0], 1), f"{many}": round(each[1], 1)},
        target=LINEAR,
        floor={"us_each": round(each[0], 1)},
    )


def _rounded(start: Start) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.structs.asdict(start).items()}


if __name__ == "__main__":
    main()
