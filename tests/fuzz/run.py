"""Feeds a decoder what is nearly right, in a process whose memory and time have an end.

    python -m tests.fuzz.run TARGET SEED SECONDS FILE    a line of JSON: how many, accepted, memory
    python -m tests.fuzz.run TARGET SEED NUMBER          one input again, with its traceback

Which inputs there are follows from the seed, so that whatever kills the process is found again.
"""

import json
import mmap
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz.mutating import mutated
from tests.fuzz.targets import TARGETS

__all__ = ["HANGS_SECONDS", "LEAST", "MEMORY_BYTES"]

MIB: Final = 1024 * 1024
LEAST: Final = 50  # inputs, however busy the machine is
MEMORY_BYTES: Final = (
    1280 * MIB
)  # beside what the program is; JSON of `[],` takes 25 times its size
HANGS_SECONDS: Final = 20.0  # for one input; a busy machine takes a second for the largest


def main(name: str, seed: str, seconds: float, place: Path) -> None:
    """Run until the time is over; a fault ends the process. `place` has the input's number."""
    for each in TARGETS[name].seeds:
        TARGETS[name].decode(each)  # what is good is accepted
    _limit_memory()
    place.write_bytes(bytes(8))
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shown:
        before, began = _peak(), time.monotonic()
        number, accepted, longest = 0, 0, 0.0
        while number < LEAST or time.monotonic() - began < seconds:
            shown[:] = number.to_bytes(8, "little")  # for who comes after us
            good, took = feed(name, seed, number)
            accepted += good
            longest = max(longest, took)
            number += 1
    told = {
        "target": name,
        "inputs": number,
        "accepted": accepted,
        "longest_s": round(longest, 3),
        "memory_mib": (_peak() - before) // MIB,
    }
    print(json.dumps(told))


def feed(name: str, seed: str, number: int) -> tuple[bool, float]:
    """Whether the target accepted this input, and how many seconds it took with it.

    Raises what the target may not raise.
    """
    target = TARGETS[name]
    data = mutated(random.Random(f"{seed}/{number}"), target.seeds)
    signal.setitimer(signal.ITIMER_REAL, HANGS_SECONDS)  # kills, also within C
    began, good = time.monotonic(), True
    try:
        target.decode(data)
    except target.refusals:
        good = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return good, time.monotonic() - began


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY_BYTES,) * 2)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _limit_memory()
        feed(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
