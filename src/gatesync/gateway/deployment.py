"""Desired and applied, kept apart (promise 4).

`Deployment` knows what the labels want, what the engine has, what waits for its bytes and what
was set aside. Its one verb is `settle`: make the engine's state follow as far as the bytes at hand
allow, and say which digests to fetch for the rest.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.engines.engine import Deployable, Engine, EngineError
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.desired import Desired, Skipped, Wanted

__all__ = ["Deployment", "Failure", "Missing"]


INSPECTED_AT_ONCE: Final = 256  # artifacts hashed before other tasks have their turn


class Failure(msgspec.Struct, frozen=True):
    """An artifact that was set aside. `next_try` is on the node's monotonic clock, in seconds."""

    wanted: Wanted
    reason: str
    attempt: int
    next_try: float


class Missing(msgspec.Struct, frozen=True):
    """Bytes to fetch: which digest, and how many bytes it has."""

    digest: str
    size: int


class Deployment:
    """What one node serves. One task uses it.

    Args:
        labels: the node's labels, the preferred first.
        engine: what to deploy into.
        backoff: how long what the engine refuses is left alone.

    Attributes:
        desired: what the labels want; change it through `put`.
        applied: what the engine took, by api_id.
        waiting: what is wanted and not there yet, for want of its bytes, by api_id.
        failed: what was set aside, by api_id.
        skipped: what a preferred entry shadows, by api_id.
    """

    def __init__(self, labels: Sequence[str], engine: Engine, backoff: Backoff) -> None:
        self.desired = Desired(labels)
        self.applied: dict[str, Wanted] = {}
        self.waiting: dict[str, Wanted] = {}
        self.failed: dict[str, Failure] = {}
        self.skipped: dict[str, Skipped] = {}
        self._engine = engine
        self._backoff = backoff
        self._unsettled: set[str] = set()
        self._doubtful: set[str] = set()  # what the engine may not hold as `applied` says
        self._overdue: set[str] = set()  # what the engine could not undeploy
        self._in_step: dict[str, int] = {}  # the last revision of a label without any overdue
        self._waiting_for: dict[str, set[str]] = {}  # digest to api_ids, the index of `waiting`

    def put(self, label: str, api_id: str, entry: Entry | None, retained: Entry | None) -> None:
        """Tell what a label says of an artifact now; `settle` acts on it."""
        self._unsettled |= self.desired.put(label, api_id, entry)
        self._unsettled |= self.desired.put(label, api_id, retained, retained=True)

    async def settle(
        self, contents: Mapping[str, bytes], now: float, random: Iterator[float]
    ) -> bool:
        """Deploy and undeploy whatever is due and has its bytes, in one swap.

        Args:
            contents: canonical forms by digest, each verified against it.
            now: seconds on the node's monotonic clock.
            random: numbers from [0, 1) for the backoff.

        Returns:
            whether anything changed: the engine, or what is known to wait, fail or be skipped.
        """
        due = self._unsettled | {
            k for k, each in self.failed.items() if each.next_try <= now and k not in self.waiting
        }
        for digest in contents:
            due |= self._waiting_for.get(digest, set())
        if not due:
            return False
        self._unsettled = set()
        deploy: list[tuple[Wanted, bytes]] = []
        undeploy: list[str] = []
        for api_id in due:
            wanted = self._decide(api_id)
            if wanted is None:
                if api_id in self.applied:
                    undeploy.append(api_id)
                continue
            self._overdue.discard(api_id)
            if self._is_settled(wanted, now):
                continue
            content = contents.get(wanted.entry.digest)
            if content is None:
                self._wait(wanted)
            else:
                deploy.append((wanted, content))
        if deploy or undeploy:
            try:
                await self._apply(deploy, undeploy, now, random)
            except BaseException:  # cancelled half-way: nobody knows what the engine took
                self._unsettled |= due
                self._doubtful.update(wanted.entry.api_id for wanted, _ in deploy)
                raise
        return True

    def next_try(self) -> float | None:
        """When the first of what was set aside is due, on the monotonic clock.

        What waits for its bytes is tried when they come, and by no clock.
        """
        tries = (each.next_try for k, each in self.failed.items() if k not in self.waiting)
        return min(tries, default=None)

    def missing(self) -> list[Missing]:
        """Which bytes to fetch, each digest once."""
        entries = (each.entry for each in self.waiting.values())
        return [Missing(*each) for each in {(entry.digest, entry.size) for entry in entries}]

    def not_found(self, digests: Collection[str], now: float, random: Iterator[float]) -> None:
        """Set aside what waits for bytes that the store said it does not have."""
        for digest in digests:
            for api_id in list(self._waiting_for.get(digest, ())):
                wanted = self.waiting[api_id]
                self._stop_waiting(api_id)
                reason = f"the store has no contents with digest {wanted.entry.digest}"
                self._set_aside(wanted, reason, now, random)

    def retry(self, api_ids: Iterable[str]) -> None:
        """Have these deployed again at the next `settle`, though they seem to be there.

        They stay `applied`: whatever the engine has of them goes on serving (promise 4).
        """
        for api_id in api_ids:
            self.failed.pop(api_id, None)
            self._doubtful.add(api_id)
            self._unsettled.add(api_id)

    def processed(self, label: str, revision: int) -> int:
        """The revision up to which every change of the label is applied, failed or skipped."""
        if any(self.applied[api_id].label == label for api_id in self._overdue):
            revision = min(revision, self._in_step.get(label, 0))
        else:
            self._in_step[label] = revision
        waiting = (
            wanted.entry.revision - 1
            for api_id, wanted in self.waiting.items()
            if wanted.label == label and api_id not in self.failed  # a retry was processed before
        )
        return min([revision, *waiting])

    async def inspect(self) -> dict[str, str]:
        """Hash every byte that the engine holds: api_id to digest, of everything it holds."""
        found: dict[str, str] = {}
        for number, api_id in enumerate(self._engine.api_ids()):
            if digest := self.held_digest(api_id):
                found[api_id] = digest
            if number % INSPECTED_AT_ONCE == 0:
                await asyncio.sleep(0)  # events go on meanwhile
        return found

    def held_digest(self, api_id: str) -> str:
        """Hash what the engine holds under this id; an empty string for nothing."""
        content = self._engine.content(api_id)
        return "" if content is None else digest_of(content)

    async def evict(self, api_ids: Collection[str]) -> None:
        """Undeploy what nobody asked for."""
        await self._engine.apply([], [each for each in api_ids if each not in self.applied])

    def _decide(self, api_id: str) -> Wanted | None:
        case = self.desired.decide(api_id)
        self.skipped.pop(api_id, None)
        if isinstance(case, Wanted):
            return case
        if case is not None:
            self.skipped[api_id] = case
        self._stop_waiting(api_id)
        self.failed.pop(api_id, None)
        return None

    def _is_settled(self, wanted: Wanted, now: float) -> bool:
        api_id, digest = wanted.entry.api_id, wanted.entry.digest
        applied = self.applied.get(api_id)
        sure = api_id not in self._doubtful
        if applied is not None and applied.entry.digest == digest and sure:
            self.applied[api_id] = wanted  # another label, or revision, of the same bytes
            self._stop_waiting(api_id)
            self.failed.pop(api_id, None)
            return True
        failure = self.failed.get(api_id)
        if failure is None:
            return False
        if failure.wanted.entry.digest != digest:
            del self.failed[api_id]  # new bytes deserve a try at once
            return False
        if failure.wanted != wanted:  # the same bytes, wanted by another label or revision
            self.failed[api_id] = msgspec.structs.replace(failure, wanted=wanted)
        return failure.next_try > now

    def _wait(self, wanted: Wanted) -> None:
        api_id = wanted.entry.api_id
        self._stop_waiting(api_id)
        self.waiting[api_id] = wanted
        self._waiting_for.setdefault(wanted.entry.digest, set()).add(api_id)

    def _stop_waiting(self, api_id: str) -> None:
        wanted = self.waiting.pop(api_id, None)
        if wanted is not None:
            others = self._waiting_for[wanted.entry.digest]
            others.discard(api_id)
            if not others:
                del self._waiting_for[wanted.entry.digest]

    async def _apply(
        self,
        deploy: list[tuple[Wanted, bytes]],
        undeploy: list[str],
        now: float,
        random: Iterator[float],
    ) -> None:
        batch = [Deployable(wanted.entry, content) for wanted, content in deploy]
        refused: Mapping[str, str]
        try:
            refused = await self._engine.apply(batch, undeploy)
        except EngineError as error:
            refused = {each.entry.api_id: str(error) for each in batch}
            self._unsettled.update(undeploy)
            self._overdue.update(undeploy)
            undeploy = []
        for api_id in undeploy:
            self.applied.pop(api_id, None)
            self._doubtful.discard(api_id)
            self._overdue.discard(api_id)
        for wanted, _ in deploy:
            api_id = wanted.entry.api_id
            self._stop_waiting(api_id)
            if api_id in refused:
                self._set_aside(wanted, refused[api_id], now, random)
            else:
                self.failed.pop(api_id, None)
                self._doubtful.discard(api_id)
                self.applied[api_id] = wanted

    def _set_aside(self, wanted: Wanted, reason: str, now: float, random: Iterator[float]) -> None:
        before = self.failed.get(wanted.entry.api_id)
        same = before is not None and before.wanted.entry.digest == wanted.entry.digest
        attempt = before.attempt + 1 if before is not None and same else 1
        next_try = now + self._backoff.delay(attempt, next(random))
        self.failed[wanted.entry.api_id] = Failure(wanted, reason, attempt, next_try)
