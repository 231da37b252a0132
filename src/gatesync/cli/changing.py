"""publish, remove and labels: the commands that change what labels hold."""

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import stamina
from rich.progress import Progress

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Confirmation, Entry, Head
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.names import check_label
from gatesync.cli.output import Output, ago
from gatesync.cli.reading import Found, read_artifacts
from gatesync.cli.running import EXIT_NO, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.cli.waiting import Awaited, Goal, parse_goal, wait_for
from gatesync.publisher.answers import ArtifactsAnswer, GatewaysAnswer, Held, LabelsAnswer
from gatesync.publisher.fleet import ReceiptStatus
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import HttpClient, UnreachableError

__all__ = [
    "NameFilter",
    "Waiting",
    "confirm_label",
    "find_named",
    "publish",
    "publish_found",
    "remove",
    "show_labels",
]

CHUNK_BYTES: Final = 16 * 1024 * 1024  # of canonical bytes in one request
CHUNK_ITEMS: Final = 1_000
ATTEMPTS: Final = 4  # to reach a publisher that is not there: a second or two
UNSURE_SECONDS: Final = 30.0  # in which a publisher that died with our request is to come back


class Waiting(msgspec.Struct, frozen=True):
    """What `--wait`, `--expect` and `--timeout` (seconds) say; `wait` None is not at all."""

    wait: str | None
    expect: int | None
    timeout: float

    def goal(self) -> Goal | None:
        """The goal; raises `Problem` where it is not understood."""
        return None if self.wait is None else parse_goal(self.wait, self.expect)


class NameFilter(msgspec.Struct, frozen=True):
    """NAME, made exact by the options."""

    name: str
    version: str | None = None
    kind: str | None = None
    tenant: str | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether it names this entry, by name or by api_id."""
        if self.name not in (entry.name, entry.api_id):
            return False
        pairs = (
            (self.version, entry.version),
            (self.kind, entry.kind),
            (self.tenant, entry.tenant),
        )
        return all(asked is None or asked == given for asked, given in pairs)


class PublishResult(msgspec.Struct):
    """What publish and remove print with `--json`; `base` are an installation's files."""

    ok: bool
    change_sets: list[Any]
    heads: list[Head]
    refused: list[str]
    waited: list[Awaited]
    base: list[str] = []


def publish(
    target: Target,
    paths: Sequence[Path],
    labels: Sequence[str],
    output: Output,
    *,
    tenant: str | None,
    atomic: bool,
    skip_invalid: bool,
    waiting: Waiting,
) -> int:
    """Publish what the paths hold; answers with the exit code."""
    found = read_artifacts(paths, tenant)
    groups = [(labels, found.artifacts)]
    return publish_found(
        target, found, groups, output, atomic=atomic, skip_invalid=skip_invalid, waiting=waiting
    )


def publish_found(
    target: Target,
    found: Found,
    groups: Sequence[tuple[Sequence[str], Sequence[Artifact]]],
    output: Output,
    *,
    atomic: bool,
    skip_invalid: bool,
    waiting: Waiting,
) -> int:
    """Publish what was found, each group to labels of its own; answers with the exit code.

    Raises `CommandError` with every problem that was found, unless they are skipped and
    something is left.
    """
    goal = _check([label for labels, _ in groups for label in labels], waiting)
    if found.problems and not (skip_invalid and found.artifacts):
        raise CommandError(EXIT_WRONG, *(str(problem) for problem in found.problems))
    if found.base:
        output.note(
            f"left out: files of the server's installation ({len(found.base)}), "
            f"such as {found.base[0]}"
        )

    async def work(client: HttpClient) -> PublishResult:
        result = PublishResult(True, [], [], [str(each) for each in found.problems], [], found.base)
        heads: dict[str, Head] = {}
        with _progress(len(found.artifacts), output) as advance:
            for labels, artifacts in groups:
                for chunk in [artifacts] if atomic else _chunks(artifacts):
                    body = {
                        "labels": labels,
                        "publish": [_item(artifact) for artifact in chunk],
                        "atomic": atomic,
                        "skip_invalid": skip_invalid,
                    }
                    answer = await _change(client, body)
                    result.change_sets += answer.change_sets
                    result.refused += answer.refused
                    heads.update((head.label, head) for head in answer.heads)
                    advance(len(chunk))
        result.heads = list(heads.values())
        await _finish(client, result, goal, waiting, output)
        return result

    return _tell(call(target, work), output)


