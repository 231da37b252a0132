"""A change on its way: sent until it is answered, waited for, and told.

What `publish`, `remove` and `rollback` have in common.
"""

import getpass
import socket
import sys
from typing import Any, Final

import msgspec
import stamina
from rich.markup import escape

from gatesync.artifacts.changes import ChangeSet, Head
from gatesync.artifacts.names import NAME_MAX_BYTES
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO
from gatesync.cli.waiting import Awaited, Goal, parse_goal, tell_awaited, wait_for
from gatesync.publisher.request_keys import new_key
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import AnsweredError, HttpClient, TlsFailedError, UnreachableError

__all__ = ["ATTEMPTS", "ChangeResult", "Waiting", "finish", "send_change", "tell"]

ATTEMPTS: Final = 4  # to reach a publisher that is not there: a second or two
UNSURE_SECONDS: Final = 30.0  # in which whoever fell silent with our request is to come back


class Waiting(msgspec.Struct, frozen=True):
    """What `--wait`, `--expect` and `--timeout` (seconds) say; `wait` None is not at all."""

    wait: str | None
    expect: int | None
    timeout: float

    def goal(self) -> Goal | None:
        """The goal; raises `Problem` where it is not understood."""
        return None if self.wait is None else parse_goal(self.wait, self.expect)


class ChangeResult(msgspec.Struct):
    """What a change prints with `--json`; `base` are an installation's files, left out.

    `warnings` are references that lead nowhere now.
    """

    ok: bool = True
    change_sets: list[ChangeSet] = []
    heads: list[Head] = []
    refused: list[str] = []
    waited: list[Awaited] = []
    base: list[str] = []
    warnings: list[str] = []

    def add(self, answer: ChangeAnswer) -> None:
        """Take in the answer to one of its requests; its warnings are the caller's to weigh."""
        self.change_sets += answer.change_sets
        self.refused += answer.refused
        heads = {head.label: head for head in (*self.heads, *answer.heads)}
        self.heads = list(heads.values())


async def send_change(client: HttpClient, body: dict[str, Any]) -> ChangeAnswer:
    """Send a change, again if no answer came: the key makes that safe (promise 3).

    A publisher that is not there is soon given up. One that may have taken the change and then
    fell silent is waited for: it alone knows what became of it. So is a database that fell
    silent at the commit.
    """
    # stamina's own hook would write log lines to standard output, beside the answer.
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])
    key = {"Idempotency-Key": new_key()}
    request = {**body, "sender": _sender()}
    failures, unsure = 0, False

    def worth_trying_again(error: Exception) -> bool:
        nonlocal failures, unsure
        if isinstance(error, AnsweredError):
            unsure = unsure or error.code == "unsure"
            return unsure and error.status == 503
        if not isinstance(error, UnreachableError) or isinstance(error, TlsFailedError):
            return False
        failures, unsure = failures + 1, unsure or error.unsure
        return unsure or failures < ATTEMPTS

    async for attempt in stamina.retry_context(
        on=worth_trying_again, attempts=None, timeout=UNSURE_SECONDS, wait_max=2.0
    ):
        with attempt:
            return await client.post("/v1/changes", request, ChangeAnswer, headers=key)
    raise AssertionError("retry_context ends by an answer or an exception")


def _sender() -> str:
    """Where we run, as far as that can be said in a name: for the history."""
    try:
        said = f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container may run as a user without a name
        said = socket.gethostname()
    return said if said.isprintable() and len(said.encode()) <= NAME_MAX_BYTES else ""


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    print(
        f"gatesync: {details.caused_by}; trying again in {details.wait_for:.1f} s", file=sys.stderr
    )


async def finish(
    client: HttpClient,
    result: ChangeResult,
    goal: Goal | None,
    waiting: Waiting,
    output: Output,
) -> None:
    """Wait if asked to, with progress on a terminal."""
    if goal is None:
        return
    firsts: dict[str, int] = {}
    for each in result.change_sets:
        firsts[each.label] = min(each.revision, firsts.get(each.label, each.revision))
    heads = [(head, firsts.get(head.label, head.revision)) for head in result.heads]
    status = output.errors.status("waiting for the gateways") if sys.stderr.isatty() else None

    def progress(text: str) -> None:
        if status is not None:
            status.update(escape(text))

    if status is not None:
        status.start()
    try:
        result.waited = await wait_for(client, heads, goal, waiting.timeout, progress)
    finally:
        if status is not None:
            status.stop()
    result.ok = all(each.reached for each in result.waited)


def tell(result: ChangeResult, output: Output) -> int:
    """Tell what was done and what not; answers with the exit code."""
    output.document(result)
    published_at: dict[str, int] = {}
    for change_set in result.change_sets:
        published_at.setdefault(change_set.label, change_set.published_at)
        for change in change_set.changes:
            verb = "published" if change.instruction == "Publish" else "removed"
            where = f"{change_set.label}, revision {change_set.revision}"
            output.line(f"{verb} {change.entry.identity} ({where})")
    if not result.change_sets and not result.refused:
        output.line("nothing changed: the labels hold exactly this already")
    for reason in result.refused:
        output.problem(f"left out: {reason}")
    for warning in result.warnings:
        output.warning(warning)
    for awaited in result.waited:
        tell_awaited(awaited, published_at.get(awaited.label, 0), output)
    return 0 if result.ok else EXIT_NO
