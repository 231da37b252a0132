"""Lets a node's deployment follow its logs, and keeps what it serves on the node's own disk.

    a log moved → settle → what waits for its bytes → fetch: own disk first, then the store → settle
    start:        own disk → resume (at once; or when the store has answered, or gave no answer)

The informer says when a log moved and whether the store answers; everything that changes the
deployment goes through here, one at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec
import structlog

from gatesync.artifacts.changes import Cursor, Head
from gatesync.engines.engine import EngineError
from gatesync.gateway.cache import Cache
from gatesync.gateway.deployment import Deployment, Missing, rank_of
from gatesync.gateway.desired import Desired, Loads, Wanted
from gatesync.gateway.log import LabelLog
from gatesync.gateway.proving import judge_remembered
from gatesync.gateway.starting import StartUp
from gatesync.gateway.verifying import Verifier
from gatesync.gateway.waiting import wait_for
from gatesync.stores.batching import in_batches, in_shared_batches
from gatesync.stores.store import Retriever, StoreError, digests_at_once
from gatesync.stores.wire import BATCH_DIGESTS

__all__ = ["Deployer"]

FETCH_BYTES: Final = 8 * 1024 * 1024  # of contents in one batch
RESUMED_AT_ONCE: Final = 4_096  # artifacts in one swap, at most
FETCHERS: Final = 3  # batches under way at once
REPORT_SECONDS: Final = 1.0  # between reports while a first list is being fetched
CONTENTS: Final = "contents"  # what failed, where it is not a label

_log = structlog.get_logger("gatesync.gateway")


class _Served(msgspec.Struct, frozen=True):
    """What was applied when this node last wrote it down; in bytes."""

    size: int
    wanted: Wanted


class Deployer:
    """Keeps a `Deployment` in step with the logs.

    Args:
        logs: by label, the preferred first; the informer moves them.
        deployment: what is served.
        retriever: where contents are read that the cache does not have.
        cache: the node's own disk; None for a node without.
        start: how it starts.
        verifier: what the node trusts.
        on_settled: called after each change of the deployment, with the labels and the
            microseconds it took, to report it.
        on_store_failed: called with what a failed read of contents said.
        loads: which tenants are loaded.
        forgive: told what an operator redeploys, in whatever way it failed before; None is all.
        clock: the monotonic clock.
        random: numbers from [0, 1).

    Attributes:
        leaving: logs that the node follows no more, still served until the others were processed.
        heard: labels that the store or a publisher said something about, since the start.
        proven: those of them that were proved to be in step.
        processed: whether each first list was processed. It stays so: a node that waits for the
            bytes of a later change serves all it did before.
        moved: set, and made anew, at each change, and when the start may be over.
        alarm: set when something is to be tried again later.
        going: set while something waits for a look at the other labels before it is undeployed.
    """

    def __init__(
        self,
        logs: dict[str, LabelLog],
        deployment: Deployment,
        retriever: Retriever,
        cache: Cache | None,
        start: StartUp,
        verifier: Verifier,
        *,
        on_settled: Callable[[Collection[str], int], Awaitable[None]],
        on_store_failed: Callable[[BaseException], None],
        loads: Loads,
        forgive: Callable[[Collection[str] | None], None],
        clock: Callable[[], float],
        random: Iterator[float],
    ) -> None:
        self.leaving: dict[str, LabelLog] = {}
        self.heard: set[str] = set()
        self.proven: set[str] = set()
        self.processed = False
        self.moved = asyncio.Event()
        self.alarm = asyncio.Event()
        self.going = asyncio.Event()
        self._logs = logs
        self._deployment = deployment
        self._retriever = retriever
        self._cache = cache
        self._start = start
        self._verifier = verifier
        self._on_settled = on_settled
        self._on_store_failed = on_store_failed
        self._loads = loads
        self._forgive = forgive
        self._clock = clock
        self._random = random
        self._lock = asyncio.Lock()
        self._resumed = cache is None
        self._served_before: tuple[Wanted, ...] = ()
        self._pruned = False
        self._settled: dict[str, Cursor] = {}  # up to where the deployment has followed
        self._missing = asyncio.Event()
        self._recovered = asyncio.Event()
        self._last_report = float("-inf")
        self._fetch_failures = 0
        deployment.looks_elsewhere = len(logs) > 1

    def processed_up_to(self, log: LabelLog) -> int:
        """The revision up to which each change of the label is applied, failed or skipped.

        What the engine is busy with is none of these (promise 9). 0 before the first list, and
        while another history is taken over.
        """
        cursor, settled = log.cursor, self._settled.get(log.label)
        if cursor is None or settled is None or settled.epoch != cursor.epoch:
            return 0
        if settled.revision > cursor.revision:  # the log went back: a restored backup
            return 0
        return self._deployment.processed(log.label, settled.revision)

    def has_settled(self, head: Head) -> bool:
        """Whether the deployment has followed a label as far as this head, or cannot."""
        log, settled = self._logs.get(head.label), self._settled.get(head.label)
        if log is None or (log.cursor is not None and log.cursor.epoch != head.epoch):
            return True
        return settled is not None and settled.revision >= head.revision

    async def remember(self) -> None:
        """Take the logs over as this node knew them; serve them, if it is to start from its disk.

        To be called once, before anything else.
        """
        if self._cache is None:
            return
        if not self._start.ready:
            self._cache.hold()
        loaded = await self._cache.load(attested=self._verifier.trust is not None)
        remembered = await judge_remembered(self._verifier, loaded)
        loaded.attestations.clear()  # they are megabytes, and on the disk
        for label in loaded.labels.keys() - remembered.labels.keys() - self._logs.keys():
            self._cache.forget(label)
        if dropped := loaded.applied.keys() - remembered.applied.keys():
            self._cache.applied(self._deployment.applied, dropped, {})
        for label, log in remembered.labels.items():
            if label in self._logs:
                self._logs[label] = log
            else:  # the configuration was changed while this node was away
                self.leaving[label] = log
        # What came of a log that was damaged is served when the store has named it again.
        self._served_before = tuple(
            each for each in remembered.applied.values() if each.label in remembered.labels
        )
        self._desire()
        if self._start.from_cache:
            async with self._lock:
                await self._resume()
            await self.settle(None, {}, self._clock())

    async def settle(
        self, log: LabelLog | None, contents: Mapping[str, bytes], started: float
    ) -> None:
        """Let the deployment follow a log that moved, or bytes that came; then report."""
        async with self._lock:
            if log is not None:
                await self._resume()
                self._take(log)
            changed = await self._deployment.settle(contents, self._clock(), self._random)
            if log is not None and log.cursor is not None and self._is_known(log):
                self._settled[log.label] = log.cursor
            self._keep(contents)
            await self._look_around()
        now = self._clock()
        hurried = not self._deployment.waiting or now - self._last_report >= REPORT_SECONDS
        if (changed or log is not None) and hurried:
            self._last_report = now
            labels = self._logs if log is None else (log.label,)
            await self._on_settled(labels, int((now - started) * 1e6))

    async def heal(self, drifted: Collection[str], stray: Collection[str]) -> None:
        """Deploy again what the engine does not hold as it was, and evict what nobody wanted."""
        async with self._lock:
            self._deployment.retry(drifted)
            await self._evict(stray)
        await self.settle(None, {}, self._clock())

    async def redeploy(self, api_ids: Collection[str] | None) -> int:
        """Deploy these anew, or everything, though it seems to be there; answers with how many."""
        async with self._lock:
            known = {*self._deployment.applied, *self._deployment.failed}
            known |= self._deployment.withheld.keys()
            found = known if api_ids is None else known.intersection(api_ids)
            self._forgive(api_ids)
            self._deployment.retry(found)
        await self.settle(None, {}, self._clock())
        return len(found)

    async def undeploy(self, api_ids: Collection[str]) -> int:
        """Undeploy these until a label changes them; answers with how many were to be served."""
        async with self._lock:
            found = self._deployment.withhold(api_ids)
        await self.settle(None, {}, self._clock())
        return len(found)

    def about_to_go(self) -> set[str]:
        """What waits for a look at the other labels before it is undeployed."""
        return set(self._deployment.going)

    async def let_go(self, api_ids: Iterable[str]) -> None:
        """No other label has these: undeploy them."""
        self._deployment.let_go(api_ids)
        await self.settle(None, {}, self._clock())

    async def follow(self, labels: Iterable[str], loads: Loads) -> None:
        """Follow other labels, or load other tenants.

        What only a label has that is followed no more is served until the others were processed,
        so that an artifact which moves between two labels is served all the while.
        """
        async with self._lock:
            before = {**self.leaving, **self._logs}
            self._loads = loads
            self._logs.clear()
            for label in labels:
                self._logs[label] = before.pop(label) if label in before else LabelLog(label)
            self.leaving = {label: log for label, log in before.items() if log.cursor is not None}
            self._deployment.looks_elsewhere = len(self._logs) > 1
            self._desire()
        await self.settle(None, {}, self._clock())

    async def fetch(self) -> None:
        """Fetch contents that no event brought, until cancelled."""
        while True:
            await self._missing.wait()
            self._missing.clear()
            missing = self._deployment.missing()
            if not missing:
                continue
            # What others need comes first: an API is not deployed before its sequences.
            turn = [each for each in missing if each.rank == missing[0].rank]
            at_once = digests_at_once(self._retriever)
            batches = (
                in_shared_batches(turn, FETCH_BYTES, BATCH_DIGESTS)
                if at_once is None
                else in_batches(turn, FETCH_BYTES, at_once)
            )
            try:
                async with asyncio.TaskGroup() as fetchers:
                    for _ in range(min(FETCHERS, len(turn))):
                        fetchers.create_task(self._fetch(batches))
            except* StoreError as errors:
                self._fetch_failures += 1
                self._on_store_failed(errors.exceptions[0])
                await self.store_failed(CONTENTS)
            else:
                self._fetch_failures = 0
                self._start.answered(CONTENTS)
                continue
            self._missing.set()
            self._recovered.clear()
            delay = self._start.delay(self._fetch_failures, next(self._random))
            await wait_for(self._recovered, delay)

    def recovered(self) -> None:
        """The store answers again: fetch at once what is missing."""
        self._recovered.set()

    async def store_failed(self, what: str) -> None:
        """A label, or the contents, could not be read: a start does not wait for ever."""
        now = self._clock()
        self._start.failed(what, now)
        if self._start.gave_up_on(what, now) and not self._resumed:
            async with self._lock:
                await self._resume()
            await self.settle(None, {}, now)
        self._look_at_start()

    async def _fetch(self, batches: Iterator[list[Missing]]) -> None:
        for batch in batches:
            started = self._clock()
            absent = [each.digest for each in batch]
            if self._cache is not None and (kept := await self._cache.contents(absent)):
                await self.settle(None, kept, started)
                absent = [digest for digest in absent if digest not in kept]
            if absent:
                contents = await self._retriever.contents(absent)
                absent = [digest for digest in absent if digest not in contents]
                self._deployment.not_found(absent, self._clock(), self._random)
                await self.settle(None, contents, started)

    async def _resume(self) -> None:
        """Serve what was served before the restart (promise 10), and go on from there, once."""
        if self._resumed or self._cache is None:
            return
        self._resumed = True
        served = [_Served(each.entry.size, each) for each in self._served_before]
        served.sort(key=lambda each: rank_of(each.wanted.entry))
        self._served_before = ()
        for batch in in_batches(served, FETCH_BYTES, RESUMED_AT_ONCE):
            wanted = [each.wanted for each in batch]
            contents = await self._cache.contents([each.entry.digest for each in wanted])
            await self._deployment.resume(wanted, contents, self._clock(), self._random)
        self._desire()
        for log in (*self._logs.values(), *self.leaving.values()):
            touched, log.touched = log.touched, set()
            if log.cursor is not None:  # else what lies there has contents that may still be right
                self._cache.follow(log, touched)
                self._settled[log.label] = log.cursor
        if served:
            count = len(self._deployment.applied)
            _log.info("what was served before is served again", artifacts=count)

    def _take(self, log: LabelLog) -> None:
        """Tell the deployment, and the disk, what a log says of each artifact that it touched."""
        touched, log.touched = log.touched, set()
        if not self._is_known(log):
            return
        for api_id in touched:
            entry = log.entries.get(api_id)
            self._deployment.put(log.label, api_id, entry, log.retained.get(api_id))
        if self._cache is not None:
            self._cache.follow(log, touched)

    def _is_known(self, log: LabelLog) -> bool:
        """Whether it is a log of this node's still: its labels may have changed meanwhile."""
        return self._logs.get(log.label) is log or self.leaving.get(log.label) is log

    def _keep(self, contents: Mapping[str, bytes]) -> None:
        """Note for the disk what the engine took and gave up."""
        changed, self._deployment.changed = self._deployment.changed, set()
        if self._cache is not None and changed:
            self._cache.applied(self._deployment.applied, changed, contents)

    async def _look_around(self) -> None:
        """Whatever a change may have brought to an end."""
        deployment = self._deployment
        self._look_at_start()
        listed = self._settled.keys() >= self._logs.keys()
        if self.leaving and listed and not self._untried():
            _log.info("labels that are followed no more were let go", labels=list(self.leaving))
            if self._cache is not None:
                for label in self.leaving:
                    self._cache.forget(label)
            for label in self.leaving:
                self._settled.pop(label, None)
            self.leaving = {}
            self._desire()
            await deployment.settle({}, self._clock(), self._random)
            self._keep({})
        if self.processed and not self._pruned and self.proven >= self._logs.keys():
            self._pruned = True  # what an earlier process left, and no label has (promise 6)
            await self._evict(deployment.strays())
        if deployment.serving is not None and (self.processed or self._start.ready):
            proven = self.processed and self.proven >= self._logs.keys()
            await deployment.serving.started(proven=proven)
        if deployment.waiting:
            self._missing.set()
        if deployment.failed:
            self.alarm.set()
        if deployment.going:
            self.going.set()

    def _look_at_start(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()
        if self.processed and self._start.ready:
            return
        now, untried = self._clock(), self._untried()
        unread = {each for each in self._logs if each not in self._settled}
        if not self._start.from_cache:
            unread |= self._logs.keys() - self.heard
        if untried:
            unread.add(CONTENTS)
        self.processed = self.processed or not unread
        failed = self._deployment.failed.values()
        if self._start.look(unread, (each.attempt for each in failed), now):
            if self._cache is not None:
                self._cache.release()
            if unread or failed:
                _log.warning(
                    "started without everything; what is missing is tried on",
                    unread=sorted(unread),
                    undeployed=len({*self._deployment.failed, *self._deployment.waiting}),
                )
            else:
                _log.info("started", artifacts=len(self._deployment.applied))

    def _untried(self) -> bool:
        failed = self._deployment.failed  # of very many that wait the first one tells
        return any(each not in failed for each in self._deployment.waiting)

    def _desire(self) -> None:
        """Decide anew by the labels and tenants of now."""
        labels = (*self._logs, *self.leaving)
        desired = Desired(labels, self._loads, self._verifier.why_not)
        for log in (*self._logs.values(), *self.leaving.values()):
            if not self._resumed:
                break  # what this node remembers is not acted on yet
            for api_id, entry in log.entries.items():
                desired.put(log.label, api_id, entry)
            for api_id, entry in log.retained.items():
                desired.put(log.label, api_id, entry, retained=True)
        self._deployment.decide_by(desired)

    async def _evict(self, stray: Collection[str]) -> None:
        try:
            await self._deployment.evict(stray)
        except EngineError as error:
            _log.warning("strays could not be evicted; verify again", reason=str(error))
