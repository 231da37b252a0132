"""A process that deploys one random state after the other, until it is killed.

    python -m tests.trees.deployer FOLDER SEED

Prints a line for each state that it begins with.
"""

import asyncio
import random
import sys
from pathlib import Path

from gatesync.engines.memory import MemoryEngine
from gatesync.engines.saving import SavingEngine
from gatesync.trees.opening import open_tree
from tests.trees.making import deployable
from tests.trees.states import State, api, state


def random_state(seed: str) -> State:
    """The same for the same seed, in every process."""
    chosen = random.Random(seed)

    def one(name: str) -> object:
        folder, own = chosen.choice(["", "below/"]), chosen.random() < 0.8
        made = api(name, chosen.choice("12"), folder=folder, own=own)
        return made if chosen.random() < 0.8 else None

    shared = chosen.choice(["", "alone", "moved", "of two"])
    return state(one("one"), one("two"), shared, chosen.choice("12"), chosen.random() < 0.5)  # type: ignore[arg-type]


async def main() -> None:
    """Deploy for ever."""
    folder, seed = Path(sys.argv[1]), sys.argv[2]
    with open_tree(folder, folder / "data") as tree:
        engine = SavingEngine(MemoryEngine(), tree)
        number = 0
        while True:
            wanted = random_state(f"{seed}-{number}")
            print(number, flush=True)
            held = set(engine.api_ids())
            offered = [deployable(each) for each in wanted.values()]
            refused = await engine.apply(offered, held - wanted.keys())
            again = [each for each in offered if each.entry.api_id in refused]
            assert await engine.apply(again, ()) == {}
            number += 1


if __name__ == "__main__":
    asyncio.run(main())
