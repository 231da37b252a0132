"""The audit log over HTTP: every change and every wrong token is recorded, and operators read it.

The layer stands around everything else, the check of tokens included. It writes the entry before
the first byte of the answer goes out; what was asked, handlers have told it meanwhile.
"""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get
from litestar.datastructures import State
from litestar.params import FromQuery, QueryParameter

from gatesync.artifacts.changes import ChangeSet, Instruction
from gatesync.artifacts.errors import Problem
from gatesync.publisher.audit import (
    NOWHERE,
    AuditHead,
    Entry,
    Event,
    Found,
    Revisions,
    Touched,
    Who,
    parse_head,
)
from gatesync.publisher.audit_file import read_entries, verify_files
from gatesync.publisher.audit_log import AuditLog
from gatesync.publisher.requests import ChangeAnswer, ChangeRequest
from gatesync.publisher.tokens import Principal
from gatesync.web.app import ForbiddenError, NotFoundError
from gatesync.web.guard import Receive, Scope, Send

__all__ = [
    "AuditAnswer",
    "AuditLayer",
    "Draft",
    "draft_of",
    "get_audit",
    "get_audit_verification",
    "revisions_of",
    "shortened",
    "touched_by",
]

ARTIFACTS_MAX: Final = 20  # named in one entry; of more only the count is told
REASONS_MAX: Final = 5
TEXT_MAX: Final = 300
PAGE_MAX: Final = 1_000
KEY: Final = "gatesync.audit"
CHANGES: Final = {
    "/v1/changes": "change",
    "/v1/labels/confirm": "confirm",
    "/v1/keys/sign": "sign again",
}

_Ask = Request[Principal, Any, State]


class Draft:
    """What a handler tells of the change that it carries out."""

    def __init__(self, log: AuditLog | None = None, scope: Scope | None = None) -> None:
        self._log = log
        self._scope = scope or {}
        self.event = Event(time=0, verb=CHANGES.get(self._scope.get("path", ""), "ask"), outcome="")

    def asks(self, request: ChangeRequest, key: str) -> None:
        """Tell what is asked for, as its sender says it."""
        published = [_said(each.artifact) for each in request.publish[:ARTIFACTS_MAX]]
        removed = [Touched("remove", _text(each)) for each in request.remove[:ARTIFACTS_MAX]]
        verb = "publish" if request.publish else "remove"
        self._tell(
            verb="roll back" if request.rolls_back and request.publish else verb,
            labels=tuple(_text(each) for each in request.labels[:ARTIFACTS_MAX]),
            artifacts=(*published, *removed)[:ARTIFACTS_MAX],
            count=len(request.publish) + len(request.remove),
            sender=_text(request.sender),
            key=_text(key),
        )

    def confirms(self, label: str) -> None:
        """Tell that a label's history is to be confirmed."""
        self._tell(labels=(_text(label),))

    def signs(self, label: str, *, unsigned: bool) -> None:
        """Tell that what a label holds is to be signed anew."""
        detail = "with what nobody signed, on an operator's word" if unsigned else ""
        self._tell(labels=(_text(label),), detail=detail)

    async def begin(self) -> None:
        """Where the log is required: have it written before anything is changed.

        Raises:
            AuditError: that cannot be done, so the change must not be.
        """
        if self._log is not None and self._log.required:
            self._complete("asked", ())
            await self._log.demand(self.event)
            self._tell(outcome="")  # of the change itself, which comes now

    def done(self, answer: ChangeAnswer) -> None:
        """Tell what a change has become."""
        if answer.change_sets:
            self._tell(artifacts=touched_by(answer.change_sets))
        self._tell(revisions=revisions_of(answer.change_sets), reasons=shortened(answer.refused))
        if answer.repeated:
            self._tell(outcome="repeated")
        elif answer.refused and not answer.change_sets:
            self._tell(outcome="refused")

    def confirmed(self, label: str, epoch: str, revision: int) -> None:
        """Tell which history was confirmed."""
        self._tell(revisions=(Revisions(label, epoch, revision, revision, 1),))

    async def end(self, outcome: str, reasons: Iterable[str] = ()) -> None:
        """Write the entry."""
        if self._log is not None:
            self._complete(outcome, reasons)
            await self._log.record(self.event)

    def leave(self, outcome: str) -> None:
        """Write the entry, later, where nobody can wait any more."""
        if self._log is not None:
            self._complete(outcome, ())
            self._log.put(self.event)

    def _complete(self, outcome: str, reasons: Iterable[str]) -> None:
        assert self._log is not None
        user = self._scope.get("user")
        who = Who()
        if isinstance(user, Principal):
            who = Who(id=user.id, role=user.role.value, token=user.token_id)
        self._tell(time=self._log.now(), who=who, address=_address(self._scope), outcome=outcome)
        if said := shortened(reasons):
            self._tell(reasons=said)

    def _tell(self, **changes: Any) -> None:
        self.event = msgspec.structs.replace(self.event, **changes)


def draft_of(request: _Ask) -> Draft:
    """The entry of this request; one that nobody reads where there is no log."""
    draft = request.scope.get(KEY)
    return draft if isinstance(draft, Draft) else Draft()


