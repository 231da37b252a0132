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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec
import structlog

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.errors import FormatError
from gatesync.engines.engine import EngineError
from gatesync.events.hub import EventHub, Listener, Lost
from gatesync.events.messages import (
    ChangeAnnounced,
    HeadsAnnounced,
    contents_of,
    decode_announcement,
)
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment, Missing
from gatesync.gateway.lag import Lag
from gatesync.gateway.log import Decision, LabelLog
from gatesync.stores.batching import in_batches
from gatesync.stores.store import Behind, Forbidden, Retriever, StoreError, TooOld, read_manifest
from gatesync.stores.wire import BATCH_DIGESTS

__all__ = ["Informer", "Pulse"]

PENDING_EVENTS: Final = 64  # kept while a label is pulled; more, and it is pulled once more
FETCH_BYTES: Final = 8 * 1024 * 1024  # of contents in one batch
FETCHERS: Final = 3  # batches under way at once
REPORT_SECONDS: Final = 1.0  # between reports while a first list is being fetched

_log = structlog.get_logger("gatesync.gateway")

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub | None]]


class Pulse(msgspec.Struct):
    """Counts and times that status and metrics show. Times are on the monotonic clock."""

    events: int = 0
    refused_events: int = 0
    lost: int = 0
    pulls: int = 0
    lists: int = 0
    head_queries: int = 0
    store_failures: int = 0
    store_error: str = ""
    heard: float = float("-inf")


