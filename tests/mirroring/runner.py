"""A runner that a test can kill: it scans and brings, pass after pass, and says what comes of it.

python -m tests.mirroring.runner '{"source": ..., "folder": ..., "workers": [...], ...}'
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gatesync.mirroring.outcome import Result
from gatesync.mirroring.passes import PassSettings, open_passes
from gatesync.mirroring.source_tree import SourceTree
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.workers import parse_workers

MOMENT = 0.05  # seconds


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def main(told: dict[str, Any]) -> None:
    folder = Path(told["folder"])
    tree = SourceTree(Path(told["source"]), folder / "record", moment=MOMENT, patience=2 * MOMENT)
    ssh = SshSettings(
        identity_file=Path(told["identity_file"]), known_hosts=Path(told["known_hosts"])
    )
    settings = PassSettings(source=tree.root, folder=folder / "passes", ssh=ssh)
    workers = parse_workers("\n".join(told["workers"]).encode(), "list").workers
    async with open_passes(settings, workers) as passes:
        brought = None
        while True:
            settled = await asyncio.to_thread(tree.look)
            if settled.manifest is not None:
                say({"bringing": settled.manifest.digest != brought})
                brought = settled.manifest.digest
                outcomes = await passes.run_pass(settled.manifest, confirm_removals=True)
                results = {outcome.result for outcome in outcomes}
                whys = sorted({outcome.why for outcome in outcomes})
                say({"in step": results <= {Result.IN_STEP}, "why": whys})
            await asyncio.sleep(MOMENT)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
