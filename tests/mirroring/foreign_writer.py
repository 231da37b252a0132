"""Writes into a tree as a foreign program does: `python foreign_writer.py ROOT JOURNAL SEED`.

Files grow bit by bit, are replaced by rename, renamed, removed. Before a content is begun its
path and digest stand in the journal. Ends when its standard input does.
"""

import hashlib
import random
import select
import sys
import time
from pathlib import Path
from typing import IO


def main(root: Path, journal: Path, seed: int) -> None:
    chance = random.Random(seed)
    sequences = root / "deployment/server/synapse-configs/default/sequences"
    policies = root / "deployment/server/executionplans"
    for folder in (sequences, policies):
        folder.mkdir(parents=True, exist_ok=True)
    with journal.open("a", buffering=1) as told:
        while not select.select([sys.stdin], [], [], 0)[0]:
            name = f"s{chance.randrange(8)}"
            file = sequences / f"{name}.xml"
            word = chance.choice(["<log/>", "<pop/>", "<drop/>", "<log/>" * 2_000])
            content = f'<sequence name="{name}">{word}</sequence>'.encode()
            match chance.randrange(6):
                case 0:
                    file.unlink(missing_ok=True)
                case 1:
                    plan = f"@Plan:name('{word}')".encode()
                    say(told, root, policies / "gold", plan)
                    (policies / "gold.tmp").write_bytes(plan)
                    (policies / "gold.tmp").rename(policies / "gold")
                case 2 if file.exists():
                    moved = sequences / f"moved-{name}.xml"
                    say(told, root, moved, file.read_bytes())
                    file.rename(moved)
                case _:
                    say(told, root, file, content)
                    with file.open("wb", buffering=0) as opened:  # there it is empty for a moment
                        for start in range(0, len(content), 4_096):
                            opened.write(content[start : start + 4_096])
                            time.sleep(chance.choice([0, 0.002]))
            time.sleep(chance.choice([0, 0.005, 0.05]))


def say(told: IO[str], root: Path, file: Path, content: bytes) -> None:
    told.write(f"{file.relative_to(root)} {hashlib.sha256(content).hexdigest()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
