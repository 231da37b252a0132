"""Publish 10,000 files in one call: seconds and memory, first and again, against the raw store.

The tree is a server's `repository`: APIs with the two endpoints, the sequence and the local entry
(its OpenAPI document) that each owns, one in ten files a shared sequence, one in a hundred a
throttling policy. A file has about 1,860 bytes in the mean, as the 702 real ones have that we test
with; APIs, endpoints and sequences are as large as those, and the OpenAPI documents make up the
rest. The client is `gatesync publish --json`, a process; the server is
`gatesync up` with all its roles, so that its memory holds what its gateway serves.

The limit, in the same run: read the same files, and insert the same bytes into SQLite in one
durable transaction.
"""

import argparse
import json
import os
import random
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figures import Target, print_figure
from gatesync.artifacts.synapse import SYNAPSE_NAMESPACE
from parts import GATESYNC, free_port, role, wait_until

LABEL = "Default"
REAL_BYTES = 1_864
SECONDS = Target("value", at_most=60.0, why="Each file is read, checked, hashed and stored.")
CLIENT_MB = Target("value", at_most=200.0, why="A tree is read whole before it is sent.")

# Of files of `REAL_BYTES` in the mean.
API, ENDPOINT, SEQUENCE, LOCAL_ENTRY, POLICY = 1_470, 360, 570, 7_650, 1_060


def main() -> None:
    """Measure, and print two lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=REAL_BYTES, help="bytes of a file, the mean")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        _measure(Path(folder), options.files, options.size)


def _measure(folder: Path, count: int, size: int) -> None:
    repository = folder / "tree" / "repository"
    files = _write_tree(repository, count, size / REAL_BYTES)
    os.sync()  # else whoever writes next waits for these files too
    limit = _raw_limit(repository, folder / "raw.db")
    ports = {name: free_port() for name in ("publisher", "gateway", "broker")}
    config = folder / "deployment.toml"
    config.write_text(
        f"[apim.sync_runtime_artifacts.gateway]\ngateway_labels = ['{LABEL}']\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{ports['publisher']}'\n"
        f"[gatesync.gateway]\nlisten = '127.0.0.1:{ports['gateway']}'\n"
        f"[gatesync.traffic_manager]\nlisten = '127.0.0.1:{ports['broker']}'\n"
    )
    with role("up", config, folder / "up.log") as server:
        for port in (ports["publisher"], ports["gateway"]):
            wait_until(f"http://127.0.0.1:{port}/health/ready")
        before = _peak_mb(server.pid)
        seconds, client, published = _publish(folder, repository)
        assert sum(len(each["changes"]) for each in published) == _artifacts(count)
        again, client_again, published = _publish(folder, repository)
        assert not published, "the same tree changes nothing"
        peak = _peak_mb(server.pid)
    peaks = max(client, client_again)
    shared: dict[str, Any] = {"files": files, "artifacts": _artifacts(count), "n": 1}
    megabytes = sum(each.stat().st_size for each in _files_in(repository)) / 1e6
    print_figure(
        "large_publish",
        f"publish of {files:,} files in one call",
        **shared,
        megabytes=round(megabytes, 1),
        unit="s",
        value=round(seconds, 2),
        seconds_again=round(again, 2),
        server_mb={"started": round(before, 1), "peak": round(peak, 1)},
        limit={"what": "reading them, and one transaction of sqlite3", "value": round(limit, 2)},
        ratio=round(seconds / limit, 1),
        target=SECONDS,
        floor={"seconds_without_the_server": round(limit, 2)},
    )
    print_figure(
        "large_publish",
        f"peak of the client's memory, {files:,} files",
        **shared,
        unit="MB",
        value=round(peaks, 1),
        target=CLIENT_MB,
        floor={"MB": round(peaks, 1)},
    )


def _publish(folder: Path, tree: Path) -> tuple[float, float, list[Any]]:
    """Seconds, the client's peak of resident megabytes, and the change sets that came of it."""
    command = [GATESYNC, "publish", str(tree), "--label", LABEL, "--json"]
    with (folder / "published.json").open("w+b") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, "publish failed"
        out.seek(0)
        answer = json.load(out)
    assert not answer["refused"], answer["refused"][:3]
    return seconds, usage.ru_maxrss * 1024 / 1e6, answer["change_sets"]


def _raw_limit(tree: Path, database: Path) -> float:
    started = time.perf_counter()
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, content BLOB)")
    connection.execute("BEGIN IMMEDIATE")
    contents = ((path.read_bytes(),) for path in _files_in(tree))
    connection.executemany("INSERT INTO a (content) VALUES (?)", contents)
    connection.execute("COMMIT")
    connection.close()
    return time.perf_counter() - started