class AuditLayer:
    """Around an application and its `Guard`: writes down changes and wrong tokens.

    Args:
        app: what it stands around.
        log: where to write.
    """

    def __init__(self, app: Any, log: AuditLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        changes = scope["method"] == "POST" and scope["path"] in CHANGES
        draft = scope[KEY] = Draft(self._log if changes else None, scope)
        held: dict[str, Any] = {}  # the start of an answer, until its reasons are known
        answered = False

        async def sending(message: dict[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and not answered:
                if changes or message["status"] == 401:
                    held.update(message)
                    return
            elif held:
                answered = True
                await self._record(scope, draft, held["status"], message.get("body", b""))
                start = dict(held)
                held.clear()
                await send(start)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if changes and not answered:
                draft.leave("unanswered")  # the process ends, or the client went away

    async def _record(self, scope: Scope, draft: Draft, status: int, body: bytes) -> None:
        user = scope.get("user")
        trusted = isinstance(user, Principal) and user.may_publish()
        if status == 429 or (status >= 400 and not trusted):  # nobody of them may fill the disk
            strange = scope["path"] in CHANGES or any(
                n == b"authorization" for n, _ in _headers(scope)
            )
            if not strange or not self._log.strangers.admits(_address(scope)):
                return
        if status < 400:
            await draft.end(draft.event.outcome or "done")
            return
        code, reasons = _problem(body)
        outcome = "unsure" if code == "unsure" else "failed" if status >= 500 else "refused"
        if status == 401:
            draft = Draft(self._log, scope)
            detail = f"{scope['method']} {_text(scope['path'])}"
            draft.event = msgspec.structs.replace(draft.event, detail=detail)
        await draft.end(outcome, reasons)


class AuditAnswer(msgspec.Struct, frozen=True):
    """Entries, oldest first, and where the log stands. Ask `before` the first for those before."""

    entries: tuple[Entry, ...]
    head: AuditHead


@get("/v1/audit")
async def get_audit(
    request: _Ask,
    since: Annotated[int, QueryParameter(ge=0, le=2**63 - 1)] = 0,
    who: FromQuery[str] = "",
    name: FromQuery[str] = "",
    before: Annotated[int, QueryParameter(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = 100,
) -> AuditAnswer:
    """Say who changed what, from where, and what came of it."""
    log = _log_of(request)
    entries = await asyncio.to_thread(
        read_entries, log.folder, since=since, who=who, name=name, before=before, limit=limit
    )
    return AuditAnswer(entries, log.head)


@get("/v1/audit/verification")
async def get_audit_verification(request: _Ask, head: FromQuery[str] = "") -> Found:
    """Check the whole log: against itself, what this process wrote last, and a head, if given."""
    log = _log_of(request)
    known = [log.head] if log.head != NOWHERE else []
    if head:
        try:
            known.append(parse_head(head))
        except ValueError as error:
            raise Problem(str(error), where="head") from None
    return await asyncio.to_thread(verify_files, log.folder, known)


def _log_of(request: _Ask) -> AuditLog:
    if not request.user.may_see_all():
        raise ForbiddenError("this token is for some labels only; the audit log is of all")
    log: AuditLog | None = request.app.state.audit
    if log is None:
        raise NotFoundError("this publisher keeps no audit log: [gatesync.publisher] audit is off")
    return log


def touched_by(change_sets: Iterable[ChangeSet]) -> tuple[Touched, ...]:
    """The artifacts that were changed, each once however many labels have it; the first ones."""
    found: dict[tuple[str, str], Touched] = {}
    for change_set in change_sets:
        for change in change_set.changes:
            e = change.entry
            what = "publish" if change.instruction is Instruction.PUBLISH else "remove"
            if len(found) < ARTIFACTS_MAX:
                found[what, e.api_id] = Touched(
                    what, e.api_id, e.tenant, e.kind, e.name, e.version, e.digest
                )
    return tuple(found.values())


def revisions_of(change_sets: Iterable[ChangeSet]) -> tuple[Revisions, ...]:
    """What a change became, label by label."""
    found: dict[str, Revisions] = {}
    for each in change_sets:
        known = found.get(each.label)
        first = min(each.revision, known.first) if known else each.revision
        last = max(each.revision, known.last) if known else each.revision
        count = known.count + 1 if known else 1
        found[each.label] = Revisions(each.label, each.epoch, first, last, count)
    return tuple(found.values())


def _said(artifact: dict[str, Any]) -> Touched:
    members = ("api_id", "tenant", "kind", "name", "version")
    return Touched("publish", *(_text(artifact.get(name, "")) for name in members))


def _problem(body: bytes) -> tuple[str, tuple[str, ...]]:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ()
    return problem.code, problem.reasons


class _Problem(msgspec.Struct):
    code: str = ""
    reasons: tuple[str, ...] = ()


def shortened(reasons: Iterable[str]) -> tuple[str, ...]:
    """The first of these reasons, none of them long, and how many more there are."""
    said = [_text(each) for each in reasons]
    more = len(said) - REASONS_MAX
    return (*said[:REASONS_MAX], f"and {more} more") if more > 0 else tuple(said)


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _headers(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return headers
