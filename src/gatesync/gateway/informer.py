"""The gateway's main loop: an informer.

    subscribe (events are buffered) → heads → list, or changes → fetch what is missing → settle
    an event that is the next one → settle;  anything else → pull
    no heartbeat for an interval → ask the store for heads

State changes in plain methods of `LabelLog` and `Deployment`; the tasks here carry questions
to the store and answers back. An event is a hint: every road from a lost, late or false one
leads to the store (promise 1).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.artifacts.changes import ChangeSet, Cursor, Head
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.signatures import Attestation, Trust, UntrustedError
from gatesync.events.hub import EventHub, Listener, Lost
from gatesync.events.messages import (
    ChangeAnnounced,
    HeadsAnnounced,
    contents_of,
    decode_announcement,
)
from gatesync.events.pushed import MadeOf
from gatesync.gateway.cache import Cache
from gatesync.gateway.deployer import Deployer
from gatesync.gateway.deployment import Deployment
from gatesync.gateway.desired import Loads, loads_all
from gatesync.gateway.lag import Lag
from gatesync.gateway.log import Decision, LabelLog
from gatesync.gateway.looking import look_elsewhere
from gatesync.gateway.pulling import REFUSED_SECONDS, Puller, UntrustedAnswerError
from gatesync.gateway.pulse import Pulse
from gatesync.gateway.receiving import Inbox
from gatesync.gateway.starting import Mode, StartUp
from gatesync.gateway.verifying import Verifier
from gatesync.gateway.waiting import wait_for
from gatesync.stores.store import Forbidden, Retriever, StoreError

__all__ = ["Informer", "Pulse"]

PENDING_EVENTS: Final = 64  # kept while a label is pulled; more, and it is pulled once more
TELL_SECONDS: Final = 0.5  # from a change to the log line that tells of all since the last one
TOLD_AT_ONCE: Final = 50  # changes in one line
VERIFIED_AT_ONCE: Final = 16  # heads, before other tasks have their turn: some 4 ms

_log = structlog.get_logger("gatesync.gateway")

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub | None]]


_Heard: TypeAlias = tuple[ChangeAnnounced, Attestation | None]
"""An event, verified, and what is kept of its signature."""


class _Pull(msgspec.Struct):
    """What is to be asked about one label, and what waits for the answer."""

    decision: Decision | None = None
    why: str = ""
    running: bool = False
    overflowed: bool = False
    events: deque[_Heard] = msgspec.field(default_factory=deque)
    poke: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Informer:
    """Keeps a `Deployment` in step with the store.

    Args:
        labels: this node's labels, the preferred first.
        retriever: where the truth is read.
        open_hub: opens the event hub, or None for a cluster without one; it may take its time.
        deployment: what is served.
        start: how this node starts, and how long it waits before it tries again.
        cache: what it keeps on its own disk; None for nothing.
        inbox: where events come in that publishers push; None where none can.
        verifier: what this node trusts; without one it asks for no signatures.
        loads: which tenants are loaded.
        forgive: told what an operator redeploys; None is everything.
        on_applied: called with the seconds from publish to applied, of changes that events brought.
        on_settled: called after each change of the deployment, with the label and the
            microseconds it took, to report it.
        heartbeat: seconds between publishers' heartbeats.
        lag_seconds: for how long the retriever may show an older state; 0 if it never does.
        clock: the monotonic clock.
        wall_clock: seconds since 1970.
        random: numbers from [0, 1).
    """

    def __init__(
        self,
        labels: Sequence[str],
        retriever: Retriever,
        open_hub: OpenHub,
        deployment: Deployment,
        *,
        on_settled: Callable[[Collection[str], int], Awaitable[None]],
        on_verification: Callable[[str], None],
        random: Iterator[float],
        heartbeat: float = 5.0,
        start: StartUp | None = None,
        cache: Cache | None = None,
        inbox: Inbox | None = None,
        verifier: Verifier | None = None,
        loads: Loads = loads_all,
        forgive: Callable[[Collection[str] | None], None] = lambda _: None,
        lag_seconds: float = 0.0,
        on_applied: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.logs = {label: LabelLog(label) for label in labels}
        self.proofs: dict[str, float] = {}
        self.pulse = Pulse()
        self.deployment = deployment
        self.hub: EventHub | None = None
        self.cache = cache
        self.verifier = verifier or Verifier()
        self._retriever = retriever
        self._open_hub = open_hub
        self._inbox = inbox
        self._on_verification = on_verification
        self._lag = Lag(lag_seconds, clock)
        self._random = random
        self._heartbeat = heartbeat
        self._start = start or StartUp()
        self._clock = clock
        self._pulls = {label: _Pull() for label in labels}
        self._wall_clock = wall_clock
        self._on_applied = on_applied
        self._under_way: deque[ChangeSet] = deque(maxlen=PENDING_EVENTS)
        self._applied: list[tuple[str, float]] = []  # and not told yet: which, and its age
        self._relabelled = asyncio.Event()
        self._has_news = False
        self._tasks: asyncio.TaskGroup
        self._loop: asyncio.AbstractEventLoop
        self._puller = Puller(
            retriever, self.verifier, self._lag, cache, self.pulse,
            on_read=self._prove, clock=clock,
        )  # fmt: skip
        self._deployer = Deployer(
            self.logs, deployment, retriever, cache, self._start, self.verifier,
            on_settled=on_settled, on_store_failed=self._store_failed, loads=loads,
            forgive=forgive, clock=clock, random=random,
        )  # fmt: skip

    @property
    def mode(self) -> Mode:
        """How this node starts."""
        return self._start.mode

    @property
    def ready(self) -> bool:
        """Whether the start is over: see `StartUp`."""
        return self._start.ready

    async def until_ready(self) -> None:
        """Wait until the start is over."""
        while not self.ready:
            await self._deployer.moved.wait()

    @property
    def processed(self) -> bool:
        """Whether every label was listed, and everything in those first lists was tried."""
        return self._deployer.processed

    @property
    def leaving(self) -> Collection[str]:
        """Labels that this node follows no more, and serves until the others were processed."""
        return self._deployer.leaving

    def processed_up_to(self, label: str) -> int:
        """The revision up to which each change of the label is applied, failed or skipped."""
        return self._deployer.processed_up_to(self.logs[label])

    def wait_for_turn(self, seconds: float) -> None:
        """Note that the publisher said to wait so long with a full pull: other nodes are first."""
        self.pulse.turns_waited += 1
        self.pulse.turn = max(self.pulse.turn, self._clock() + seconds)

    def look(self) -> None:
        """Ask the store for heads now, and not at the next beat: it says that it has news."""
        self._has_news = True
        self._deployer.alarm.set()

    async def run(self) -> None:
        """Follow the labels until cancelled."""
        self._loop = asyncio.get_running_loop()
        await self._deployer.remember()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._listen(), name="listen")
                if self._inbox is not None:
                    self._tasks.create_task(
                        self._hear_pushed(self._inbox), name="hear pushed events"
                    )
                self._tasks.create_task(self._deployer.fetch(), name="fetch")
                self._tasks.create_task(self._beat(), name="heartbeat")
                looking = look_elsewhere(self.logs, self._retriever, self._deployer, self._judge)
                self._tasks.create_task(looking, name="look elsewhere")
                for label in self.logs:
                    doubtful = label in self.verifier.doubted()
                    self._want(label, Decision.LIST if doubtful else Decision.PULL, "start")
        finally:
            self._tell()

    async def trust(self, trust: Trust | None) -> None:
        """Trust other keys from now on: what is known is judged anew, and serves meanwhile."""
        self.verifier.renew(trust)
        for label, pull in self._pulls.items():
            if pull.events:
                pull.events.clear()
                pull.overflowed = True
            if trust is not None:
                self._want(label, Decision.LIST, "keys")
                continue
            self.verifier.trust_nobody(self.logs[label])
            await self._deployer.settle(self.logs[label], {}, self._clock())

    async def heal(self, drifted: Collection[str], stray: Collection[str]) -> None:
        """Deploy again what the engine does not hold as it was, and evict what nobody wanted."""
        await self._deployer.heal(drifted, stray)

    async def redeploy(self, api_ids: Collection[str] | None) -> int:
        """Deploy these anew, or everything, though it seems to be there; answers with how many."""
        return await self._deployer.redeploy(api_ids)

    async def undeploy(self, api_ids: Collection[str]) -> int:
        """Undeploy these until a label changes them; answers with how many were to be served."""
        return await self._deployer.undeploy(api_ids)

    async def follow(self, labels: Sequence[str], loads: Loads) -> None:
        """Follow other labels, or load other tenants; what does not differ is left as it is."""
        before = set(self.logs)
        await self._deployer.follow(labels, loads)
        for label in before - self.logs.keys():
            self.proofs.pop(label, None)
            self.verifier.forget(label)
            pull = self._pulls.pop(label)
            pull.decision = None
            pull.poke.set()
        for label in self.logs.keys() - before:
            self._pulls[label] = _Pull()
            self._want(label, Decision.PULL, "labels")
        if before != self.logs.keys():
            self._relabelled.set()

    async def _listen(self) -> None:
        async with self._open_hub() as hub:
            self.hub = hub
            while hub is not None:
                self._relabelled.clear()
                async with hub.announcements(self.logs) as listener, asyncio.TaskGroup() as tasks:
                    for label in self.logs:  # what was sent before now was not heard
                        self._want(label, Decision.ASK, "start")
                    hearing = tasks.create_task(self._hear(listener), name="hear")
                    await self._relabelled.wait()
                    hearing.cancel()

    async def _hear(self, listener: Listener) -> None:
        while True:
            message = await listener.next()
            if isinstance(message, Lost):
                self.pulse.lost += 1
                _log.info("events may be missing", why=message.why)
                for label in self.logs:
                    self._want(label, Decision.ASK, "reconnect")
                continue
            with contextlib.suppress(FormatError):  # counted and logged
                await self._hear_message(message, "event")

    async def _hear_pushed(self, inbox: Inbox) -> None:
        while True:
            pushed = await inbox.next()
            self.pulse.pushed += 1
            try:
                pushed.made(await self._hear_message(pushed.message, "push"))
            except FormatError as error:
                pushed.refused(error)

    async def _hear_message(self, message: bytes, way: str) -> MadeOf:
        """Act on an event, whichever way it came.

        Raises:
            FormatError: it is none, or is not signed as it must be.
        """
        try:
            announcement = decode_announcement(message)
        except FormatError as error:
            self.pulse.refused_events += 1
            _log.warning("an event was refused", reason=str(error))
            raise
        self.pulse.events += 1
        if isinstance(announcement, HeadsAnnounced):
            return await self._hear_heads(announcement.heads, announcement.verification)
        change_set = announcement.change_set
        if change_set.label not in self.logs:
            return MadeOf.NOT_MINE
        try:
            return await self._hear_change(announcement)
        except UntrustedError as error:
            self.verifier.refuse(way, change_set.label, change_set.revision, error)
            raise FormatError(f"this node does not take it: {error}") from error

    async def _hear_change(self, announced: ChangeAnnounced) -> MadeOf:
        started = self._clock()
        change_set = announced.change_set
        log, pull = self.logs[change_set.label], self._pulls[change_set.label]
        decision = log.judge_change_set(change_set)
        if decision is Decision.OLD:
            return MadeOf.KNOWN  # promise 7
        attestation = self.verifier.change_set(change_set)  # promise 8: before anything moves
        self._lag.hear(log.label, change_set.head.cursor)
        if decision is Decision.TAKEN:
            log.take_change_set(change_set)
            self._prove(log, change_set.head, started)
            await self._take(log, announced, attestation)
            return MadeOf.TAKEN
        if pull.running:
            self._keep(pull, announced, attestation)
        else:
            self._want(log.label, decision, "event-gap")
        return MadeOf.ASKING

    async def _take(
        self, log: LabelLog, announced: ChangeAnnounced, attestation: Attestation | None
    ) -> None:
        """Deploy what an event brought, and note how long the way from the publisher was."""
        started, change_set = self._clock(), announced.change_set
        if attestation is not None:
            self.verifier.took(log.label, change_set.changes)
            if self.cache is not None:
                self.cache.attest(log.label, change_set.epoch, [attestation])
        self._under_way.append(change_set)
        await self._deployer.settle(log, self._contents(announced), started)
        while self._under_way and self._has_applied(self._under_way[0]):
            done = self._under_way.popleft()
            if not self._applied:  # the report goes out first, and whatever else is near
                self._loop.call_later(TELL_SECONDS, self._tell)
            age = self._wall_clock() - done.published_at / 1000
            self._applied.append((done.id, max(0.0, age)))

    def _tell(self) -> None:
        """Count and log what was applied a moment ago: a line for each would cost a third of it."""
        applied, self._applied = self._applied, []
        for _, seconds in applied:
            self._on_applied(seconds)
        for first in range(0, len(applied), TOLD_AT_ONCE):
            changes, ages = zip(*applied[first : first + TOLD_AT_ONCE], strict=True)
            _log.info("applied", changes=list(changes), ms=round(max(ages) * 1000, 1))

    def _has_applied(self, change_set: ChangeSet) -> bool:
        label = change_set.label
        return label not in self.logs or self.processed_up_to(label) >= change_set.revision

    async def _hear_heads(self, heads: Iterable[Head], verification: str) -> MadeOf:
        """Take a heartbeat. Only one that fits is a proof; nothing is removed on its word."""
        now, made, honest = self._clock(), MadeOf.NOT_MINE, self.verifier.trust is None
        for number, head in enumerate(heads, start=1):
            if number % VERIFIED_AT_ONCE == 0:
                await asyncio.sleep(0)
            log = self.logs.get(head.label)
            if log is None:
                continue
            if made is MadeOf.NOT_MINE:
                made = MadeOf.KNOWN
            if not self.verifier.believes(head, log):
                continue
            honest = True
            decision = log.offer_head(self.verifier.counted(head))
            if decision is Decision.TAKEN:
                self.pulse.heard = now
                self._lag.settle(log.label, head.cursor)
                self._in_step(log, head, now)
            elif decision is not Decision.OLD:
                self._lag.hear(log.label, head.cursor)
                self._want(log.label, decision, "heartbeat")
                made = MadeOf.ASKING
        if verification and honest:
            self._on_verification(verification)
        return made

    async def _beat(self) -> None:
        """Ask for heads when no heartbeat came, and retry what was set aside."""
        asked = looked = self._clock()
        while True:
            interval = self._heartbeat * (1.1 + 0.2 * next(self._random))
            due = max(asked, self._oldest_proof()) + interval
            retry = self.deployment.next_try()
            until = due if retry is None else min(due, retry)
            self._deployer.alarm.clear()
            await wait_for(self._deployer.alarm, 0.0 if self._has_news else until - self._clock())
            now = self._clock()
            if self._has_news or now >= max(asked, self._oldest_proof()) + interval:
                asked, self._has_news = now, False
                await self._ask(list(self.logs))
            if now >= looked + REFUSED_SECONDS:
                looked = now
                self._look_at_doubts()
            await self._deployer.settle(None, {}, now)

    def _look_at_doubts(self) -> None:
        """Ask again for the proofs of what is doubted, or did not reach the node's own disk."""
        unkept = self.cache.unattested() if self.cache is not None else ()
        for label in unkept:
            self.verifier.forget(label)
        for label in {*unkept, *self.verifier.doubted()} & self.logs.keys():
            self._want(label, Decision.LIST, "keys")

    def _oldest_proof(self) -> float:
        return min((self.proofs.get(label, float("-inf")) for label in self.logs), default=0.0)

    async def _ask(self, labels: Collection[str]) -> None:
        """Compare with what the store itself says, for several labels in one question."""
        known = {label: self.logs[label].cursor for label in labels}
        self.pulse.head_queries += 1
        try:
            heads = await self._retriever.heads(labels)
        except StoreError as error:
            self._store_failed(error)
            if isinstance(error, Forbidden) and len(labels) > 1:
                for label in labels:  # one that it may not read must not hide the others
                    self._want(label, Decision.ASK, "head-query")
            return
        self._store_answered()
        for number, label in enumerate(labels, start=1):
            if number % VERIFIED_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._judge(heads[label], known[label])

    def _judge(self, head: Head, known: Cursor | None) -> None:
        """Compare with what the store said, which was asked when `known` was the cursor."""
        log = self.logs.get(head.label)
        if log is None or self._lag.explains(head, known) or not self.verifier.believes(head):
            return
        decision = log.judge(self.verifier.counted(head), known)
        if decision is Decision.TAKEN:
            if not self._lag.hides(head):
                self._in_step(log, head, self._clock())
        elif decision is not Decision.OLD:
            self._want(head.label, decision, "head-query")

    def _prove(self, log: LabelLog, head: Head, at: float) -> bool:
        """What this node follows is what the label holds, somebody said at that time.

        Answers with whether it is the first word of the label, or the first that is recent.
        """
        label, deployer = log.label, self._deployer
        first = label not in deployer.heard
        deployer.heard.add(label)
        proof = self.verifier.proven_at(head, at)
        if proof is None:
            return first
        self.proofs[label] = max(proof, self.proofs.get(label, proof))
        if self.verifier.is_recent(head):
            first = first or label not in deployer.proven
            deployer.proven.add(label)
            self.verifier.answers.pop(label, None)
        return first

    def _in_step(self, log: LabelLog, head: Head, now: float) -> None:
        """A head is the one that this node has."""
        first = self._prove(log, head, now)
        if log.touched or first:  # a confirmation let retained removals go; or a start is over
            self._tasks.create_task(self._deployer.settle(log, {}, now))

    def _want(self, label: str, decision: Decision, why: str) -> None:
        """Have a label asked about, pulled or listed; one task a label does it."""
        pull = self._pulls.get(label)
        if pull is None:
            return  # it is followed no more
        order = [Decision.ASK, Decision.PULL, Decision.LIST]
        if pull.decision is None or order.index(decision) > order.index(pull.decision):
            pull.decision, pull.why = decision, why
        pull.poke.set()
        if not pull.running:
            pull.running = True
            self._tasks.create_task(self._pull(self.logs[label], pull), name=f"pull {label}")

    async def _pull(self, log: LabelLog, pull: _Pull) -> None:
        label, failures = log.label, 0
        while (decision := pull.decision) is not None:
            pull.decision = None
            pull.poke.clear()
            try:
                await self._carry_out(log, decision, pull.why)
                await self._replay(log, pull)
            except UntrustedAnswerError:  # counted, and told
                failures += 1
                await self._deployer.store_failed(label)
                self._want(label, decision, pull.why)
                pull.poke.clear()
                delay = self._start.delay(failures, next(self._random))
                await wait_for(pull.poke, min(delay, REFUSED_SECONDS))
            except StoreError as error:
                failures += 1
                self._store_failed(error, label=label)
                await self._deployer.store_failed(label)
                self._want(label, decision, pull.why)
                pull.poke.clear()
                await wait_for(pull.poke, self._start.delay(failures, next(self._random)))
            else:
                failures = 0
                self._start.answered(label)
                self._store_answered()
        pull.running = False

    async def _carry_out(self, log: LabelLog, decision: Decision, why: str) -> None:
        known, started = log.cursor, self._clock()
        if decision is not Decision.ASK:
            self.pulse.why[why] += 1
        if decision is Decision.ASK:
            self.pulse.head_queries += 1
            heads = await self._retriever.heads([log.label])
            self._judge(heads[log.label], known)
        elif decision is Decision.PULL and known is not None:
            decision = await self._puller.take_changes(log, known)
            if decision is Decision.TAKEN:
                await self._deployer.settle(log, {}, started)
            else:  # LIST; or the log moved on meanwhile, which is to be compared again
                again = Decision.LIST if decision is Decision.LIST else Decision.ASK
                self._want(log.label, again, "history" if decision is Decision.LIST else why)
        else:
            decision = await self._puller.take_list(log)
            if decision is Decision.TAKEN:
                await self._deployer.settle(log, {}, started)
            else:
                self._want(log.label, decision, "event-gap")

    async def _replay(self, log: LabelLog, pull: _Pull) -> None:
        """Offer what was heard while the label was pulled; what came before is old news now."""
        if pull.overflowed:
            pull.overflowed = False
            self._want(log.label, Decision.ASK, "event-gap")
        while pull.events:
            announced, attestation = pull.events.popleft()
            decision = log.offer_change_set(announced.change_set)
            if decision is Decision.TAKEN:
                await self._take(log, announced, attestation)
            elif decision is not Decision.OLD:
                self._want(log.label, decision, "event-gap")

    def _keep(
        self, pull: _Pull, announced: ChangeAnnounced, attestation: Attestation | None
    ) -> None:
        if len(pull.events) < PENDING_EVENTS:
            pull.events.append((announced, attestation))
        else:
            pull.events.clear()
            pull.overflowed = True

    def _contents(self, announced: ChangeAnnounced) -> Mapping[str, bytes]:
        try:
            contents = contents_of(announced)  # promise 8: only what matches its digest
        except FormatError as error:
            self.pulse.refused_events += 1
            _log.warning("an event's contents were refused", reason=str(error))
            return {}
        if contents.refused:
            self.pulse.refused_events += 1
            _log.warning("contents did not match their digest", digests=contents.refused)
        return contents

    def _store_failed(self, error: BaseException, **where: str) -> None:
        self.pulse.store_failures += 1
        if self.pulse.store_error != str(error):
            _log.warning("the store did not answer", reason=str(error), **where)
        self.pulse.store_error = str(error)

    def _store_answered(self) -> None:
        if not self.pulse.store_error:
            return
        _log.info("the store answers again")
        self.pulse.store_error = ""
        self._deployer.recovered()
        for pull in self._pulls.values():
            pull.poke.set()
