"""The demo of a shared file system: from an empty folder to all in step, and what may go wrong."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from demo.catalog import edit, generate, read_folder, use_examples
from demo.cluster import Gateway
from demo.layout import LABELS
from demo.observe import watch
from demo.performing import perform
from demo.processes import DemoError, until
from demo.share_cluster import PUBLISHERS, ShareCluster, open_share_cluster
from demo.stage import DEADLINE_SECONDS, say
from demo.verdicts import Model
from gatesync.artifacts import canonical
from gatesync.artifacts.places import path_in_repository

__all__ = ["run"]

TREE: Final = "repository"
TREE_SECONDS: Final = 40.0  # a publisher that was killed is followed after 15

_PROLOGUE: Final = """\
gatesync demo: a shared file system. Two publishers and three gateways, each a process with a path
of its own to the share; no broker, no database.

After each step every gateway is asked, over HTTP, for the bytes that it serves, and each file of
the tree in the share, which engines mount, is read; both are compared with the input files."""


class Stage:
    """Where the steps take place."""

    def __init__(self, cluster: ShareCluster, generated: int) -> None:
        self.cluster = cluster
        self.inputs = cluster.folder / "input"
        self.generated = generated
        self.model = Model()
        self.failures: list[str] = []
        self.in_step = 0
        self.tree_in_step = False
        self._files: dict[str, dict[str, bytes]] = {}

    @property
    def pizza(self) -> Path:
        """One of the examples."""
        return self.inputs / "examples" / "pizzashack"

    def expect(self, folders: Sequence[Path]) -> None:
        """Expect what these folders hold, in both labels and in the tree."""
        for folder in folders:
            found = read_folder(folder)
            self.model.publish(LABELS, {found.api_id: found.digest})
            artifact = canonical.decode(found.content)
            tenant = artifact.identity.tenant
            places = ((path_in_repository(each.path, tenant), each) for each in artifact.parts)
            self._files[found.api_id] = {path: each.content for path, each in places if path}

    async def publish(self, publisher: str, folders: Sequence[Path]) -> None:
        """`gatesync publish` to both labels."""
        labels = [word for label in LABELS for word in ("--label", label)]
        short = [str(each.relative_to(self.inputs)) for each in folders[:1]]
        more = f" and {len(folders) - 1} more" if folders[1:] else ""
        say(f"$ gatesync publish {short[0]}{more} (at {publisher})")
        command = ("publish", *map(str, folders), *labels, "--json")
        code, output = await self.cluster.gatesync(*command, publisher=publisher)
        if code:
            raise DemoError(f"gatesync publish ended with {code}: {output.strip()[:500]}")

    async def look(self, gateways: Sequence[Gateway] = ()) -> None:
        """Wait until these gateways, or all, and the tree have what they should."""
        began = time.monotonic()
        chosen = gateways or self.cluster.gateways
        expected = [self.model.expected(each.label) for each in chosen]
        seen = await asyncio.gather(*map(watch, chosen, expected, repeat(DEADLINE_SECONDS)))
        for gateway, verdict, at, _ in seen:
            state = f"in step after {max(0.0, at - began):.2f} s"
            say(f"{gateway.name}  {gateway.label:<22}  {verdict!s:>10} artifacts  {state}")
            if not verdict.in_step:
                self.failures.append(f"{gateway.name} has {verdict}")
        self.in_step = sum(verdict.in_step for _, verdict, _, _ in seen)
        wanted = {path: body for files in self._files.values() for path, body in files.items()}

        async def same() -> bool:
            return self._tree() == wanted

        await until(same, TREE_SECONDS, "the tree to have every file")
        self.tree_in_step = True
        took = time.monotonic() - began
        say(f"the tree in the share   {len(wanted):>7} files       as published after {took:.2f} s")

    def _tree(self) -> dict[str, bytes]:
        root = self.cluster.share / TREE
        try:
            return {
                path.relative_to(root).as_posix(): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }
        except FileNotFoundError:  # while it is written
            return {}


async def begin(stage: Stage) -> None:
    """Publish the examples and generated APIs to both labels, at publisher-1."""
    folders = use_examples(stage.inputs / "examples")
    folders += generate(stage.inputs / "generated", stage.generated)
    stage.expect(folders)
    await stage.publish(PUBLISHERS[0], folders)
    await stage.look()


async def both_publish(stage: Stage) -> None:
    """Edit two APIs and publish one at each publisher, at the same moment."""
    other = stage.inputs / "generated" / "RetailOrdersAPI_v1.0.0"
    for folder in (stage.pizza, other):
        edit(folder, "both publish")
    stage.expect([stage.pizza, other])
    async with asyncio.TaskGroup() as tasks:
        for publisher, folder in zip(PUBLISHERS, (stage.pizza, other), strict=True):
            tasks.create_task(stage.publish(publisher, [folder]))
    await stage.look()


async def somebody_edits(stage: Stage) -> None:
    """Somebody edits a file in the tree; it is put right."""
    path = next((stage.cluster.share / TREE).rglob("*PizzaShackAPI_v1.0.0.xml"))
    path.write_text("edited")
    say(f"$ echo edited > {path.relative_to(stage.cluster.share)}")
    await stage.look()


async def publisher_dies(stage: Stage) -> None:
    """Kill the publisher that keeps the tree, publish at the other one."""
    await stage.cluster.processes[PUBLISHERS[0]].kill()
    edit(stage.pizza, "publisher-1 is dead")
    stage.expect([stage.pizza])
    await stage.publish(PUBLISHERS[1], [stage.pizza])
    await stage.look()


async def mount_goes_away(stage: Stage) -> None:
    """Take the share from gateway-3, publish, and give it back."""
    gateway = stage.cluster.gateways[2]
    held = stage.model.expected(gateway.label)
    stage.cluster.unmount(gateway.name)
    edit(stage.pizza, "gateway-3 has no share")
    stage.expect([stage.pizza])
    await stage.publish(PUBLISHERS[1], [stage.pizza])
    await stage.look([each for each in stage.cluster.gateways if each is not gateway])

    async def says_so() -> bool:
        health = await gateway.client.get("/health/ready", dict[str, Any])
        return "is not there" in str(health.get("store_error"))

    await until(says_so, DEADLINE_SECONDS, f"{gateway.name} to say that the share is gone")
    _, verdict, _, _ = await watch(gateway, held, DEADLINE_SECONDS)
    if not verdict.in_step:
        stage.failures.append(f"{gateway.name} has {verdict} of what it had")
    say(f"{gateway.name} says that the share is not there, and serves what it had")
    stage.cluster.mount(gateway.name)
    say(f"{gateway.name} has the share again")
    await stage.look()


STEPS: Final[tuple[Callable[[Stage], Awaitable[None]], ...]] = (
    begin,
    both_publish,
    somebody_edits,
    publisher_dies,
    mount_goes_away,
)


def run(folder: Path | None, *, keep: bool, quick: bool) -> int:
    """Run the demo; the last line on standard output is one JSON document.

    Args:
        folder: see `perform`.
        keep: see `perform`.
        quick: fewer artifacts.
    """
    failures: list[str] = []
    summary: dict[str, object] = {"artifacts": 0, "gateways": 3, "in_step": 0, "tree": False}
    return perform(
        folder,
        lambda folder: _tell(folder, failures, summary, 10 if quick else 100),
        keep=keep,
        fail=failures.append,
        failures=failures,
        document=lambda: {"ok": not failures, **summary},
    )


async def _tell(
    folder: Path, failures: list[str], summary: dict[str, object], generated: int
) -> None:
    began = time.monotonic()
    for line in _PROLOGUE.splitlines():
        say(line, 0)
    async with open_share_cluster(folder) as cluster:
        say()
        for name, process in cluster.processes.items():
            say(f"{name:<12} pid {process.pid:<8} {cluster.addresses[name]}")
        say(f"(all ready after {time.monotonic() - began:.1f} s)")
        stage = Stage(cluster, generated)
        for number, step in enumerate(STEPS, 1):
            say()
            say(f"{number}. {(step.__doc__ or '').splitlines()[0]}", 0)
            started = time.monotonic()
            stage.tree_in_step = False
            try:
                await step(stage)
            finally:
                summary["artifacts"] = stage.model.artifacts
                summary["in_step"], summary["tree"] = stage.in_step, stage.tree_in_step
            say(f"(the step took {time.monotonic() - started:.1f} s)")
            if stage.failures:
                failures += stage.failures
                raise DemoError("what was to follow stands on this step, and is left out")
    say()
    say(f"All processes are stopped. The demo took {time.monotonic() - began:.0f} s.", 0)
