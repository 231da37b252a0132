"""Telling the gateways: an event for each change set, and every label's head each interval.

Heartbeat plus log is the outbox. An event that is lost, or never sent because this process died
after its commit, is made good by the next heartbeat of any publisher.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

import structlog

from gatesync.artifacts.changes import ChangeSet, Head
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.events.hub import EventHub, HubError, TooLarge
from gatesync.events.messages import HeadsAnnounced, announce_change, encode
from gatesync.publisher.pushing import Pusher
from gatesync.publisher.signing import HeadIssuer, unsigned
from gatesync.stores.store import KeepsIssues, SaveOutcome, Saver, StoreError

__all__ = ["Announcer"]

SILENT_HEARTBEATS = 2  # a store that takes longer to answer is told of, before it has failed

_log = structlog.get_logger("gatesync.publisher")


class Announcer:
    """Sends what gateways listen to.

    Args:
        saver: whose heads are announced.
        hub: None where there is no broker; gateways ask for heads themselves then, unless they
            are pushed to.
        pusher: tells environments directly, broker or not.
        publisher: this process's id.
        followed: the labels that gateways follow, used already or not.
        heartbeat: seconds between heartbeats.
        wall_clock: seconds since 1970.
        clock: the monotonic clock.
        issuer: signs the heads.
    """

    def __init__(
        self,
        saver: Saver,
        hub: EventHub | None,
        publisher: str,
        *,
        pusher: Pusher | None = None,
        followed: Callable[[], Collection[str]] = tuple,
        heartbeat: float = 5.0,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        issuer: HeadIssuer | None = None,
    ) -> None:
        self.verification = ""
        self.failures = 0
        self._store_error = ""
        self._asked_at: float | None = None
        self._saver = saver
        self.pusher = pusher or Pusher()
        self._hub = hub
        self._publisher = publisher
        self._followed = followed
        self._heartbeat = heartbeat
        self._wall_clock = wall_clock
        self._clock = clock
        self._issuer = issuer or HeadIssuer(unsigned)
        self._now = asyncio.Event()

    @property
    def store_error(self) -> str:
        """Why heads could not be read the last time, or have not been since; empty when good."""
        if self._asked_at is None:
            return self._store_error
        waited = self._clock() - self._asked_at
        if waited <= SILENT_HEARTBEATS * self._heartbeat:
            return self._store_error
        return self._store_error or f"the store has given no answer for {waited:.0f} s"

    async def saved(self, request: SaveRequest, outcome: SaveOutcome) -> None:
        """Announce what was just saved, with the contents where they are small."""
        contents = {
            item.entry.digest: item.content
            for items in request.sets
            for item in items
            if isinstance(item, Publish)
        }
        for change_set in outcome.change_sets:
            await self._announce(change_set, contents)

    def beat(self) -> None:
        """Send the heads now instead of at the end of the interval."""
        self._now.set()

    async def run(self) -> None:
        """Send heartbeats until cancelled; the first at once (promise 3)."""
        while True:
            try:
                await self._send_heads()
                self._store_error = ""
            except StoreError as error:
                self._store_error = str(error)
                _log.warning("heads cannot be read", reason=str(error))
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()

    async def _send_heads(self) -> None:
        self._asked_at = self._clock()
        try:
            heads = await self._saver.labels()
            followed = {*self._followed(), *self.pusher.labels}
            if unused := followed - {head.label for head in heads}:
                heads += (await self._saver.heads(unused)).values()
        finally:
            self._asked_at = None
        heads = self._issuer.issue_all(heads)
        self.pusher.heads(heads, self._encoded)
        if self._hub is not None:
            await self._announce_heads(self._hub, heads)
        await self._keep_issues(heads)

    async def _announce_heads(self, hub: EventHub, heads: Iterable[Head]) -> None:
        for head in heads:
            try:
                await hub.announce(head.label, self._encoded((head,)))
            except HubError as error:
                self._failed(error)
                return

    async def _keep_issues(self, heads: list[Head]) -> None:
        """Where anything is signed: for gateways that read the store themselves."""
        signed = [head for head in heads if head.issue is not None]
        if not signed or not isinstance(self._saver, KeepsIssues):
            return
        try:
            now = int(self._wall_clock() * 1000)
            await self._saver.keep_issues(self._publisher, signed, now)
        except StoreError as error:
            _log.warning("signed heads are not kept for gateways' reading", reason=str(error))

    def _encoded(self, heads: tuple[Head, ...]) -> bytes:
        now = int(self._wall_clock() * 1000)
        return encode(HeadsAnnounced(heads, self._publisher, now, self.verification))

    async def _announce(self, change_set: ChangeSet, contents: dict[str, bytes]) -> None:
        if self._hub is None and change_set.label not in self.pusher.labels:
            return
        message = encode(announce_change(change_set, contents))
        self.pusher.change(change_set, message)  # returns at once: nobody waits for an environment
        if self._hub is None:
            return
        try:
            await self._announce_smaller(self._hub, change_set, message)
        except HubError as error:  # promise 1: the log has it, the next heartbeat tells
            self._failed(error)

    async def _announce_smaller(self, hub: EventHub, change_set: ChangeSet, message: bytes) -> None:
        """Send it, or what of it the broker takes: without contents, or the label's new head."""
        label = change_set.label
        try:
            await hub.announce(label, message)
        except TooLarge as error:
            _log.info("an event is sent in a smaller form", label=label, reason=str(error))
            try:
                await hub.announce(label, encode(announce_change(change_set, {})))
            except TooLarge:  # a change set of very many artifacts
                await hub.announce(label, self._encoded((self._issuer.issue(change_set.head),)))

    def _failed(self, error: HubError) -> None:
        self.failures += 1
        _log.warning("an announcement was not sent; heads will tell", reason=str(error))
