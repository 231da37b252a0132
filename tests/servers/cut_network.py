"""A network of its own for a process, whose packets can vanish: `ip netns` and nftables."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 10.0


class CutNetwork:
    """Two ends of a cable: `here` is this machine's address on it, `there` the other network's."""

    def __init__(self, number: int) -> None:
        self.name = f"gatesync{number}"
        self.here = f"10.213.{number % 250}.1"
        self.there = f"10.213.{number % 250}.2"

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that shall run there."""
        return ["ip", "netns", "exec", self.name]

    def make(self) -> None:
        ends = (f"gs{self.name[8:]}a", f"gs{self.name[8:]}b")
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", ends[0], "type", "veth", "peer", ends[1], "netns", self.name)
        _run("ip", "address", "add", f"{self.here}/30", "dev", ends[0])
        _run("ip", "link", "set", ends[0], "up")
        for command in (
            ("ip", "address", "add", f"{self.there}/30", "dev", ends[1]),
            ("ip", "link", "set", ends[1], "up"),
            ("ip", "link", "set", "lo", "up"),
        ):
            _run(*self.prefix, *command)

    def cut(self) -> None:
        """From now on every packet vanishes, without an answer to anybody."""
        cable = f'"gs{self.name[8:]}b"'
        _run(
            *self.prefix,
            "nft",
            "table inet cut {"
            f" chain input {{ type filter hook input priority 0; iifname {cable} drop; }};"
            f" chain output {{ type filter hook output priority 0; oifname {cable} drop; }}; }}",
        )

    def mend(self) -> None:
        _run(*self.prefix, "nft", "delete table inet cut")

    def end(self) -> None:
        """Does not fail where it was not made, or only half."""
        cable = f"gs{self.name[8:]}a"
        for command in (["link", "delete", cable], ["netns", "delete", self.name]):
            subprocess.run(["ip", *command], check=False, timeout=TIMEOUT, capture_output=True)


def why_not() -> str:
    """Why this machine cannot do it; empty when it can."""
    if os.geteuid() != 0:
        return "only root may make networks"
    missing = [each for each in ("ip", "nft") if shutil.which(each) is None]
    return f"{', '.join(missing)} missing: apt-get install iproute2 nftables" if missing else ""


@contextmanager
def cut_network() -> Iterator[CutNetwork]:
    """One while the block runs. Raises `RuntimeError` where the system does not let us."""
    made = CutNetwork(os.getpid() % 10_000)
    try:
        made.make()
        yield made
    finally:
        made.end()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
