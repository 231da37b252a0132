"""Where the time of a gateway's start goes: the functions of its main thread, by their own time.

A publisher on PostgreSQL is up; the node reads as `--way` says, see `cold_start`. The profile
begins after the imports and ends with the process, which is when it is ready. cProfile makes small
functions look more expensive than they are: the list says where to look, and `cold_start` whether
it helped.
"""

import argparse
import asyncio
import pstats
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from databases import database
from filling import fill
from gatesync.stores.sql import open_sql_store
from parts import free_port, role, wait_until
from starting import LABEL, Node, node_token, until_ready

PROFILED = """\
import cProfile
from pathlib import Path
from gatesync.cli.gateway_process import main
profile = cProfile.Profile()
profile.enable()
try:
    main(Path({config!r}))
finally:
    profile.disable()
    profile.dump_stats({output!r})
"""


def main() -> None:
    """Start one gateway, and print the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each, canonical")
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--way", choices=["database", "http", "cache"], default="http")
    options = parser.parse_args()
    with (
        database("postgresql") as url,
        tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder,
    ):
        asyncio.run(_fill(url, options.artifacts, options.size))
        output = _profile(Path(folder), url, options)
        stats = pstats.Stats(str(output))
    measured: Any = stats  # typeshed does not know of its attributes
    print(f"{measured.total_tt:.2f} s in all")
    print(f"\n{'calls':>9} {'own s':>7} {'all s':>7}  function")
    rows = sorted(measured.stats.items(), key=lambda row: -row[1][2])
    for (file, line, function), (_, calls, own, whole, _) in rows[: options.lines]:
        print(f"{calls:>9} {own:>7.3f} {whole:>7.3f}  {_place(file, line)}{function}")


def _place(file: str, line: int) -> str:
    """A file below its package, with the line; nothing for what is built in."""
    if file == "~":
        return ""
    short = re.sub(r".*/(?:src/gatesync|site-packages|python3\.\d+)/", "", file)
    return f"{short}:{line} "


def _profile(folder: Path, url: str, options: argparse.Namespace) -> Path:
    port = free_port()
    served = f"http://127.0.0.1:{port}"
    control, output = folder / "control.toml", folder / "start.prof"
    section = f"[database.sync_runtime_artifacts_db]\nurl = '{url}'\n"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n{section}"
    )
    more = section if options.way == "database" else ""
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{served}/health/ready")
        token = node_token(control)
        warm = Node(folder, "warm", LABEL, token, served, more)
        warm.start(options.artifacts, kept=True)  # and the publisher has made its frames
        node = Node(folder, "profiled", LABEL, token, served, more)
        _start_profiled(folder, warm if options.way == "cache" else node, output)
    return output


def _start_profiled(folder: Path, node: Node, output: Path) -> None:
    code = PROFILED.format(config=str(node.config), output=str(output))
    with until_ready() as wait, (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=log, stderr=log)
        wait(process)
        process.terminate()
        process.wait()


async def _fill(url: str, artifacts: int, size: int) -> None:
    async with open_sql_store(url) as store:
        await fill(store, LABEL, artifacts, size)


if __name__ == "__main__":
    main()
