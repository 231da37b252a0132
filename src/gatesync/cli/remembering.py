"""history and diff: what the log remembers of an artifact."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry, Instruction
from gatesync.artifacts.comparing import compare
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError, ProblemsError
from gatesync.artifacts.model import Artifact
from gatesync.cli.naming import NameFilter, ambiguous
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.publisher.answers import HistoryAnswer
from gatesync.stores.store import History, LoggedChange
from gatesync.web.client import AnsweredError, HttpClient

__all__ = [
    "Remembered",
    "fetch_content",
    "find_history",
    "said_when",
    "show_diff",
    "show_history",
    "state_at",
]


class Remembered(msgspec.Struct, frozen=True):
    """One artifact's history in one label: the newest change first, at least one.

    Of what happened up to revision `floor` of the label, only the last state is there.
    """

    label: str
    floor: int
    changes: tuple[LoggedChange, ...]

    @property
    def held(self) -> Entry | None:
        """What the label holds now."""
        newest = self.changes[0].change
        return newest.entry if newest.instruction is Instruction.PUBLISH else None


def show_history(target: Target, which: NameFilter, label: str | None, output: Output) -> int:
    """Say who changed an artifact, when and from where; in one label or all."""

    async def work(client: HttpClient) -> list[Remembered]:
        return await _find(client, which, label)

    found = call(target, work)
    output.document(found)
    rows = [
        (
            each.label,
            change.change.entry.revision,
            said_when(change.published_at),
            _what(each.changes, number),
            change.author or "-",
            change.origin or "-",
            change.change.entry.digest[:12],
        )
        for each in found
        for number, change in enumerate(each.changes)
    ]
    output.line(str(found[0].changes[0].change.entry.identity))
    output.table(("LABEL", "REVISION", "WHEN", "WHAT", "WHO", "FROM", "DIGEST"), rows)
    for each in found:
        if each.floor:
            output.line(f"{each.label}: what happened before revision {each.floor} is forgotten")
    return 0


def show_diff(
    target: Target,
    which: NameFilter,
    label: str | None,
    output: Output,
    *,
    since: int | None,
    to: int | None,
    whitespace: bool,
) -> int:
    """Show what changed up to revision `to`, or now: since `since`, or by the last change."""

    async def work(client: HttpClient) -> tuple[str, str, str]:
        history = await find_history(client, which, label)
        new = _at(history, to)
        old = _at(history, since) if since is not None else _before(history, new)
        titles = [_title(history, each) for each in (old, new)]
        artifacts = [await _artifact_at(client, each) for each in (old, new)]
        difference = compare(
            *artifacts, old_title=titles[0], new_title=titles[1], whitespace=whitespace
        )
        return titles[0], titles[1], difference

    old, new, difference = call(target, work)
    output.document({"old": old, "new": new, "diff": difference})
    output.line(difference or f"no difference between {old} and {new}")
    return 0


async def find_history(client: HttpClient, which: NameFilter, label: str | None) -> Remembered:
    """The one artifact that is named, in the label; in the only one that ever held it.

    Raises `CommandError` where nobody has the name, or several have, or several labels.
    """
    found = await _find(client, which, label)
    if len(found) > 1:
        labels = ", ".join(repr(each.label) for each in found)
        raise CommandError(EXIT_WRONG, f"{which.name} is in several labels, {labels}: add --label")
    return found[0]


async def fetch_content(client: HttpClient, entry: Entry) -> Artifact:
    """The artifact that this entry names, its bytes verified.

    Raises `CommandError` where the store no longer has them, or has others.
    """
    digest = entry.digest
    try:
        content = (await client.request("GET", f"/v1/contents/{digest}")).body
    except AnsweredError as error:
        if error.status != 404:
            raise
        reason = f"the content of revision {entry.revision} is older than what is kept"
        raise CommandError(EXIT_WRONG, reason) from None
    if digest_of(content) != digest:  # promise 8
        raise CommandError(EXIT_UNREACHABLE, f"the publisher gave other bytes than {digest}")
    try:
        return canonical.decode(content)
    except (FormatError, ProblemsError) as error:
        raise CommandError(EXIT_WRONG, str(error)) from None


def state_at(history: Remembered, to: int | None) -> LoggedChange:
    """The publish whose content a rollback brings back.

    Args:
        history: the artifact's.
        to: what the label held at this revision; None: what it held before it came to hold
            what it holds now.

    Raises:
        CommandError: it held nothing then, or nobody remembers.
    """
    if to is not None:
        logged = _at(history, to)
    elif (held := history.held) is None:
        logged = history.changes[1] if len(history.changes) > 1 else None
    else:
        older = (each for each in history.changes if each.change.entry.digest != held.digest)
        logged = next(older, None)
    if logged is None or logged.change.instruction is Instruction.REMOVE:
        when = f"at revision {to}" if to is not None else "before"
        reason = f"label {history.label!r} did not hold it {when}"
        if to is not None and to < history.floor:
            reason = f"label {history.label!r} remembers nothing before revision {history.floor}"
        raise CommandError(EXIT_WRONG, f"{reason}; 'gatesync history' shows what there is")
    return logged


def said_when(milliseconds: int) -> str:
    """A time for people: UTC, to the second."""
    if not milliseconds:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


async def _find(client: HttpClient, which: NameFilter, label: str | None) -> list[Remembered]:
    answer = await client.get("/v1/history", HistoryAnswer, [("name", which.name)])
    history: History = answer.history
    identities = {
        each.change.entry.identity for each in history.changes if which.fits(each.change.entry)
    }
    if not identities:
        reason = f"no label holds or held an artifact named {which.name!r}"
        raise CommandError(EXIT_WRONG, reason)
    if len(identities) > 1:
        raise ambiguous(which, [str(identity) for identity in sorted(identities)])
    # Under another api_id, which does not fit NAME, it is still the same artifact.
    [identity] = identities
    mine = [each for each in history.changes if each.change.entry.identity == identity]
    labels = list(dict.fromkeys(each.label for each in mine))
    if label is not None and label not in labels:
        there = ", ".join(repr(each) for each in labels)
        raise CommandError(
            EXIT_WRONG, f"{which.name} never was in label {label!r}; it was in {there}"
        )
    return [
        Remembered(each, history.floors[each], tuple(c for c in mine if c.label == each))
        for each in ([label] if label is not None else labels)
    ]


def _at(history: Remembered, revision: int | None) -> LoggedChange | None:
    """The change that made what the label held at a revision; None: there was none yet."""
    for each in history.changes:
        if revision is None or each.change.entry.revision <= revision:
            return each
    return None


def _before(history: Remembered, logged: LoggedChange | None) -> LoggedChange | None:
    if logged is None:
        return None
    return _at(history, logged.change.entry.revision - 1)


async def _artifact_at(client: HttpClient, logged: LoggedChange | None) -> Artifact | None:
    if logged is None or logged.change.instruction is Instruction.REMOVE:
        return None
    return await fetch_content(client, logged.change.entry)


def _title(history: Remembered, logged: LoggedChange | None) -> str:
    if logged is None:
        return "before it was published"
    said = f"{history.label}, revision {logged.change.entry.revision}"
    who = f" by {logged.author}" if logged.author else ""
    return f"{said}, {said_when(logged.published_at)}{who}"


def _what(changes: Sequence[LoggedChange], number: int) -> str:
    """What a change was, seen from those before it."""
    change = changes[number].change
    older = changes[number + 1 :]
    if change.instruction is Instruction.REMOVE:
        return "removed"
    for each in older:
        if each.change.entry.digest == change.entry.digest:
            return f"published as at {each.change.entry.revision}"
    return "changed" if older else "published"
