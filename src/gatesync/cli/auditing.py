"""audit: who changed what, from where, and whether the log still says what was written.

Also how commands that change something on this machine write it down.
"""

import datetime
import os
import pwd
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError, Target, call
from gatesync.config import Settings
from gatesync.config.settings import AuditMode
from gatesync.publisher.audit import AuditHead, Entry, Event, Found, Touched, Who, parse_head
from gatesync.publisher.audit_file import AuditError, AuditFile, read_entries, verify_files
from gatesync.publisher.audit_http import PAGE_MAX, AuditAnswer
from gatesync.web.client import HttpClient

__all__ = ["Asked", "Recording", "local_who", "parse_since", "recorded", "show_audit", "verify_log"]

_T = TypeVar("_T")
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}


class Asked(msgspec.Struct, frozen=True):
    """Which entries: the newest `last` since `since` (milliseconds), of whom, about what."""

    since: int = 0
    who: str = ""
    name: str = ""
    last: int = 100


def show_audit(where: Target | Path, asked: Asked, output: Output) -> int:
    """Print entries, oldest first, from a publisher or from its data folder."""
    entries = _local(where, asked) if isinstance(where, Path) else _remote(where, asked)
    output.document([msgspec.to_builtins(each) for each in entries])
    if not entries:
        output.line("the audit log has no such entry")
        return 0
    rows = [
        (each.sequence, _when(each.time), _who(each.who), _from(each), each.verb, _what(each),
         _outcome(each))
        for each in entries
    ]  # fmt: skip
    columns = ("ENTRY", "WHEN", "WHO", "FROM", "DID", "WHAT", "OUTCOME")
    output.table(columns, [[_printable(str(cell)) for cell in row] for row in rows])
    return 0


def verify_log(where: Target | Path, head: str, output: Output) -> int:
    """Check the chain, and that a head which was kept elsewhere is in it; 1 where it is not."""
    try:
        known: list[AuditHead] = [parse_head(head)] if head else []
    except ValueError as error:
        raise CommandError(EXIT_WRONG, f"--head {error}") from None
    if isinstance(where, Path):
        _check_folder(where)
        found = _reading(lambda: verify_files(where, known))
    else:

        async def work(client: HttpClient) -> Found:
            params = [("head", head)] if head else []
            return await client.get("/v1/audit/verification", Found, params)

        found = call(where, work)
    output.document(found)
    for place in found.mended:
        output.line(f"{place}: a writer was killed within this line; the next entry says so")
    if found.first > 1:
        output.line(f"entries before {found.first} are not here")
    if found.fault:
        output.problem(f"the audit log does not fit: {found.fault}")
        return EXIT_NO
    output.line(f"{found.entries} entries fit; the last one is {found.head}")
    return 0


def parse_since(text: str) -> int:
    """Read `2h`, `30m`, `7d`, or a date and time (UTC): milliseconds since 1970."""
    if match := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return int((time.time() - int(match[1]) * _UNITS[match[2]]) * 1000)
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        reason = f"--since {text!r} is not understood; write 30m, 2h, 7d or 2026-11-22T15:00"
        raise CommandError(EXIT_WRONG, reason) from None
    return int((when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


class Recording:
    """What a command says of the change that it makes."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def tell(self, **changes: Any) -> None:
        """Add to the entry, by its members' names."""
        self.event = msgspec.structs.replace(self.event, **changes)


@contextmanager
def recorded(settings: Settings, output: Output, verb: str, detail: str) -> Iterator[Recording]:
    """Write down a change that is made on this machine, with what becomes of it.

    Raises `CommandError` before the change, where the log is required and cannot be written.
    """
    event = Event(time=_now(), who=local_who(), verb=verb, detail=detail, outcome="asked")
    recording = Recording(event)
    mode, file = settings.publisher.audit, AuditFile(settings.data)
    if mode is AuditMode.OFF:
        yield recording
        return
    if mode is AuditMode.REQUIRED:
        try:
            file.append([event])
        except AuditError as error:
            reason = "nothing was changed, since [gatesync.publisher] audit is required"
            raise CommandError(EXIT_UNREACHABLE, str(error), reason) from None
    try:
        yield recording
    except BaseException as error:
        reasons = (f"{error}"[:300],) if isinstance(error, Exception) else ("interrupted",)
        recording.tell(outcome="failed", reasons=reasons)
        raise
    else:
        if recording.event.outcome == "asked":
            recording.tell(outcome="done")
    finally:
        try:
            file.append([msgspec.structs.replace(recording.event, time=_now())])
            file.sync()
        except AuditError as error:
            output.warning(f"this was done without an entry in the audit log: {error}")


def local_who() -> Who:
    """The account that this process runs as; with sudo, who called it, too."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        name = f"uid {os.getuid()}"
    caller = os.environ.get("SUDO_USER", "")
    return Who(user=f"{name} (sudo of {caller[:100]})" if caller else name)


def _local(folder: Path, asked: Asked) -> tuple[Entry, ...]:
    _check_folder(folder)
    return _reading(
        lambda: read_entries(
            folder, since=asked.since, who=asked.who, name=asked.name, limit=asked.last
        )
    )


def _remote(target: Target, asked: Asked) -> tuple[Entry, ...]:
    async def work(client: HttpClient) -> tuple[Entry, ...]:
        found: tuple[Entry, ...] = ()
        while len(found) < asked.last:
            limit = min(PAGE_MAX, asked.last - len(found))
            before = found[0].sequence if found else 0
            params = [
                ("since", str(asked.since)), ("who", asked.who), ("name", asked.name),
                ("before", str(before)), ("limit", str(limit)),
            ]  # fmt: skip
            page = (await client.get("/v1/audit", AuditAnswer, params)).entries
            found = (*page, *found)
            if len(page) < limit:
                break
        return found

    return call(target, work)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CommandError(EXIT_WRONG, f"{folder} is not there; name a publisher's data folder")


def _reading(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except AuditError as error:
        raise CommandError(EXIT_UNREACHABLE, str(error)) from None


def _now() -> int:
    return int(time.time() * 1000)


def _when(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))


def _who(who: Who) -> str:
    if who.user:
        return f"{who.user} (here)"
    return who.id or "a stranger"


def _from(entry: Entry) -> str:
    return f"{entry.address} ({entry.sender})" if entry.sender else entry.address


def _what(entry: Entry) -> str:
    named = [_named(each) for each in entry.artifacts[:3]]
    more = max(entry.count, len(entry.artifacts)) - len(named)
    what = ", ".join(named) + (f" and {more} more" if more > 0 and named else "")
    where = ", ".join(entry.labels[:3]) + (", ..." if len(entry.labels) > 3 else "")
    said = f"{what} in {where}" if what and where else what or where
    return " ".join(each for each in (said, entry.detail) if each)


def _named(each: Touched) -> str:
    return " ".join(p for p in (each.kind, each.name, each.version) if p) or each.api_id


def _outcome(entry: Entry) -> str:
    revisions = ", ".join(
        f"{r.first}" if r.first == r.last else f"{r.first} to {r.last}" for r in entry.revisions
    )
    said = f"{entry.outcome}, revision {revisions}" if revisions else entry.outcome
    return f"{said}: {'; '.join(entry.reasons)}" if entry.reasons else said


def _printable(text: str) -> str:
    """A name that a stranger chose must not move the cursor of who reads this."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
