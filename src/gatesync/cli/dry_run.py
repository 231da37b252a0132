"""publish --dry-run: what would change, on which label and which gateways; and what is wrong."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.description import describe
from gatesync.artifacts.model import Artifact, Identity
from gatesync.cli.output import Output
from gatesync.cli.reading import Found, FoundArtifact
from gatesync.cli.running import EXIT_NO, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.publisher.answers import ArtifactsAnswer, GatewaysAnswer
from gatesync.publisher.requests import ChangeAnswer, PlanItem, PlanRequest, entry_of
from gatesync.web.client import HttpClient

__all__ = ["claims_of", "plan_changes", "preview"]

NAMED: Final = 40  # artifacts of each sort that are named to people; `--json` names all


class LabelPlan(msgspec.Struct, frozen=True):
    """What would become of one label, which stands at `revision` now.

    `gateways` follow it; those of them that have fallen silent are in `lost` too.
    """

    label: str
    revision: int
    gateways: tuple[str, ...]
    lost: tuple[str, ...]
    new: tuple[Identity, ...]
    changed: tuple[Identity, ...]
    unchanged: int


class DryRun(msgspec.Struct):
    """What `--dry-run` prints with `--json`. `ok`: a publish would be carried out.

    `engine` is the one that was asked for, `refused` what gateways with it would not serve.
    """

    ok: bool
    labels: list[LabelPlan]
    problems: list[str]
    warnings: list[str]
    base: list[str]
    dry_run: bool = True
    engine: str = ""
    refused: list[str] = []


def preview(
    target: Target,
    found: Found,
    groups: Sequence[tuple[Sequence[str], Sequence[FoundArtifact]]],
    output: Output,
    *,
    atomic: bool,
    skip_invalid: bool,
    engine: str = "",
) -> int:
    """Say what publishing these groups would do; answers with the exit code of that publish.

    `engine` is one that gateways may have: what they would refuse is said, too, and 1 is the exit
    code where that is something. What is wrong with one file keeps nobody from seeing what is
    wrong with the others, nor what would change.
    """
    result = DryRun(True, [], [str(each) for each in found.problems], [], found.base, engine=engine)
    for problem in result.problems:  # also where no publisher is there to say more
        output.problem(problem)
    found.tell_asides(output)

    async def work(client: HttpClient) -> None:
        for labels, artifacts in groups:
            if artifacts:
                await _plan_group(client, labels, artifacts, atomic, skip_invalid, result)
                if engine:
                    await _ask_engine(client, labels, artifacts, result)
        result.problems = [found.located(each) for each in result.problems]
        result.warnings = [found.located(each) for each in result.warnings]
        result.refused = [found.located(each) for each in result.refused]

    local = len(result.problems)
    call(target, work)
    doubtful = _doubtful(artifact for _, artifacts in groups for artifact in artifacts)
    result.warnings += [found.located(each) for each in doubtful]
    _tell_problems(result, local, output)
    for plan in result.labels:
        _tell(plan, output)
    something = any(artifacts for _, artifacts in groups)
    result.ok = something and (skip_invalid or not result.problems)
    output.document(result)
    if result.ok:
        output.line("nothing was published: this was a dry run")
        return EXIT_NO if result.refused else 0
    faults = f"{len(result.problems)} fault" + "s" * (len(result.problems) != 1)
    output.line(f"nothing would be published: {faults} must be mended, or skipped (--skip-invalid)")
    return EXIT_WRONG


async def plan_changes(
    client: HttpClient,
    labels: Sequence[str],
    artifacts: Iterable[FoundArtifact],
    *,
    atomic: bool,
    skip_invalid: bool,
) -> ChangeAnswer:
    """Ask the publisher what publishing these to the labels would do, without their bytes."""
    request = PlanRequest(
        labels=tuple(labels),
        publish=tuple(_item(each.load()) for each in artifacts),
        atomic=atomic,
        skip_invalid=skip_invalid,
    )
    return await client.post("/v1/plans", request, ChangeAnswer)


def claims_of(artifacts: Iterable[FoundArtifact]) -> frozenset[str]:
    """The keys of everything that these would own."""
    return frozenset(claim.key for each in artifacts for claim in describe(each.load()).claims)


async def _plan_group(
    client: HttpClient,
    labels: Sequence[str],
    artifacts: Sequence[FoundArtifact],
    atomic: bool,
    skip_invalid: bool,
    result: DryRun,
) -> None:
    # Each by itself, so that all faults come to light and not only those of the first request.
    answer = await plan_changes(client, labels, artifacts, atomic=atomic, skip_invalid=True)
    unmet = [each.text for each in answer.warnings]
    result.problems += answer.refused
    (result.warnings if skip_invalid else result.problems).extend(unmet)
    gateways = await client.get("/v1/gateways", GatewaysAnswer)
    for label in labels:
        held = await client.get("/v1/artifacts", ArtifactsAnswer, [("label", label)])
        before = {each.entry.api_id for each in held.artifacts}
        entries = [
            change.entry
            for change_set in answer.change_sets
            if change_set.label == label
            for change in change_set.changes
        ]
        nodes = [
            node for node in gateways.gateways if label in {each.label for each in node.labels}
        ]
        result.labels.append(
            LabelPlan(
                label=label,
                revision=next((h.revision for h in gateways.heads if h.label == label), 0),
                gateways=tuple(node.node for node in nodes),
                lost=tuple(node.node for node in nodes if node.lost),
                new=tuple(each.identity for each in entries if each.api_id not in before),
                changed=tuple(each.identity for each in entries if each.api_id in before),
                unchanged=len(artifacts) - len(entries) - len(answer.refused),
            )
        )


async def _ask_engine(
    client: HttpClient, labels: Sequence[str], artifacts: Sequence[FoundArtifact], result: DryRun
) -> None:
    try:
        from gatesync.cli.envoy_check import check_with_envoy
    except ImportError as error:
        reason = f"--engine {result.engine} needs the extra gatesync[envoy]: {error}"
        raise CommandError(EXIT_WRONG, reason) from None
    for label in labels:
        found = await check_with_envoy(client, label, artifacts)
        told = [f"{each} (by engine {result.engine})" for each in found.by_settings]
        result.refused += [each for each in found.everywhere if each not in result.refused]
        result.warnings += [each for each in told if each not in result.warnings]


def _item(artifact: Artifact) -> PlanItem:
    description = describe(artifact)
    entry = entry_of(artifact, description.context, canonical.encode(artifact))
    return PlanItem(entry, description.claims, description.references)


def _doubtful(artifacts: Iterable[FoundArtifact]) -> list[str]:
    """What cannot be checked in these."""
    return [
        str(warning.within(str(artifact.identity)))
        for artifact in artifacts
        for warning in describe(artifact.load()).warnings
    ]


def _tell_problems(result: DryRun, told: int, output: Output) -> None:
    for problem in result.problems[told:]:
        output.problem(problem)
    for warning in result.warnings:
        output.warning(warning)
    for refused in result.refused:
        output.problem(f"engine {result.engine} refuses: {refused}")


def _tell(plan: LabelPlan, output: Output) -> None:
    named = [f"{each} (lost)" if each in plan.lost else each for each in plan.gateways]
    whom = ", ".join(named) or "no known gateway"
    output.line(f"{plan.label}, at revision {plan.revision}, on {whom}:")
    for word, identities in (("new", plan.new), ("changed", plan.changed)):
        for identity in identities[:NAMED]:
            output.line(f"  {word:<8} {identity}")
        if len(identities) > NAMED:
            output.line(f"  {word:<8} and {len(identities) - NAMED} more")
    if plan.unchanged:
        output.line(f"  {plan.unchanged} as they are")