def remove(
    target: Target,
    which: NameFilter,
    labels: Sequence[str],
    output: Output,
    *,
    waiting: Waiting,
) -> int:
    """Remove one artifact from the labels, or from all that hold it."""
    goal = _check(labels, waiting, optional=True)

    async def work(client: HttpClient) -> PublishResult:
        held = await find_named(client, which)
        chosen = [each for each in held if not labels or each.label in labels]
        if missing := sorted(set(labels) - {each.label for each in chosen}):
            there = ", ".join(repr(each.label) for each in held)
            reason = f"{which.name} is not in label {missing[0]!r}; it is in {there}"
            raise CommandError(EXIT_WRONG, reason)
        body = {
            "labels": [each.label for each in chosen],
            "remove": [chosen[0].entry.api_id],
        }
        answer = await _change(client, body)
        result = PublishResult(
            True, list(answer.change_sets), list(answer.heads), list(answer.refused), []
        )
        await _finish(client, result, goal, waiting, output)
        return result

    return _tell(call(target, work), output)


async def find_named(client: HttpClient, which: NameFilter) -> list[Held]:
    """The one artifact that is named, in each label that holds it.

    Raises `CommandError` where nothing has the name, or several artifacts have it.
    """
    answer = await client.get("/v1/artifacts", ArtifactsAnswer)
    held = [each for each in answer.artifacts if which.fits(each.entry)]
    if not held:
        raise CommandError(EXIT_WRONG, f"no label holds an artifact named {which.name!r}")
    candidates = {each.entry.api_id: each.entry.identity for each in held}
    if len(candidates) > 1:
        said = [f"  {identity}  ({api_id})" for api_id, identity in sorted(candidates.items())]
        first = (
            f"{which.name!r} is ambiguous; add --version, --kind or --tenant, or give the api_id:"
        )
        raise CommandError(EXIT_WRONG, first, *said)
    return held


def show_labels(target: Target, output: Output) -> int:
    """List the labels, with what waits for an operator in each."""

    async def work(client: HttpClient) -> tuple[LabelsAnswer, GatewaysAnswer]:
        labels = await client.get("/v1/labels", LabelsAnswer)
        return labels, await client.get("/v1/gateways", GatewaysAnswer)

    labels, gateways = call(target, work)
    held: dict[str, int] = {}
    for gateway in gateways.gateways:
        for label in gateway.labels:
            held[label.label] = max(held.get(label.label, 0), label.held)
    output.document({"labels": labels.labels, "removals_held": held})
    rows = [
        (head.label, head.revision, head.digest.count, held.get(head.label, 0))
        for head in labels.labels
    ]
    named = {head.label for head in labels.labels}
    # What gateways hold of a label that an empty new store has never heard of.
    rows += [(label, 0, 0, n) for label, n in sorted(held.items()) if n and label not in named]
    output.table(("LABEL", "REVISION", "ARTIFACTS", "REMOVALS HELD"), rows)
    return 0


def confirm_label(target: Target, label: str, output: Output) -> int:
    """Confirm a label's history, so that gateways carry out the removals that they held."""

    async def work(client: HttpClient) -> Confirmation:
        answer = await client.get("/v1/gateways", GatewaysAnswer)
        known = {head.label for head in answer.heads}
        known |= {each.label for node in answer.gateways for each in node.labels}
        if label not in known:  # of an empty store too: its gateways follow the label
            said = ", ".join(repr(each) for each in sorted(known)) or "none"
            raise CommandError(
                EXIT_WRONG, f"no publish and no gateway has used label {label!r}; known are: {said}"
            )
        return await client.post("/v1/labels/confirm", {"label": label}, Confirmation)

    confirmation = call(target, work)
    output.document(confirmation)
    output.line(
        f"{label}: the history at revision {confirmation.revision} is confirmed; "
        "gateways now carry out the removals that they held"
    )
    return 0


