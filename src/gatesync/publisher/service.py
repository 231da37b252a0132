"""The control plane: publish → store → event, and reports in."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.artifacts.changes import Confirmation, Cursor
from gatesync.artifacts.digests import set_digest
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.planning import Item, SaveRequest
from gatesync.events.hub import EventHub, Lost, Reported
from gatesync.events.messages import Inventory, NodeReport, decode_report
from gatesync.publisher.announcing import Announcer
from gatesync.publisher.answers import Held, Verdict, Verification
from gatesync.publisher.booking import FORGET_SECONDS, Booking
from gatesync.publisher.committing import Committer
from gatesync.publisher.fleet import Fleet, ReceiptStatus
from gatesync.publisher.pushing import Pusher
from gatesync.publisher.requests import (
    ChangeAnswer,
    ChangeRequest,
    PlanRequest,
    Stamp,
    answer_of,
    prepare,
    prepare_plan,
)
from gatesync.publisher.rights import check_tenants
from gatesync.publisher.signing import CurrentSigner, HeadIssuer, unsigned
from gatesync.publisher.tokens import Principal
from gatesync.publisher.views import report_for
from gatesync.stores.receipts import ReceiptBook
from gatesync.stores.store import Refused, SaveOutcome, Saver, StoreError, TooOld, read_manifest

__all__ = ["IN_THREAD_BYTES", "Publisher", "RefusedError"]

COMPACT_SECONDS: Final = 60.0
HEARD_AT_ONCE: Final = 32  # reports taken before other tasks have their turn: half a millisecond
IN_THREAD_BYTES: Final = 256 * 1024  # larger requests are checked beside the event loop


_log = structlog.get_logger("gatesync.publisher")


KnownNode: TypeAlias = Callable[[str], Principal | None]
"""What a node may read; None where this publisher does not know."""


def report_of(reported: Reported, known: KnownNode) -> NodeReport:
    """What a report says that its sender has a say in, as over HTTP (promise 8).

    Raises:
        FormatError: it is no report, or speaks for another node, or its node has no token any more.
    """
    report = decode_report(reported.message)
    if report.node != reported.node:
        raise FormatError(f"it speaks for node {report.node!r}, and is another's")
    who = known(report.node)
    if who is None:  # the broker knows it: its token was made by another publisher, just now
        return report
    if not who.labels:
        raise FormatError("its token is revoked")
    return report_for(who, report)


class RefusedError(Exception):
    """A request was refused, and nothing of it was saved."""

    def __init__(self, refused: Refused) -> None:
        self.refused = refused
        super().__init__("; ".join(refused.reasons))


class Publisher:
    """What the HTTP interface calls.

    Args:
        saver: the store.
        hub: the broker, or None.
        publisher_id: this process among several on one store.
        heartbeat: seconds.
        pusher: pushes to environments directly; None for events only.
        retention: revisions of each label that are kept, with their contents.
        retention_age: seconds for which a revision is kept in any case.
        book: keeps what the gateways report, for other publishers too; None for memory only.
        forget_after: seconds after which a gateway that is not heard is forgotten.
        wall_clock: seconds since 1970.
        signer: what signs change sets, heads and confirmations now.
        known_node: what a node may read, and so report of; without limit unless given.
    """

    def __init__(
        self,
        saver: Saver,
        hub: EventHub | None,
        publisher_id: str,
        *,
        heartbeat: float = 5.0,
        pusher: Pusher | None = None,
        retention: int = 1_000,
        retention_age: float = 0.0,
        book: ReceiptBook | None = None,
        forget_after: float = FORGET_SECONDS,
        wall_clock: Callable[[], float] = time.time,
        signer: CurrentSigner = unsigned,
        known_node: KnownNode = lambda _: None,
    ) -> None:
        self.saver = saver
        self.issuer = HeadIssuer(signer, wall_clock)
        self.fleet = Fleet(heartbeat=heartbeat, wall_clock=wall_clock)
        self.announcer = Announcer(
            saver,
            hub,
            publisher_id,
            pusher=pusher,
            followed=lambda: self.fleet.labels(),
            heartbeat=heartbeat,
            wall_clock=wall_clock,
            issuer=self.issuer,
        )
        self.committer = Committer(saver, self.announcer.saved, signer)
        self.refused_reports = 0
        self._hub = hub
        self._id = publisher_id
        self._retention = retention
        self._retention_age = retention_age
        self._book = book
        self._forget_after = forget_after
        self._heartbeat = heartbeat
        self._wall_clock = wall_clock
        self._signer = signer
        self._known_node = known_node

    async def run(self) -> None:
        """Commit, announce, listen and compact until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.committer.run(), name="commit")
            tasks.create_task(self.announcer.run(), name="announce")
            tasks.create_task(self.announcer.pusher.run(), name="push")
            tasks.create_task(self._compact(), name="compact")
            if self._book is not None:
                tasks.create_task(self._keep_receipts(self._book), name="receipts")
            if self._hub is not None:
                tasks.create_task(self._hear_reports(self._hub), name="reports")

    async def change(
        self,
        request: ChangeRequest,
        key: str,
        size: int,
        *,
        author: str = "",
        origin: str = "",
        tenants: tuple[str, ...] = (),
    ) -> ChangeAnswer:
        """Publish and remove as asked; durable when this returns (promise 3).

        Args:
            request: what to do.
            key: the idempotency key.
            size: of the request, in bytes.
            author: whose token it came with.
            origin: from where it came.
            tenants: whose artifacts they may change; everybody's where there are none.

        Raises:
            ProblemsError: the request is wrong in itself.
            ForbiddenError: an artifact in it is of another tenant.
            RefusedError: it does not fit what the labels hold.
            StoreError: the store failed.
        """
        stamp = Stamp(int(self._wall_clock() * 1000), self._id, author, origin, tenants)
        if size > IN_THREAD_BYTES:
            requests, left_out = await asyncio.to_thread(prepare, request, key, stamp)
        else:
            requests, left_out = prepare(request, key, stamp)
        await check_tenants(requests, self.saver, tenants)
        results: list[SaveOutcome | Refused] = []
        failures: list[StoreError] = []
        for result in await self._submit(requests):
            if isinstance(result, StoreError):
                failures.append(result)
            elif isinstance(result, Refused) and not request.skip_invalid:
                raise RefusedError(result)
            else:
                results.append(result)
        if failures:  # what the others saved is not told, so it is not known
            saved = any(isinstance(each, SaveOutcome) for each in results)
            unsure = saved or any(each.unsure for each in failures)
            raise StoreError(str(failures[0]), unsure=unsure)
        return answer_of(requests, results, left_out)

    async def plan(self, request: PlanRequest, *, tenants: tuple[str, ...] = ()) -> ChangeAnswer:
        """Answer what `change` would do now; `refused` holds what would be refused.

        Raises:
            ProblemsError: the request is wrong in itself.
            ForbiddenError: an artifact in it is of another tenant than `tenants`, if given.
            StoreError: the store failed.
        """
        requests = await asyncio.to_thread(prepare_plan, request, Stamp(tenants=tenants))
        await check_tenants(requests, self.saver, tenants)
        return answer_of(requests, await self.saver.preview(requests), [])

    async def confirm(self, label: str) -> Confirmation:
        """Confirm that the label's history, as it is now, is the right one; tell the gateways."""
        signer = self._signer()
        sign = signer.confirmation if signer is not None else None
        confirmation = await self.saver.confirm(label, str(uuid.uuid4()), sign=sign)
        self.announcer.beat()
        return confirmation

    async def renew(
        self, label: str, items: tuple[Item, ...], key: str, stamp: Stamp
    ) -> SaveOutcome:
        """Say again what a label holds, in one change set, for its signature; and announce it.

        Raises:
            RefusedError: it does not fit what the label holds.
            StoreError: the store failed.
        """
        fingerprint = hashlib.sha256(msgspec.json.encode([label, items])).hexdigest()
        request = SaveRequest(
            labels=(label,),
            sets=(items,),
            key=key,
            fingerprint=fingerprint,
            published_at=int(self._wall_clock() * 1000),
            publisher=self._id,
            author=stamp.author,
            origin=stamp.origin,
        )
        answer = await self.committer.submit(request)
        if isinstance(answer, Refused):
            raise RefusedError(answer)
        return answer

    async def find(self, labels: Iterable[str], api_id: str | None = None) -> list[Held]:
        """Everything in these labels, or one artifact wherever it is among them."""
        found: list[Held] = []
        for each in labels:
            _, entries = await read_manifest(self.saver, each)
            found += [
                Held(each, entry) for entry in entries.values() if api_id in (None, entry.api_id)
            ]
        return found

    def start_verification(self) -> str:
        """Ask every gateway to recompute what it holds; answers with the id to look under."""
        self.announcer.verification = str(uuid.uuid4())
        self.announcer.beat()
        return self.announcer.verification

    async def verification(self, verification: str) -> Verification:
        """Compare the nodes' answers with the store."""
        verdicts: list[Verdict] = []
        complete = True
        expected: dict[tuple[str, int], str] = {}
        for node, inventory in self.fleet.inventories(verification).items():
            if inventory is None:
                complete = False
                verdicts.append(Verdict(node, "", "no answer"))
                continue
            verdicts += [
                await self._verdict(node, inventory, number, expected)
                for number in range(len(inventory.labels))
            ]
        return Verification(verification, complete, tuple(verdicts))

    async def _verdict(
        self, node: str, inventory: Inventory, number: int, expected: dict[tuple[str, int], str]
    ) -> Verdict:
        held = inventory.labels[number]
        if not held.epoch:
            return Verdict(node, held.label, "behind", 0, "it has not read the label yet")
        cursor = Cursor(held.epoch, held.revision)
        head = (await self.saver.heads([held.label]))[held.label]
        waiting = [
            receipt
            for receipt in self.fleet.receipts(held.label, head.cursor)
            if receipt.node == node and receipt.status is not ReceiptStatus.APPLIED
        ]
        late = bool(waiting) and waiting[0].status is ReceiptStatus.WAITING
        if late and held.epoch == head.epoch and not held.drifted:
            return Verdict(node, held.label, "behind", held.revision, waiting[0].reason)
        key = (held.label, held.revision)
        try:
            if key not in expected:
                _, entries = await read_manifest(self.saver, held.label, at=cursor)
                expected[key] = set_digest({k: each.digest for k, each in entries.items()})
        except (StoreError, TooOld) as error:
            return Verdict(node, held.label, "drift", held.revision, f"cannot be compared: {error}")
        if held.drifted or held.set_digest != expected[key]:
            reason = f"{max(held.drifted_count, 1)} artifacts are not what the store says"
            return Verdict(node, held.label, "drift", held.revision, reason, held.drifted)
        if waiting and held.revision < head.revision:
            reason = f"at revision {held.revision} of {head.revision}"
            return Verdict(node, held.label, "behind", held.revision, reason)
        if waiting and waiting[0].status is ReceiptStatus.HELD:
            return Verdict(node, held.label, "drift", held.revision, waiting[0].reason)
        return Verdict(node, held.label, "in step", held.revision)

    async def _submit(
        self, requests: list[SaveRequest]
    ) -> list[SaveOutcome | Refused | StoreError]:
        answers: list[SaveOutcome | Refused | StoreError] = []
        waiting = [self.committer.hand_in(each) for each in requests]
        try:
            for each in waiting:
                try:
                    answers.append(await each)
                except StoreError as error:
                    answers.append(error)
        finally:
            for each in waiting:
                each.cancel()  # whoever asked is gone; where they are not, all are done
        return answers

    async def _keep_receipts(self, book: ReceiptBook) -> None:
        booking = Booking(
            self.fleet,
            book,
            heartbeat=self._heartbeat,
            forget_after=self._forget_after,
            wall_clock=self._wall_clock,
        )
        await booking.run()

    async def _hear_reports(self, hub: EventHub) -> None:
        heard, told = 0, ""
        async with hub.reports() as listener:
            while True:
                heard += 1
                if heard % HEARD_AT_ONCE == 0:
                    await asyncio.sleep(0)  # publishing goes on while a thousand nodes answer
                message = await listener.next()
                if isinstance(message, Lost):  # the nodes' next heartbeats say it all again
                    self.announcer.beat()  # and what we announced meanwhile may be lost as well
                    continue
                try:
                    self.fleet.receive(report_of(message, self._known_node), everywhere=True)
                except FormatError as error:
                    self.refused_reports += 1
                    # Each is counted; a node that lies a thousand times a second fills no log.
                    tell = _log.debug if told == message.node else _log.warning
                    tell("a report was refused", node=message.node, reason=str(error))
                    told = message.node

    async def _compact(self) -> None:
        while True:
            try:
                for head in await self.saver.labels():
                    young = int((self._wall_clock() - self._retention_age) * 1000)
                    await self.saver.compact(head.label, self._retention, young)
            except StoreError as error:
                _log.warning("compaction failed; it is tried again", reason=str(error))
            await asyncio.sleep(COMPACT_SECONDS)
