"""What a client asks a publisher to do, and its way to a `SaveRequest`.

Everything is checked here, before anything is stored: names, sizes, XML, digests. All faults of a
request are told at once.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import ChangeSet, Entry, Head
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.names import check_label, check_name
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.stores.wire import WIRE_FORMAT

__all__ = ["ChangeAnswer", "ChangeRequest", "PublishItem", "prepare", "publish_of"]

LABELS_MAX = 100  # labels that one request may name
ITEMS_MAX = 20_000  # artifacts that one request may name


class PublishItem(msgspec.Struct, frozen=True):
    """An artifact document (`artifacts.canonical`), and the digest that its sender found."""

    artifact: dict[str, Any]
    digest: str = ""


class ChangeRequest(msgspec.Struct, frozen=True):
    """Publish these artifacts to, and remove these api_ids from, each of the labels.

    Each artifact is a change set of its own, unless `atomic`. With `skip_invalid` what is
    refused is left out and told, and the rest goes on; otherwise it is all or nothing.
    """

    labels: tuple[str, ...]
    publish: tuple[PublishItem, ...] = ()
    remove: tuple[str, ...] = ()
    atomic: bool = False
    skip_invalid: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


class ChangeAnswer(msgspec.Struct, frozen=True):
    """What was done. `heads` are the labels' heads after it; `refused` what was left out.

    `repeated`: the idempotency key had been saved before, and nothing changed now.
    """

    change_sets: tuple[ChangeSet, ...]
    heads: tuple[Head, ...]
    refused: tuple[str, ...] = ()
    repeated: bool = False
    format: Literal["gatesync.http/1"] = WIRE_FORMAT


def prepare(
    request: ChangeRequest, key: str, published_at: int, publisher: str
) -> tuple[list[SaveRequest], list[Problem]]:
    """Check a request and turn it into what is saved; also answers with what was left out.

    Args:
        request: as it came.
        key: the idempotency key.
        published_at: milliseconds since 1970.
        publisher: who publishes, for the log.

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
    sets = (tuple(items),) if request.atomic else tuple((item,) for item in items)
    labels = tuple(dict.fromkeys(request.labels))

    def saving(number: int, chosen: tuple[tuple[Publish | Remove, ...], ...]) -> SaveRequest:
        return SaveRequest(
            labels=labels,
            sets=chosen,
            key=f"{key}/{number}" if request.skip_invalid else key,
            fingerprint=_fingerprint(labels, chosen),
            published_at=published_at,
            publisher=publisher,
        )

    if request.skip_invalid:  # each stands by itself, so that a conflict leaves out one only
        return [saving(number, (each,)) for number, each in enumerate(sets)], left_out
    return [saving(0, sets)], []


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
    identity = artifact.identity
    entry = Entry(
        api_id=artifact.api_id,
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context=description.context,
        digest=digest,
        size=len(content),
    )
    return Publish(entry, content, description.claims)


def _faults(request: ChangeRequest) -> list[Problem]:
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