def _check(labels: Sequence[str], waiting: Waiting, *, optional: bool = False) -> Goal | None:
    if not labels and not optional:
        raise CommandError(EXIT_WRONG, "name at least one label with --label")
    try:
        for label in labels:
            check_label(label)
        return waiting.goal()
    except Problem as problem:
        raise CommandError(EXIT_WRONG, str(problem)) from None


def _item(artifact: Artifact) -> dict[str, Any]:
    if not artifact.api_id:
        artifact = msgspec.structs.replace(artifact, api_id=artifact.identity.default_api_id())
    content = canonical.encode(artifact)
    return {"artifact": msgspec.Raw(content), "digest": digest_of(content)}


def _chunks(artifacts: Sequence[Artifact]) -> Iterator[list[Artifact]]:
    chunk: list[Artifact] = []
    size = 0
    for artifact in artifacts:
        weight = sum(len(part.content) for part in artifact.parts)
        if chunk and (size + weight > CHUNK_BYTES or len(chunk) == CHUNK_ITEMS):
            yield chunk
            chunk, size = [], 0
        chunk.append(artifact)
        size += weight
    if chunk:
        yield chunk


async def _change(client: HttpClient, body: dict[str, Any]) -> ChangeAnswer:
    """Send a change, again if no answer came: the key makes that safe (promise 3).

    A publisher that is not there is soon given up. One that may have taken the change and then
    fell silent is waited for: it alone knows what became of it.
    """
    # stamina's own hook would write log lines to standard output, beside the answer.
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])
    key = {"Idempotency-Key": str(uuid.uuid4())}
    failures, unsure = 0, False

    def worth_trying_again(error: Exception) -> bool:
        nonlocal failures, unsure
        if not isinstance(error, UnreachableError):
            return False
        failures, unsure = failures + 1, unsure or error.unsure
        return unsure or failures < ATTEMPTS

    async for attempt in stamina.retry_context(
        on=worth_trying_again, attempts=None, timeout=UNSURE_SECONDS, wait_max=2.0
    ):
        with attempt:
            return await client.post("/v1/changes", body, ChangeAnswer, headers=key)
    raise AssertionError("retry_context ends by an answer or an exception")


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    print(
        f"gatesync: {details.caused_by}; trying again in {details.wait_for:.1f} s", file=sys.stderr
    )


@contextmanager
def _progress(total: int, output: Output) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, nothing in a pipe; yields what moves it on."""
    shown = sys.stderr.isatty() and not output.json and total > 1
    with Progress(console=output.errors, disable=not shown, transient=True) as bar:
        task = bar.add_task("publishing", total=total)
        yield lambda count: bar.advance(task, count)


async def _finish(
    client: HttpClient,
    result: PublishResult,
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

    def progress(label: str, have: int, needed: int) -> None:
        if status is not None:
            status.update(f"{label}: {have} of {needed} gateways have it")

    if status is not None:
        status.start()
    try:
        result.waited = await wait_for(client, heads, goal, waiting.timeout, progress)
    finally:
        if status is not None:
            status.stop()
    result.ok = all(each.reached for each in result.waited)


def _tell(result: PublishResult, output: Output) -> int:
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
    for awaited in result.waited:
        _tell_awaited(awaited, published_at.get(awaited.label, 0), output)
    return 0 if result.ok else EXIT_NO


def _tell_awaited(awaited: Awaited, published_at: int, output: Output) -> None:
    have = [each for each in awaited.receipts if each.status is ReceiptStatus.APPLIED]
    known = len(awaited.receipts)
    output.line(
        f"{awaited.label}: {len(have)} of {known} gateways have revision {awaited.revision}"
    )
    for each in awaited.receipts:
        if each.status is ReceiptStatus.APPLIED:
            after = f" after {ago(max(0, each.at - published_at))}" if published_at else ""
            output.line(f"  {each.node}  applied{after}")
        else:
            output.line(f"  {each.node}  {each.status.value}: {each.reason}")
    if awaited.reached:
        return
    if not known:
        output.problem(
            f"no gateway of label {awaited.label!r} is known; use --expect 0 if there is none"
        )
    else:
        output.problem(f"{awaited.label}: {awaited.needed} gateways were to have it in time")