def _peak_mb(pid: int) -> float:
    """The most that was ever resident, as /proc tells it in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


# The tree -------------------------------------------------------------------------------------


def _shares(count: int) -> tuple[int, int, int]:
    """How many APIs, shared sequences and policies make so many files."""
    policies, sequences = max(1, count // 100), max(1, count // 10)
    apis = (count - policies - sequences) // 5
    return apis, count - policies - 5 * apis, policies


def _artifacts(count: int) -> int:
    return sum(_shares(count))


def _write_tree(repository: Path, count: int, scale: float) -> int:
    """Write it; answers with the number of files."""
    server = repository / "deployment" / "server"
    number = 0
    for path, content in _tree(count, _filler(scale)):
        file = server / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        number += 1
    assert number == count
    return number


_PROPERTY = '<property name="%s" value="%s"/>'
_STEP = "%s/%s/"
_OPERATION = '"/%s": {"get": {"summary": "%s"}}, '
_QUERY = "from %s select %s;\n"


def _tree(count: int, fill: Callable[[str, int], str]) -> Iterator[tuple[str, str]]:
    """Each file's place below `deployment/server`, and its content."""
    apis, sequences, policies = _shares(count)
    for number in range(apis):
        for path, content in _api(number, f"shared{number % sequences:04d}", fill):
            yield f"synapse-configs/default/{path}", content
    for number in range(sequences):
        path, content = _sequence(f"shared{number:04d}", fill)
        yield f"synapse-configs/default/{path}", content
    for number in range(policies):
        name = f"subscription_Bench{number:04d}"
        queries = fill(_QUERY, POLICY)
        yield f"executionplans/{name}.siddhi", f"@Plan:name('{name}')\n{queries}"


def _api(number: int, shared: str, fill: Callable[[str, int], str]) -> Iterator[tuple[str, str]]:
    """An API and what it owns; it calls a shared sequence."""
    name, own = f"Bench{number:05d}API", str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))
    base = f"{name}--v1.0.0"
    yield (
        f"api/admin--{name}_v1.0.0.xml",
        f'<api xmlns="{SYNAPSE_NAMESPACE}" name="admin--{name}" context="/bench/{number}/1.0.0" '
        'version="1.0.0" version-type="context"><resource methods="GET POST" uri-template="/*">'
        f'<inSequence><sequence key="{shared}"/><log>{fill(_PROPERTY, API - 850)}</log><send>'
        f'<endpoint key="{base}_APIproductionEndpoint"/></send></inSequence><outSequence>'
        f'<sequence key="{base}--Out"/><send/></outSequence></resource><handlers><handler '
        'class="org.wso2.carbon.apimgt.gateway.handlers.security.APIAuthenticationHandler">'
        f'<property name="apiUUID" value="{own}"/></handler></handlers></api>',
    )
    for sort in ("production", "sandbox"):
        key = f"{base}_API{sort}Endpoint"
        uri = f"http://backend.example/{fill(_STEP, ENDPOINT - 200).replace(' ', '-')}"
        yield (
            f"endpoints/{key}.xml",
            f'<endpoint xmlns="{SYNAPSE_NAMESPACE}" name="{key}"><http uri-template="{uri}"/>'
            "</endpoint>",
        )
    yield _sequence(f"{base}--Out", fill)
    yield (
        f"local-entries/{own}.xml",
        f'<localEntry xmlns="{SYNAPSE_NAMESPACE}" key="{own}"><![CDATA[{{"openapi": "3.0.1", '
        f'"paths": {{{fill(_OPERATION, LOCAL_ENTRY - 200)}"/": {{}}}}}}]]></localEntry>',
    )


def _sequence(key: str, fill: Callable[[str, int], str]) -> tuple[str, str]:
    return (
        f"sequences/{key}.xml",
        f'<sequence xmlns="{SYNAPSE_NAMESPACE}" name="{key}"><log>{fill(_PROPERTY, SEQUENCE - 150)}'
        "</log></sequence>",
    )


def _filler(scale: float) -> Callable[[str, int], str]:
    """What fills a file with lines of a pattern until it has its size, times the scale."""
    chance = random.Random(1)  # the same tree in each run
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(5_000)]

    def fill(pattern: str, size: int) -> str:
        lines = []
        left = size * scale
        while left > 0:
            first = chance.randrange(4_999)
            lines.append(pattern % (words[first], " ".join(words[first : first + 4])))
            left -= len(lines[-1])
        return "".join(lines)

    return fill


def _files_in(tree: Path) -> Iterator[Path]:
    return (path for path in tree.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
