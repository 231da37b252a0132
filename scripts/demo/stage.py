"""What every step of the demo uses: the cluster, the model, the commands, and what is printed."""

import asyncio
import shlex
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import msgspec

from demo.calls import call
from demo.catalog import Input, edit, path_to_call, read_folder
from demo.cluster import Cluster, Gateway
from demo.layout import LABELS
from demo.observe import Seen, watch
from demo.processes import DemoError
from demo.verdicts import Model, Tally

__all__ = ["DEADLINE_SECONDS", "Stage", "say"]

DEADLINE_SECONDS: Final = 30.0  # what is not there by then is lost
HTTP_OK: Final = 200


class Stage:
    """Where the steps take place.

    Args:
        cluster: running.
        tally: what is counted.
        inputs: the folder with the artifacts that are published.
        upstream: the address of what answers behind all APIs.
    """

    def __init__(self, cluster: Cluster, tally: Tally, inputs: Path, upstream: str) -> None:
        self.cluster = cluster
        self.tally = tally
        self.inputs = inputs
        self.upstream = upstream
        self.model = Model()
        self._edits = 0
        self._paths: dict[str, str] = {}  # what to call of an API, by api_id

    def edit(self, folder: Path) -> Input:
        """Change an artifact's files in a way they never were before."""
        self._edits += 1
        edit(folder, f"edit {self._edits}")
        return read_folder(folder)

    async def publish(
        self, folders: Sequence[Path], *options: str, to: Sequence[Gateway] = ()
    ) -> None:
        """`gatesync publish` of artifact folders, or folders of such, to both labels; and `look`.

        Args:
            folders: what to publish.
            options: more of the command's.
            to: the gateways to look at; all where none is named.
        """
        await self._change_and_look([*self.expect_published(folders), *options], to)

    def expect_published(self, folders: Sequence[Path]) -> list[str]:
        """Expect what these folders hold in both labels; answers with the command for that."""
        for folder in folders:
            for each in _artifacts_in(folder):
                self.expect(each)
        labels = [word for label in LABELS for word in ("--label", label)]
        return ["publish", *map(str, folders), *labels]

    def expect(self, folder: Path) -> Input:
        """Expect what one folder holds in both labels."""
        found = read_folder(folder)
        self.model.publish(LABELS, {found.api_id: found.digest})
        if path := path_to_call(folder):
            self._paths[found.api_id] = path
        return found

    async def remove(self, folder: Path, label: str, *options: str) -> None:
        """`gatesync remove` of an artifact from one label; and `look`."""
        removed = read_folder(folder)
        self.model.remove(label, removed.api_id)
        await self._change_and_look(["remove", removed.name, "--label", label, *options], ())

    async def gatesync(self, *arguments: str) -> dict[str, Any]:
        """Run a command, show it, and answer with its JSON. A no (exit code 1) is counted.

        Raises `DemoError` where the command could not even ask.
        """
        short = [each.removeprefix(f"{self.inputs}/") for each in arguments]
        say(f"$ gatesync {' '.join(map(shlex.quote, short))}")
        code, output = await self.cluster.gatesync(*arguments, "--json")
        if code > 1 or code < 0:
            raise DemoError(f"gatesync {arguments[0]} ended with {code}")
        if code == 1:
            self.fail(f"gatesync {arguments[0]} says no: {output.strip()[:500]}")
        document: dict[str, Any] = msgspec.json.decode(output)
        return document

    async def look(self, began: float | None = None, gateways: Sequence[Gateway] = ()) -> None:
        """Wait until gateways hold what they should; show and count who has what.

        Args:
            began: what times are counted from, by the monotonic clock.
            gateways: at whom to look; at all where none is named.
        """
        self._take(await self._watch(gateways), began)
        await self.call(gateways)

    async def call(self, gateways: Sequence[Gateway] = ()) -> None:
        """Call each API through each gateway's Envoy; those of its label are to answer, alone."""
        for gateway in gateways or self.cluster.gateways:
            expected = self.model.expected(gateway.label)
            statuses = await call(gateway.envoy, self._paths.values())
            to_answer = {path for api_id, path in self._paths.items() if api_id in expected}
            answered = {path for path, status in statuses.items() if status == HTTP_OK}
            self.tally.calls += len(statuses)
            say(f"{gateway.name}  {len(answered & to_answer)} of {len(to_answer)} APIs answer")
            for path in sorted(to_answer ^ answered):
                self.fail(f"{gateway.name} answers {path} with {statuses[path]}")

    async def _change_and_look(self, command: Sequence[str], gateways: Sequence[Gateway]) -> None:
        """Run a command and watch the gateways meanwhile, so that times are not the command's."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(gateways))
            document = await self.gatesync(*command)
        taken = min((each["published_at"] for each in document.get("change_sets", ())), default=0)
        _tell_receipts(document, taken)
        began = time.monotonic() - (time.time() - taken / 1000) if taken else None
        self._take(watching.result(), began)
        await self.call(gateways)

    async def _watch(self, gateways: Sequence[Gateway]) -> list[Seen]:
        chosen = gateways or self.cluster.gateways
        expected = [self.model.expected(each.label) for each in chosen]
        return await asyncio.gather(*map(watch, chosen, expected, repeat(DEADLINE_SECONDS)))

    def _take(self, seen: Sequence[Seen], began: float | None) -> None:
        self.tally.artifacts = self.model.artifacts
        self.tally.take(each.verdict for each in seen)
        for gateway, verdict, at, waited in seen:
            state = "in step" if verdict.in_step else "NOT IN STEP"
            if began is not None and waited and verdict.in_step:
                state += f" after {max(0.0, at - began):.2f} s"
            say(f"{gateway.name}  {gateway.label:<22}  {verdict!s:>10} artifacts  {state}")

    def fail(self, reason: str) -> None:
        """Show and count what was not as promised."""
        say(f"NOT AS PROMISED: {reason}")
        self.tally.fail(reason)


def say(text: str = "", indent: int = 3) -> None:
    """Print a line, now, for whoever is watching."""
    print(" " * indent + text if text else "", flush=True)


def _artifacts_in(folder: Path) -> list[Path]:
    if (folder / "artifact.toml").exists():
        return [folder]
    return sorted(each.parent for each in folder.glob("*/artifact.toml"))


def _tell_receipts(document: dict[str, Any], taken: int) -> None:
    """What `--wait` said: who acknowledged, how long after the publisher was asked."""
    words = [
        f"{receipt['node']} {receipt['status']}"
        + (f" after {receipt['at'] - taken} ms" if receipt["at"] else "")
        for awaited in document.get("waited", ())
        for receipt in awaited["receipts"]
    ]
    if words:
        say(f"receipts: {', '.join(words)}")
