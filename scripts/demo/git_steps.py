"""What is shown where the publisher stores in a Git repository: people push to it, too."""

import os
import time
from pathlib import Path
from typing import Final

from demo.catalog import edit, read_folder
from demo.layout import LABELS
from demo.observe import seconds_until_held
from demo.processes import DemoError, run_command
from demo.repository import POLL_SECONDS, Repository
from demo.stage import DEADLINE_SECONDS, Stage, say
from demo.verdicts import percentile
from gatesync.artifacts.paths import encode_name

__all__ = ["person_pushes"]

_PERSON: Final = ("-c", "user.name=A person", "-c", "user.email=person@example.com")
_PATH: Final = os.environ.get("PATH", os.defpath)


async def person_pushes(stage: Stage, *, repository: Repository, rounds: int = 10) -> None:
    """Edit an API in a clone, commit and push, as anybody does; the gateways follow.

    The clock starts before `git push`, and stops when the bytes that the last gateway gives over
    HTTP have the right hash.
    """
    clone = stage.inputs.parent / "clone"
    await _git(stage.inputs, "clone", "--quiet", repository.login_url, str(clone))
    say(f"$ git clone {repository.url}")
    ways = {"poll": f"by poll, each {POLL_SECONDS:g} s", "webhook": "by webhook"}
    for way, said in ways.items():
        if way == "webhook":
            repository.webhook_switch.touch()
        taken = [
            await _push_one(stage, clone, f"{way} {number}", show=number == 0)
            for number in range(rounds)
        ]
        stage.tally.push_to_all_ms[way] = taken
        say(
            f"{len(taken)} pushes, until all gateways serve the bytes, {said}: "
            f"p50 {percentile(taken, 50)} ms, p99 {percentile(taken, 99)} ms"
        )
    repository.webhook_switch.unlink()
    await stage.look()


async def _push_one(stage: Stage, clone: Path, remark: str, *, show: bool) -> float:
    """Edit, commit and push; answers with the milliseconds until every gateway has it."""
    await _git(clone, "pull", "--quiet", "--rebase")
    found = [_folder_of(clone, label) for label in LABELS]
    for folder in found:
        edit(folder, remark)
    edited = read_folder(found[0])
    stage.model.publish(LABELS, {edited.api_id: edited.digest})
    commands = (
        ("add", "--all"),
        (*_PERSON, "commit", "--quiet", "--message", f"{edited.name}: {remark}"),
        ("push", "--quiet"),
    )
    began = time.monotonic()
    for command in commands:
        if show:
            say(f"$ git {' '.join(word for word in command if word not in _PERSON)}")
        began = time.monotonic()
        await _git(clone, *command)
    seconds = await seconds_until_held(
        stage.cluster.gateways, edited.api_id, edited.digest, began, DEADLINE_SECONDS
    )
    if seconds is None:
        raise DemoError(f"a push was not everywhere after {DEADLINE_SECONDS:g} s")
    return seconds * 1000


def _folder_of(clone: Path, label: str) -> Path:
    """Where one of the examples is in a clone, in a label's folder."""
    (api,) = (clone / encode_name(label)).glob("*/api/*/*/api/*PizzaShack*.xml")
    return api.parent.parent


async def _git(folder: Path, *arguments: str) -> None:
    environment = {"HOME": str(folder.parent), "GIT_TERMINAL_PROMPT": "0", "PATH": _PATH}
    code, _ = await run_command(["git", "-C", str(folder), *arguments], environment)
    if code != 0:
        raise DemoError(f"git {arguments[0]} ended with {code}")
