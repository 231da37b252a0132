"""Where the time of a gateway's start goes: the functions of its process, by their own time.

A publisher on SQLite is up, the node's folder is empty, and it reads over HTTP; the profile begins
after the imports and ends with the process. cProfile makes small functions look more expensive than
they are: the list says where to look, and `cold_start` whether it helped.
"""

import argparse
import pstats
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts import free_port, publish_all, role, wait_until
from starting import LABEL, Node, node_token, until_ready

PROFILED = """\
import cProfile, sys
sys.argv = ["gateway", {config!r}]
from gatesync.cli.gateway_process import main
profile = cProfile.Profile()
profile.enable()
try:
    main()
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        output = _profile(Path(folder), options)
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


def _profile(folder: Path, options: argparse.Namespace) -> Path:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    control, output = folder / "control.toml", folder / "start.prof"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n"
    )
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{url}/health/ready")
        token = node_token(control)
        client = folder / "control" / "client.toml"
        publish_all(client, LABEL, options.artifacts, options.size)
        node = Node(folder, "warm", LABEL, token, url)
        node.start(options.artifacts)  # the publisher has made its frames
        node = Node(folder, "profiled", LABEL, token, url)
        code = PROFILED.format(config=str(node.config), output=str(output))
        with until_ready() as wait, (folder / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=folder, stdout=log, stderr=log
            )
            wait(process)
            time.sleep(1)  # its disk is written a moment later
            process.terminate()
            process.wait()
    return output


if __name__ == "__main__":
    main()
