"""What a node says of itself: built from the informer's state, sent by hub or by HTTP."""

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import structlog

from gatesync import __version__
from gatesync.artifacts.digests import set_digest
from gatesync.events.hub import HubError, TooLarge
from gatesync.events.messages import (
    ApplyException,
    Drift,
    Inventory,
    LabelInventory,
    LabelReport,
    NodeReport,
    Skipped,
    encode,
)
from gatesync.gateway.deployment import Failure
from gatesync.gateway.desired import Wanted
from gatesync.gateway.informer import Informer
from gatesync.gateway.pacing import Pace
from gatesync.gateway.staleness import StalenessRule, is_stale, readiness_of, unserved

__all__ = ["Reporter", "inventory_of"]

LISTED = 100  # exceptions and skips that travel in one report of a label
INVENTORIES = 8  # answers that wait to be delivered
GOODBYE_SECONDS = 1.0

_log = structlog.get_logger("gatesync.gateway")


class Reporter:
    """Sends reports: one after each change, and a full one each heartbeat (promise 9).

    While very many changes follow each other, one report may tell of several (`pacing`).

    Args:
        node: this node's id.
        engine: the engine's name.
        admin_url: where this node's admin HTTP is reached, for people.
        send: posts an encoded report to a publisher, for when no broker can carry it.
        staleness: how old the last proof of a label may be.
    """

    def __init__(
        self,
        node: str,
        engine: str,
        admin_url: str,
        send: Callable[[bytes], Awaitable[None]],
        *,
        heartbeat: float = 5.0,
        staleness: StalenessRule | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.informer: Informer
        self.failures = 0
        self._error = ""  # what keeps reports from being delivered
        self._node = node
        self._engine = engine
        self._admin_url = admin_url
        self._send = send
        self._heartbeat = heartbeat
        self._rule = staleness or StalenessRule()
        self._clock = clock
        self._started = clock()
        self._pace = Pace(self._started)
        self._incarnation = str(uuid.uuid4())
        self._sequence = 0
        self._waiting: set[str] = set()
        self._took: dict[str, int] = {}
        self._inventories: deque[Inventory] = deque(maxlen=INVENTORIES)
        self._due = asyncio.Event()
        self._retiring = False
        self._saying = False

    async def changed(self, labels: Collection[str], took_us: int) -> None:
        """Report these labels: now, where a broker takes it, or else when its turn comes.

        `took_us`: microseconds that the change took; in a report 0 stands for no change.
        """
        self._took.update(dict.fromkeys(labels, max(1, took_us)))
        self._waiting.update(labels)
        hub = self.informer.hub
        idle = not (self._due.is_set() or self._saying or self._retiring)
        if idle and hub is not None and hub.connected and self._pace.spares(self._clock()):
            await self._say()  # on the way of every change: no other task has a part in it
        else:
            self._due.set()

    def verified(self, inventory: Inventory) -> None:
        """Have the answer to a verification reported, with everything else."""
        self._inventories.append(inventory)
        self._report_soon(self.informer.logs)

    def renew(self) -> None:
        """Have publishers forget what was reported so far: this node follows fewer labels now."""
        self._retiring = True
        self._due.set()

    async def run(self) -> None:
        """Report until cancelled, and say goodbye then."""
        full = self._clock() + self._heartbeat  # whatever else is reported until then
        try:
            while True:
                quiet = False
                try:
                    async with asyncio.timeout(max(0.0, full - self._clock())):
                        await self._due.wait()
                except TimeoutError:
                    quiet = True
                if quiet or self._clock() >= full:
                    full = self._clock() + self._heartbeat
                    self._waiting.update(self.informer.logs)
                if (pause := self._pace.take(self._clock())) > 0:
                    await asyncio.sleep(pause)  # more may come meanwhile, and goes along
                self._due.clear()
                if self._retiring and await self._deliver(self._report((), None, leaving=True)):
                    self._retiring = False
                    self._incarnation, self._sequence = str(uuid.uuid4()), 0
                    self._waiting.update(self.informer.logs)
                await self._say()
        finally:
            with contextlib.suppress(TimeoutError):  # nobody is there to be told
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._deliver(self._report((), None, leaving=True))

    def _report_soon(self, labels: Collection[str]) -> None:
        self._waiting.update(labels)
        self._due.set()

    async def _say(self) -> None:
        """Send one report, or one for each inventory; what was not delivered is kept."""
        labels, self._waiting = self._waiting & self.informer.logs.keys(), set()
        self._saying = True
        try:
            await self._say_of(labels)
        finally:
            self._saying = False

    async def _say_of(self, labels: Collection[str]) -> None:
        while True:
            inventory = self._inventories[0] if self._inventories else None
            if not await self._deliver(self._report(labels, inventory)):
                return
            if inventory is not None and self._inventories[0] is inventory:
                self._inventories.popleft()
            if not self._inventories:
                return

    async def _deliver(self, report: NodeReport) -> bool:
        message = encode(report)
        hub = self.informer.hub
        try:
            if hub is None or not hub.connected:
                await self._send(message)
            else:
                try:
                    await hub.report(self._node, message)
                except TooLarge:  # very many labels with very much that failed
                    await self._send(message)
        except (HubError, OSError) as error:
            self.failures += 1
            if str(error) != self._error:  # told once, not at each heartbeat of an outage
                _log.warning("reports are not delivered", reason=str(error))
            self._error = str(error)
            return False  # the next heartbeat says it all again
        if self._error:
            _log.info("reports are delivered again")
            self._error = ""
        return True

    def _report(
        self, labels: Collection[str], inventory: Inventory | None, *, leaving: bool = False
    ) -> NodeReport:
        self._sequence += 1
        informer = self.informer
        ages = {label: self._age(label) for label in informer.logs}
        return NodeReport(
            node=self._node,
            incarnation=self._incarnation,
            sequence=self._sequence,
            version=__version__,
            engine=self._engine,
            admin_url=self._admin_url,
            uptime_ms=int((self._clock() - self._started) * 1000),
            labels=tuple([self._label(label) for label in labels]),
            leaving=leaving,
            verification=inventory,
            status=self._status(ages),
            mode=informer.mode,
        )

    def _status(self, ages: Mapping[str, float | None]) -> str:
        readiness = readiness_of(self.informer.ready, ages, self._rule)
        serving = self.informer.deployment.serving
        if readiness.ready and serving is not None and not serving.state().ready:
            readiness = unserved(serving.state().why)
        return readiness.status

    def _age(self, label: str) -> float | None:
        """Seconds since the label's last proof; None where there was none yet."""
        proof = self.informer.proofs.get(label)
        return None if proof is None else max(0.0, self._clock() - proof)

    def _label(self, label: str) -> LabelReport:
        log, deployment = self.informer.logs[label], self.informer.deployment
        age = self._age(label)
        failed = [each for each in deployment.failed.values() if each.wanted.label == label]
        # The newest travel: whoever waits for a change must hear of its failures.
        failed.sort(key=lambda each: each.wanted.entry.revision, reverse=True)
        skipped = [each for each in deployment.skipped.values() if each.label == label]
        aside: set[str] = set()
        if failed or skipped:
            aside = {each.wanted.entry.api_id for each in failed}
            aside.update(each.entry.api_id for each in skipped)
            # What is retained, or was removed a moment ago, is set aside and no longer an entry.
            aside &= log.entries.keys()
        return LabelReport(
            label=label,
            epoch=log.cursor.epoch if log.cursor else "",
            desired=log.cursor.revision if log.cursor else 0,
            applied=self.informer.processed_up_to(label),
            digest=log.digest,
            count_applied=len(log.entries) - len(aside),
            took_us=self._took.pop(label, 0),
            proof_age_ms=None if age is None else int(age * 1000),
            held=len(log.retained),
            exceptions=self._exceptions(failed[:LISTED]) if failed else (),
            skipped=tuple([Skipped(each.entry.api_id, each.reason) for each in skipped[:LISTED]]),
            failed=len(failed),
            stale=is_stale(age, self._rule.max_seconds),
            untrusted=self.informer.verifier.answers.get(label, ""),
        )

    def _exceptions(self, failed: Iterable[Failure]) -> tuple[ApplyException, ...]:
        now = self._clock()
        return tuple(
            ApplyException(
                api_id=each.wanted.entry.api_id,
                revision=each.wanted.entry.revision,
                digest=each.wanted.entry.digest,
                reason=each.reason,
                attempt=each.attempt,
                next_try_ms=max(0, int((each.next_try - now) * 1000)),
                artifact=str(each.wanted.entry.identity),
            )
            for each in failed
        )


async def inventory_of(informer: Informer, verification: str) -> Inventory:
    """Recompute what the engine holds, from its bytes, and set right what drifted.

    Where another label's entry is preferred, or an API does not fit this gateway's type, an
    artifact counts with the digest that its own label gives it: it is rightly not there. What was
    set aside is reported and left to its retry.
    """
    deployment = informer.deployment
    found = await deployment.inspect()
    labels: list[LabelInventory] = []
    drifted: set[str] = set()
    for label, log in informer.logs.items():
        held: dict[str, str] = {}
        drifts: list[Drift] = []
        for api_id, entry in log.entries.items():
            case = deployment.case(api_id)
            served = isinstance(case, Wanted) and case.label == label
            actual = found.get(api_id, "") if served else entry.digest
            if actual != entry.digest:  # it may have changed since it was hashed
                actual = deployment.held_digest(api_id)
            if actual:
                held[api_id] = actual
            if actual != entry.digest and api_id not in deployment.waiting:
                drifts.append(Drift(api_id, entry.digest, actual))
        labels.append(
            LabelInventory(
                label=label,
                epoch=log.cursor.epoch if log.cursor else "",
                revision=log.cursor.revision if log.cursor else 0,
                count=len(held),
                set_digest=set_digest(held),
                drifted=tuple(drifts),
            )
        )
        drifted.update(each.api_id for each in drifts if each.api_id not in deployment.failed)
    stray = found.keys() - deployment.applied.keys()
    if drifted or stray:
        _log.error("the engine does not hold what was deployed", drifted=len(drifted | stray))
        await informer.heal(drifted, stray)
    return Inventory(verification, tuple(labels))
