"""The proof of being in step, for a label of 100,000 artifacts and, in turn, for one of 100.

`gateway`: a heartbeat's bytes are read, and its head is compared with what the node follows:
revision, count and label digest. `signed`: the head's signature is verified, too. `store`: SQLite
tells the head, as where a gateway asks for itself. Each is to take the same time for both labels.
"""

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from figures import Target, milliseconds, print_figure
from filling import fill
from gatesync.artifacts.changes import Head
from gatesync.artifacts.signatures import Signer, Trust
from gatesync.events.messages import HeadsAnnounced, decode_announcement, encode
from gatesync.gateway.log import Decision, LabelLog
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import read_manifest

TARGET = Target(
    "p50",
    at_most=1.0,
    why="What is left is to verify one signature, or one query.",
)
SIGNER: Final = Signer(bytes(range(32)))
TRUST: Final = Trust([SIGNER.key])


def main() -> None:
    """Measure, and print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        uvloop.run(_measure(Path(folder), options))


async def _measure(folder: Path, options: argparse.Namespace) -> None:
    async with open_sql_store(f"sqlite:///{folder}/a.db") as store:
        asked: dict[str, dict[str, Callable[[], Awaitable[bool]]]] = {}
        for label, count in (("few", options.few), ("many", options.artifacts)):
            await fill(store, label, count, 1_024)  # what is compared does not know sizes
            head, entries = await read_manifest(store, label)
            assert head.digest.count == count
            log = LabelLog(label)
            log.take_list(head, entries, continues=True)
            plain = encode(HeadsAnnounced((head,), "bench", 1))
            signed = encode(HeadsAnnounced((SIGNER.head(head, 1),), "bench", 1))

            async def gateway(log: LabelLog = log, message: bytes = plain) -> bool:
                return log.offer_head(_head_in(message)) is Decision.TAKEN

            async def verified(log: LabelLog = log, message: bytes = signed) -> bool:
                head = _head_in(message)
                TRUST.verify_head(head)
                return log.offer_head(head) is Decision.TAKEN

            async def told(label: str = label, head: Head = head) -> bool:
                return (await store.heads([label]))[label].digest == head.digest

            asked[label] = {"gateway": gateway, "signed": verified, "store": told}
        for way in ("gateway", "signed", "store"):
            took: dict[str, list[float]] = {"few": [], "many": []}
            for _ in range(options.rounds):
                for label, ways in asked.items():
                    began = time.perf_counter()
                    proven = await ways[way]()
                    took[label].append((time.perf_counter() - began) * 1000)
                    assert proven
            ours, limit = milliseconds(took["many"]), milliseconds(took["few"])
            print_figure(
                "proof",
                f"proof of being in step for a label of {options.artifacts:,}, {way}",
                way=way,
                artifacts=options.artifacts,
                **ours,
                limit={"what": f"the same for a label of {options.few:,}", **limit},
                ratio=round(ours["p50"] / limit["p50"], 2),
                target=TARGET,
                floor={"p50_of_a_small_label": limit["p50"]},
            )


def _head_in(message: bytes) -> Head:
    announced = decode_announcement(message)
    assert isinstance(announced, HeadsAnnounced)
    return announced.heads[0]


if __name__ == "__main__":
    main()