class _Pull(msgspec.Struct):
    """What is to be asked about one label, and what waits for the answer."""

    decision: Decision | None = None
    running: bool = False
    overflowed: bool = False
    events: deque[ChangeAnnounced] = msgspec.field(default_factory=deque)
    poke: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Informer:
    """Keeps a `Deployment` in step with the store.

    Args:
        labels: this node's labels, the preferred first.
        retriever: where the truth is read.
        open_hub: opens the event hub, or None for a cluster without one; it may take its time.
        deployment: what is served.
        on_settled: called after each change of the deployment, with the label and the
            microseconds it took, to report it.
        heartbeat: seconds between publishers' heartbeats.
        lag_seconds: for how long the retriever may show an older state; 0 if it never does.
        clock: the monotonic clock.
        random: numbers from [0, 1).
    """

    def __init__(
        self,
        labels: Sequence[str],
        retriever: Retriever,
        open_hub: OpenHub,
        deployment: Deployment,
        *,
        on_settled: Callable[[Collection[str], int], None],
        on_verification: Callable[[str], None],
        random: Iterator[float],
        heartbeat: float = 5.0,
        lag_seconds: float = 0.0,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.logs = {label: LabelLog(label) for label in labels}
        self.proofs: dict[str, float] = {}
        self.pulse = Pulse()
        self.deployment = deployment
        self.hub: EventHub | None = None
        self._retriever = retriever
        self._open_hub = open_hub
        self._on_settled = on_settled
        self._on_verification = on_verification
        self._lag = Lag(lag_seconds, clock)
        self._random = random
        self._heartbeat = heartbeat
        self._backoff = backoff or Backoff(cap=60.0)
        self._clock = clock
        self._pulls = {label: _Pull() for label in labels}
        self._settling = asyncio.Lock()
        self._settled: dict[str, Cursor] = {}  # up to where the deployment has followed
        self._processed = False
        self._missing = asyncio.Event()
        self._recovered = asyncio.Event()
        self._alarm = asyncio.Event()
        self._last_report = float("-inf")
        self._tasks: asyncio.TaskGroup

    @property
    def processed(self) -> bool:
        """Whether every label was listed, and everything in those first lists was tried.

        It stays so: a node that waits for the bytes of a later change serves all it did before.
        """
        return self._processed

    def processed_up_to(self, label: str) -> int:
        """The revision up to which each change of the label is applied, failed or skipped.

        What the engine is busy with is none of these (promise 9). 0 before the first list, and
        while another history is taken over.
        """
        cursor, settled = self.logs[label].cursor, self._settled.get(label)
        if cursor is None or settled is None or settled.epoch != cursor.epoch:
            return 0
        if settled.revision > cursor.revision:  # the log went back: a restored backup
            return 0
        return self.deployment.processed(label, settled.revision)

    async def run(self) -> None:
        """Follow the labels until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._listen(), name="listen")
            self._tasks.create_task(self._fetch_missing(), name="fetch")
            self._tasks.create_task(self._beat(), name="heartbeat")
            for label in self.logs:
                self._want(label, Decision.PULL)

    async def heal(self, drifted: Collection[str], stray: Collection[str]) -> None:
        """Deploy again what the engine does not hold as it was, and evict what nobody wanted."""
        async with self._settling:
            self.deployment.retry(drifted)
            try:
                await self.deployment.evict(stray)
            except EngineError as error:
                _log.warning("strays could not be evicted; verify again", reason=str(error))
        await self._settle(None, {}, self._clock())

    async def _listen(self) -> None:
        async with self._open_hub() as hub:
            self.hub = hub
            if hub is None:
                return
            async with hub.announcements(self.logs) as listener:
                for label in self.logs:  # what was sent before now was not heard
                    self._want(label, Decision.ASK)
                await self._hear(listener)

    async def _hear(self, listener: Listener) -> None:
        while True:
            message = await listener.next()
            if isinstance(message, Lost):
                self.pulse.lost += 1
                _log.info("events may be missing", why=message.why)
                for label in self.logs:
                    self._want(label, Decision.ASK)
                continue
            try:
                announcement = decode_announcement(message)
            except FormatError as error:
                self.pulse.refused_events += 1
                _log.warning("an event was refused", reason=str(error))
                continue
            self.pulse.events += 1
            if isinstance(announcement, HeadsAnnounced):
                self._hear_heads(announcement.heads, announcement.verification)
            elif announcement.change_set.label in self.logs:
                await self._hear_change(announcement)

    async def _hear_change(self, announced: ChangeAnnounced) -> None:
        started = self._clock()
        change_set = announced.change_set
        log, pull = self.logs[change_set.label], self._pulls[change_set.label]
        decision = log.offer_change_set(change_set)
        if decision is not Decision.OLD:
            self._lag.hear(log.label, change_set.head.cursor)
        if decision is Decision.TAKEN:
            self.proofs[log.label] = started
            await self._settle(log, self._contents(announced), started)
        elif decision is Decision.OLD:
            return  # promise 7
        elif pull.running:
            self._keep(pull, announced)
        else:
            self._want(log.label, decision)

    def _hear_heads(self, heads: Iterable[Head], verification: str) -> None:
        """Take a heartbeat. Only one that fits is a proof; nothing is removed on its word."""
        now = self._clock()
        for head in heads:
            log = self.logs.get(head.label)
            if log is None:
                continue
            decision = log.offer_head(head)
            if decision is Decision.TAKEN:
                self.pulse.heard = now
                self._lag.settle(log.label, head.cursor)
                self.proofs[log.label] = now
                if log.touched:  # a confirmation let retained removals go
                    self._tasks.create_task(self._settle(log, {}, now))
            elif decision is not Decision.OLD:
                self._lag.hear(log.label, head.cursor)
                self._want(log.label, decision)
        if verification:
            self._on_verification(verification)

    async def _beat(self) -> None:
        """Ask for heads when no heartbeat came, and retry what was set aside."""
        asked = self._clock()
        while True:
            interval = self._heartbeat * (1.1 + 0.2 * next(self._random))
            due = max(asked, self._oldest_proof()) + interval
            retry = self.deployment.next_try()
            until = due if retry is None else min(due, retry)
            self._alarm.clear()
            await _wait(self._alarm, until - self._clock())
            now = self._clock()
            if now >= max(asked, self._oldest_proof()) + interval:
                asked = now
                await self._ask(list(self.logs))
            await self._settle(None, {}, now)

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
                    self._want(label, Decision.ASK)
            return
        self._store_answered()
        for label in labels:
            self._judge(heads[label], known[label])

    def _judge(self, head: Head, known: Cursor | None) -> Decision:
        log = self.logs[head.label]
        if self._lag.explains(head, known):
            return Decision.OLD
        decision = log.judge(head, known)
        if decision is Decision.TAKEN:
            self._prove(head, self._clock())
            if log.touched:
                self._tasks.create_task(self._settle(log, {}, self._clock()))
        elif decision is not Decision.OLD:
            self._want(head.label, decision)
        return decision

    def _want(self, label: str, decision: Decision) -> None:
        """Have a label asked about, pulled or listed; one task a label does it."""
        pull = self._pulls[label]
        order = [Decision.ASK, Decision.PULL, Decision.LIST]
        if pull.decision is None or order.index(decision) > order.index(pull.decision):
            pull.decision = decision
        pull.poke.set()
        if not pull.running:
            pull.running = True
            self._tasks.create_task(self._pull(label), name=f"pull {label}")

    async def _pull(self, label: str) -> None:
        log, pull = self.logs[label], self._pulls[label]
        failures = 0
        while (decision := pull.decision) is not None:
            pull.decision = None
            pull.poke.clear()
            try:
                await self._carry_out(log, decision)
                await self._replay(log, pull)
            except StoreError as error:
                failures += 1
                self._store_failed(error, label=label)
                self._want(label, decision)
                pull.poke.clear()
                await _wait(pull.poke, self._backoff.delay(failures, next(self._random)))
            else:
                failures = 0
                self._store_answered()
        pull.running = False

    async def _carry_out(self, log: LabelLog, decision: Decision) -> None:
        known, started = log.cursor, self._clock()
        if decision is Decision.ASK:
            self.pulse.head_queries += 1
            heads = await self._retriever.heads([log.label])
            self._judge(heads[log.label], known)
        elif decision is Decision.PULL and known is not None:
            decision = await self._pull_changes(log, known)
            if decision is Decision.TAKEN:
                await self._settle(log, {}, started)
            else:  # LIST; or the log moved on meanwhile, which is to be compared again
                self._want(log.label, Decision.LIST if decision is Decision.LIST else Decision.ASK)
        else:
            await self._list(log, started)

    async def _pull_changes(self, log: LabelLog, known: Cursor) -> Decision:
        """Take the difference to the head."""
        self.pulse.pulls += 1
        asked = self._clock()
        try:
            delta = await self._retriever.changes(log.label, known)
        except TooOld:
            return Decision.LIST
        except Behind as behind:
            if self._lag.explains(behind.head, known):
                raise
            return log.judge(behind.head, known)
        decision = log.offer_delta(delta.since, delta.head, delta.changes)
        if decision is Decision.TAKEN:
            self._prove(delta.head, asked)
        return decision

    async def _list(self, log: LabelLog, started: float) -> None:
        """Take the whole list, with proof of whether it continues the history known here."""
        known, digest = log.cursor, log.digest
        self.pulse.lists += 1
        head, entries = await read_manifest(self._retriever, log.label)
        if known is not None and self._lag.explains(head, known):
            raise Behind(head, known)
        continues = known is None or await self._continues(head, known, digest)
        if log.cursor != known:  # events moved it meanwhile; the list may be older than they are
            self._want(log.label, Decision.ASK)
            return
        held = log.take_list(head, entries, continues=continues)
        self._prove(head, started)
        if not continues:
            _log.error(
                "another history: what it would remove is kept until it is confirmed",
                label=log.label, known=known, found=head.cursor, removals_held=held,
            )  # fmt: skip
        await self._settle(log, {}, started)

    def _prove(self, head: Head, at: float) -> None:
        """What the store shows is what this node follows, unless a publisher told of more."""
        if not self._lag.hides(head):
            self.proofs[head.label] = at

    async def _continues(self, head: Head, known: Cursor, digest: LabelDigest) -> bool:
        if head.epoch != known.epoch or head.revision < known.revision:
            return False
        return await self._retriever.digest_at(head.label, known) == digest

    async def _replay(self, log: LabelLog, pull: _Pull) -> None:
        """Offer what was heard while the label was pulled; what came before is old news now."""
        if pull.overflowed:
            pull.overflowed = False
            self._want(log.label, Decision.ASK)
        while pull.events:
            announced = pull.events.popleft()
            decision = log.offer_change_set(announced.change_set)
            if decision is Decision.TAKEN:
                await self._settle(log, self._contents(announced), self._clock())
            elif decision is not Decision.OLD:
                self._want(log.label, decision)

    def _keep(self, pull: _Pull, announced: ChangeAnnounced) -> None:
        if len(pull.events) < PENDING_EVENTS:
            pull.events.append(announced)
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

    async def _settle(
        self, log: LabelLog | None, contents: Mapping[str, bytes], started: float
    ) -> None:
        """Let the deployment follow, then report."""
        async with self._settling:
            cursor = None if log is None else log.cursor
            if log is not None:
                touched, log.touched = log.touched, set()
                for api_id in touched:
                    entry = log.entries.get(api_id)
                    self.deployment.put(log.label, api_id, entry, log.retained.get(api_id))
            changed = await self.deployment.settle(contents, self._clock(), self._random)
            if log is not None and cursor is not None:
                self._settled[log.label] = cursor
        if not self._processed:
            untried = self.deployment.waiting.keys() - self.deployment.failed.keys()
            self._processed = self._settled.keys() == self.logs.keys() and not untried
        if self.deployment.waiting:
            self._missing.set()
        if self.deployment.failed:
            self._alarm.set()
        now = self._clock()
        hurried = not self.deployment.waiting or now - self._last_report >= REPORT_SECONDS
        if (changed or log is not None) and hurried:
            self._last_report = now
            labels = self.logs if log is None else (log.label,)
            self._on_settled(labels, int((now - started) * 1e6))

    async def _fetch_missing(self) -> None:
        """Fetch contents that no event brought, a few batches at a time."""
        failures = 0
        while True:
            await self._missing.wait()
            self._missing.clear()
            batches = list(_batches(self.deployment.missing()))
            queue = iter(batches)
            try:
                async with asyncio.TaskGroup() as fetchers:
                    for _ in range(min(FETCHERS, len(batches))):
                        fetchers.create_task(self._fetch(queue))
            except* StoreError as errors:
                failures += 1
                self._store_failed(errors.exceptions[0])
            else:
                failures = 0
                continue
            self._missing.set()
            self._recovered.clear()
            await _wait(self._recovered, self._backoff.delay(failures, next(self._random)))

    async def _fetch(self, batches: Iterator[list[str]]) -> None:
        for digests in batches:
            started = self._clock()
            contents = await self._retriever.contents(digests)
            absent = [digest for digest in digests if digest not in contents]
            self.deployment.not_found(absent, self._clock(), self._random)
            await self._settle(None, contents, started)

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
        self._recovered.set()
        for pull in self._pulls.values():
            pull.poke.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()


def _batches(missing: Iterable[Missing]) -> Iterator[list[str]]:
    for batch in in_batches(missing, FETCH_BYTES, BATCH_DIGESTS):
        yield [each.digest for each in batch]
