"""publish, remove and rollback: the commands that change what labels hold."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import DEPLOY_ORDER, Artifact
from gatesync.artifacts.names import check_label
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.planning import Unmet
from gatesync.cli.dry_run import claims_of, plan_changes, preview
from gatesync.cli.naming import NameFilter, find_named
from gatesync.cli.output import Output
from gatesync.cli.reading import Found, FoundArtifact, read_artifacts
from gatesync.cli.remembering import fetch_content, find_history, state_at
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.sending import ChangeResult, Waiting, finish, send_change, tell
from gatesync.cli.session import CommandError, Target, call
from gatesync.cli.waiting import Goal
from gatesync.stores.batching import in_batches
from gatesync.web.client import HttpClient

__all__ = ["PublishOptions", "publish", "publish_found", "remove", "roll_back"]

CHUNK_BYTES: Final = 16 * 1024 * 1024  # of canonical bytes in one request
CHUNK_ITEMS: Final = 1_000


class PublishOptions(msgspec.Struct, frozen=True):
    """How to publish: see the options of the same names."""

    atomic: bool = False
    skip_invalid: bool = False
    dry_run: bool = False
    engine: str = ""


def publish(
    target: Target,
    paths: Sequence[Path],
    labels: Sequence[str],
    output: Output,
    *,
    tenant: str | None,
    openapi: OpenApiOptions,
    options: PublishOptions,
    waiting: Waiting,
) -> int:
    """Publish what the paths hold; answers with the exit code."""
    _check(labels, waiting)
    found = read_artifacts(paths, tenant, openapi)
    groups = [(labels, found.artifacts)]
    return publish_found(target, found, groups, output, options=options, waiting=waiting)


def publish_found(
    target: Target,
    found: Found,
    groups: Sequence[tuple[Sequence[str], Sequence[FoundArtifact]]],
    output: Output,
    *,
    options: PublishOptions,
    waiting: Waiting,
) -> int:
    """Publish what was found, each group to labels of its own; answers with the exit code.

    Raises `CommandError` with every problem that was found, unless they are skipped and
    something is left.
    """
    goal = _check([label for labels, _ in groups for label in labels], waiting)
    groups = [
        (labels, sorted(artifacts, key=lambda each: DEPLOY_ORDER[each.identity.kind]))
        for labels, artifacts in groups
    ]
    if options.dry_run:
        return preview(
            target,
            found,
            groups,
            output,
            atomic=options.atomic,
            skip_invalid=options.skip_invalid,
            engine=options.engine,
        )
    if options.engine:
        raise CommandError(EXIT_WRONG, "--engine goes with --dry-run: gateways say it else")
    if found.problems and not (options.skip_invalid and found.artifacts):
        raise CommandError(EXIT_WRONG, *(str(problem) for problem in found.problems))
    found.tell_asides(output)

    async def work(client: HttpClient) -> ChangeResult:
        result = ChangeResult(refused=[str(each) for each in found.problems], base=found.base)
        with output.progress("publishing", len(found.artifacts)) as advance:
            for labels, artifacts in groups:
                await _publish_group(client, labels, artifacts, options, result, advance)
        await finish(client, result, goal, waiting, output)
        return result

    try:
        result = call(target, work)
    except CommandError as error:
        raise CommandError(error.code, *map(found.located, error.reasons)) from None
    result.refused = [found.located(each) for each in result.refused]
    result.warnings = [found.located(each) for each in result.warnings]
    return tell(result, output)


async def _publish_group(
    client: HttpClient,
    labels: Sequence[str],
    artifacts: Sequence[FoundArtifact],
    options: PublishOptions,
    result: ChangeResult,
    advance: Callable[[int], None],
) -> None:
    """Publish to these labels, in as many requests as it takes.

    Where that is several, the whole is planned before the first, so that what is wrong with the
    last artifact still keeps the first from being published; and each alone cannot know what
    the others bring.
    """
    chunks = (
        [artifacts] if options.atomic else list(in_batches(artifacts, CHUNK_BYTES, CHUNK_ITEMS))
    )
    if len(chunks) > 1 and not options.skip_invalid:
        plan = await plan_changes(client, labels, artifacts, atomic=False, skip_invalid=False)
        if plan.refused:
            raise CommandError(EXIT_WRONG, *plan.refused)
    warnings: list[Unmet] = []
    for chunk in chunks:
        body = {
            "labels": labels,
            "publish": [_item(artifact.load()) for artifact in chunk],
            "atomic": options.atomic,
            "skip_invalid": options.skip_invalid,
            "force": len(chunks) > 1,
        }
        answer = await send_change(client, body)
        result.add(answer)
        warnings += answer.warnings
        advance(len(chunk))
    if warnings and len(chunks) > 1:
        brought = claims_of(artifacts)
        warnings = [each for each in warnings if each.claim not in brought]
    result.warnings += [each.text for each in warnings]


def remove(
    target: Target,
    which: NameFilter,
    labels: Sequence[str],
    output: Output,
    *,
    force: bool,
    waiting: Waiting,
) -> int:
    """Remove one artifact from the labels, or from all that hold it."""
    goal = _check(labels, waiting, optional=True)

    async def work(client: HttpClient) -> ChangeResult:
        held = await find_named(client, which)
        chosen = [each for each in held if not labels or each.label in labels]
        if missing := sorted(set(labels) - {each.label for each in chosen}):
            there = ", ".join(repr(each.label) for each in held)
            reason = f"{which.name} is not in label {missing[0]!r}; it is in {there}"
            raise CommandError(EXIT_WRONG, reason)
        body = {
            "labels": [each.label for each in chosen],
            "remove": [chosen[0].entry.api_id],
            "force": force,
        }
        return await _change_and_wait(client, body, goal, waiting, output)

    return tell(call(target, work), output)


def roll_back(
    target: Target,
    which: NameFilter,
    label: str | None,
    to: int | None,
    output: Output,
    *,
    force: bool,
    waiting: Waiting,
) -> int:
    """Publish an artifact's earlier content anew: what it was at `to`, or before the last change.

    It is a new revision. An artifact that was removed comes back; one that has come back under
    another api_id gives way in the same change set.
    """
    goal = _check([label] if label is not None else [], waiting, optional=True)

    async def work(client: HttpClient) -> ChangeResult:
        history = await find_history(client, which, label)
        wanted = state_at(history, to)
        artifact = await fetch_content(client, wanted.change.entry)
        now = history.held
        others = [now.api_id] if now and now.api_id != artifact.api_id else []
        body = {
            "labels": [history.label],
            "publish": [_item(artifact)],
            "remove": others,
            "atomic": True,
            "force": force,
            "rolls_back": True,
        }
        return await _change_and_wait(client, body, goal, waiting, output)

    return tell(call(target, work), output)


async def _change_and_wait(
    client: HttpClient,
    body: dict[str, Any],
    goal: Goal | None,
    waiting: Waiting,
    output: Output,
) -> ChangeResult:
    answer = await send_change(client, body)
    result = ChangeResult(warnings=[each.text for each in answer.warnings])
    result.add(answer)
    await finish(client, result, goal, waiting, output)
    return result


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
