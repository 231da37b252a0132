"""What a client asks a publisher to do, and its way to a `SaveRequest`.

Everything is checked here, before anything is stored: names, sizes, XML, digests. All faults of a
request are told at once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import ChangeSet, Entry, Head
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.entries import entry_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.names import check_label, check_name
from gatesync.artifacts.planning import Claim, Publish, Reference, Remove, SaveRequest, Unmet
from gatesync.stores.store import Refused, SaveOutcome
from gatesync.stores.wire import WIRE_FORMAT

__all__ = [
    "ChangeAnswer",
    "ChangeRequest",
    "PlanItem",
    "PlanRequest",
    "PublishItem",
    "Stamp",
    "answer_of",
    "entry_of",
    "origin_of",
    "prepare",
    "prepare_plan",
    "publish_of",
]

LABELS_MAX = 100  # labels that one request may name
ITEMS_MAX = 20_000  # artifacts that one request may name
ORIGIN_MAX_BYTES = 255  # a column's


class PublishItem(msgspec.Struct, frozen=True):
    """An artifact document (`artifacts.canonical`), and the digest that its sender found."""

    artifact: dict[str, Any]
    digest: str = ""


class ChangeRequest(msgspec.Struct, frozen=True):
    """Publish these artifacts to, and remove these api_ids from, each of the labels.

    Each artifact is a change set of its own, unless `atomic`. With `skip_invalid` what is
    refused is left out and told, and the rest goes on; otherwise it is all or nothing. With
    either that or `force` a reference that leads nowhere is told and stands in nobody's way.

    `sender` is where the client says it runs, such as `alice@build-7`, for the history.
    `rolls_back` says that this is an earlier content, for the audit log.
    """

    labels: tuple[str, ...]
    publish: tuple[PublishItem, ...] = ()
    remove: tuple[str, ...] = ()
    atomic: bool = False
    skip_invalid: bool = False
    force: bool = False
    sender: str = ""
    rolls_back: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ChangeAnswer(msgspec.Struct, frozen=True):
    """What was done. `heads` are the labels' heads after it; `refused` what was left out.

    `repeated`: the idempotency key had been saved before, and nothing changed now. `warnings`
    are references that lead nowhere.
    """

    change_sets: tuple[ChangeSet, ...]
    heads: tuple[Head, ...]
    refused: tuple[str, ...] = ()
    repeated: bool = False
    warnings: tuple[Unmet, ...] = ()
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class PlanItem(msgspec.Struct, frozen=True):
    """An artifact without its bytes: what its sender found in it (`artifacts.description`)."""

    entry: Entry
    claims: tuple[Claim, ...]
    references: tuple[Reference, ...] = ()


class PlanRequest(msgspec.Struct, frozen=True):
    """A `ChangeRequest` that is only thought through. All artifacts of it fit one request."""

    labels: tuple[str, ...]
    publish: tuple[PlanItem, ...] = ()
    remove: tuple[str, ...] = ()
    atomic: bool = False
    skip_invalid: bool = False
    force: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class Stamp(msgspec.Struct, frozen=True):
    """Who asked, for the log, and for which tenants they may; see `SaveRequest`."""

    published_at: int = 0
    publisher: str = ""
    author: str = ""
    origin: str = ""
    tenants: tuple[str, ...] = ()


ANYBODY: Final = Stamp()  # who may do everything


def prepare(
    request: ChangeRequest, key: str, stamp: Stamp
) -> tuple[list[SaveRequest], list[Problem]]:
    """Check a request and turn it into what is saved; also answers with what was left out.

    Args:
        request: as it came.
        key: the idempotency key.
        stamp: who asked, when, and from where.

    Raises:
        ProblemsError: with every fault, unless faults are skipped and something is left.
    """
    problems = _faults(request)
    items: list[Publish | Remove] = [Remove(api_id) for api_id in request.remove]
    left_out: list[Problem] = []
    for each in request.publish[:ITEMS_MAX]:
        try:
            items.append(publish_of(each))
        except ProblemsError as error:
            left_out.extend(error.problems)
    if not request.skip_invalid or not items:
        problems += left_out
    if problems:
        raise ProblemsError(problems)
    return _requests(request, items, key, stamp), left_out


def prepare_plan(request: PlanRequest, stamp: Stamp = ANYBODY) -> list[SaveRequest]:
    """The requests that a publish of these artifacts would save, without their contents.

    Raises:
        ProblemsError: with every fault of the request itself.
    """
    if problems := _faults(request):
        raise ProblemsError(problems)
    items: list[Publish | Remove] = [Remove(api_id) for api_id in request.remove]
    items += [Publish(each.entry, b"", each.claims, each.references) for each in request.publish]
    return _requests(request, items, "", stamp)


def _requests(
    asked: ChangeRequest | PlanRequest, items: list[Publish | Remove], key: str, stamp: Stamp
) -> list[SaveRequest]:
    sets = (tuple(items),) if asked.atomic else tuple((item,) for item in items)
    labels = tuple(dict.fromkeys(asked.labels))

    def saving(number: int, chosen: tuple[tuple[Publish | Remove, ...], ...]) -> SaveRequest:
        return SaveRequest(
            labels=labels,
            sets=chosen,
            key=f"{key}/{number}" if asked.skip_invalid else key,
            fingerprint=_fingerprint(labels, chosen),
            force=asked.force or asked.skip_invalid,
            **msgspec.structs.asdict(stamp),
        )

    if asked.skip_invalid:  # each stands by itself, so that a conflict leaves out one only
        return [saving(number, (each,)) for number, each in enumerate(sets)]
    return [saving(0, sets)]


def answer_of(
    requests: Sequence[SaveRequest],
    results: Sequence[SaveOutcome | Refused],
    left_out: Iterable[Problem],
) -> ChangeAnswer:
    """What the results of one request's parts come to.

    Where each part stood by itself, one may have missed what a later one brought.
    """
    outcomes = [each for each in results if isinstance(each, SaveOutcome)]
    refused = [str(problem) for problem in left_out]
    brought: set[str] = set()
    for request, result in zip(requests, results, strict=True):
        if isinstance(result, Refused):
            refused += result.reasons
            continue
        published = (i for items in request.sets for i in items if isinstance(i, Publish))
        brought |= {claim.key for item in published for claim in item.claims}
    heads: dict[str, Head] = {}
    for outcome in outcomes:
        for head in outcome.heads:
            if head.label not in heads or heads[head.label].revision < head.revision:
                heads[head.label] = head
    return ChangeAnswer(
        change_sets=tuple(each for outcome in outcomes for each in outcome.change_sets),
        heads=tuple(heads.values()),
        refused=tuple(refused),
        repeated=bool(outcomes) and all(outcome.repeated for outcome in outcomes),
        warnings=tuple(
            each for outcome in outcomes for each in outcome.warnings if each.claim not in brought
        ),
    )


def origin_of(address: str, sender: str) -> str:
    """Where a request came from, for the history: what we saw, and what its sender says.

    Raises:
        Problem: what the sender says is no name.
    """
    if not sender:
        return address
    check_name(sender, "sender")
    said = f"{address} ({sender})"
    return said if len(said.encode()) <= ORIGIN_MAX_BYTES else address


def publish_of(item: PublishItem) -> Publish:
    """Check one artifact and bring it into canonical form.

    Raises:
        ProblemsError: with everything that is wrong with it.
    """
    try:
        artifact = canonical.decode(msgspec.json.encode(item.artifact))
        if not artifact.api_id:
            artifact = msgspec.structs.replace(artifact, api_id=artifact.identity.default_api_id())
        description = describe(artifact)
        content = canonical.encode(artifact)
    except (FormatError, UnicodeEncodeError) as error:
        raise ProblemsError([Problem(str(error))]) from None
    digest = digest_of(content)
    if item.digest and item.digest != digest:  # promise 8 begins here
        reason = f"its digest is {digest}, the request says {item.digest[:64]}"
        raise ProblemsError([Problem(reason, where=str(artifact.identity))])
    entry = entry_of(artifact, description.context, content)
    return Publish(entry, content, description.claims, description.references)


def _faults(request: ChangeRequest | PlanRequest) -> list[Problem]:
    problems: list[Problem] = []
    if not request.labels:
        problems.append(Problem("labels is empty; name at least one label"))
    if len(request.labels) > LABELS_MAX:
        problems.append(Problem(f"{len(request.labels)} labels; at most {LABELS_MAX} are allowed"))
    count = len(request.publish) + len(request.remove)
    if count == 0:
        problems.append(Problem("nothing to publish and nothing to remove"))
    if count > ITEMS_MAX:
        problems.append(Problem(f"{count} artifacts; at most {ITEMS_MAX} are allowed"))
    for label in request.labels[:LABELS_MAX]:
        try:
            check_label(label)
        except Problem as problem:
            problems.append(problem)
    for api_id in request.remove[:ITEMS_MAX]:
        try:
            check_name(api_id, "api_id")
        except Problem as problem:
            problems.append(problem)
    return problems


def _fingerprint(labels: Iterable[str], sets: Iterable[Iterable[Publish | Remove]]) -> str:
    asked = [
        [("publish", i.entry.digest) if isinstance(i, Publish) else ("remove", i.api_id) for i in s]
        for s in sets
    ]
    return hashlib.sha256(msgspec.json.encode([list(labels), asked])).hexdigest()
