"""Desired and applied, kept apart (promise 4).

`Deployment` knows what the labels want, what the engine has, what waits for its bytes and what
was set aside. Its one verb is `settle`: make the engine's state follow as far as the bytes at hand
allow, and say which digests to fetch for the rest.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import DEPLOY_ORDER
from gatesync.engines.engine import Deployable, Engine, EngineError, Serving
from gatesync.gateway.desired import Desired, Skipped, Wanted
from gatesync.gateway.endpoint_types import EndpointRule

__all__ = ["Deployment", "Failure", "Missing", "rank_of"]


INSPECTED_AT_ONCE: Final = 256  # artifacts hashed before other tasks have their turn
UNDEPLOYED: Final = "undeployed by this node's operator until its next change"

Delay: TypeAlias = Callable[[int, float], float]
"""Seconds to wait after so many failures in a row, given a random number from [0, 1)."""


def rank_of(entry: Entry) -> int:
    """Its kind's place among those that are deployed one after the other: what others need first.

    A kind that this version does not know comes last.
    """
    return DEPLOY_ORDER.get(entry.kind, len(DEPLOY_ORDER))


_FIRST_THAT_NOBODY_NEEDS: Final = DEPLOY_ORDER["message-processor"]


class Failure(msgspec.Struct, frozen=True):
    """An artifact that was set aside. `next_try` is on the node's monotonic clock, in seconds.

    What is `doubted` was not tried: it is not signed as it must be.
    """

    wanted: Wanted
    reason: str
    attempt: int
    next_try: float
    doubted: bool = False


class Missing(msgspec.Struct, frozen=True):
    """Bytes to fetch: which digest, how many bytes it has, and when its turn is."""

    digest: str
    size: int
    rank: int


class Deployment:
    """What one node serves. One task uses it.

    Args:
        desired: what the labels want, empty yet.
        engine: what to deploy into.
        delay: how long what the engine refuses is left alone.
        rule: which APIs fit this gateway's type; all if it is not given.
        why_not: why a label's entry is not to be deployed; empty where it may be.

    Attributes:
        desired: what the labels want; change it through `put`.
        applied: what the engine took, by api_id.
        waiting: what is wanted and not there yet, for want of its bytes, by api_id.
        failed: what was set aside, by api_id.
        skipped: what a preferred entry shadows, or is not to be served here, by api_id.
        changed: api_ids whose `applied` changed since the caller last cleared it.
        withheld: what an operator undeployed until its next change, by api_id.
        going: what would be undeployed, and waits for `let_go`; only if `looks_elsewhere`.
        looks_elsewhere: whether another label of this node may have what one removes.
        serving: the engine, where another process serves what it deploys.
    """

    def __init__(
        self,
        desired: Desired,
        engine: Engine,
        delay: Delay,
        rule: EndpointRule | None = None,
        why_not: Callable[[str, Entry], str] = lambda _label, _entry: "",
    ) -> None:
        self.desired = desired
        self.applied: dict[str, Wanted] = {}
        self.waiting: dict[str, Wanted] = {}
        self.failed: dict[str, Failure] = {}
        self.skipped: dict[str, Skipped] = {}
        self.withheld: dict[str, Entry] = {}
        self.changed: set[str] = set()
        self.going: set[str] = set()
        self.looks_elsewhere = False
        self.serving: Serving | None = None
        self._engine = engine
        self._delay = delay
        self._rule = rule or EndpointRule()
        self._why_not = why_not
        self._unsettled: set[str] = set()
        self._doubtful: set[str] = set()  # what the engine may not hold as `applied` says
        self._overdue: set[str] = set()  # what the engine could not undeploy
        self._in_step: dict[str, int] = {}  # the last revision of a label without any overdue
        self._waiting_for: dict[str, set[str]] = {}  # digest to api_ids, the index of `waiting`
        # Of `waiting`, by tenant and rank.
        self._untried: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._first_time: set[str] = set()  # which of `waiting` are counted there
        self._let_go: set[str] = set()

    def put(self, label: str, api_id: str, entry: Entry | None, retained: Entry | None) -> None:
        """Tell what a label says of an artifact now; `settle` acts on it."""
        self._unsettled |= self.desired.put(label, api_id, entry)
        self._unsettled |= self.desired.put(label, api_id, retained, retained=True)

    def case(
        self, api_id: str, contents: Mapping[str, bytes] | None = None
    ) -> Wanted | Skipped | None:
        """What is to become of an artifact, as far as that can be told with these contents.

        Whether an API fits this gateway's type shows in them, and is remembered.
        """
        case = self.desired.decide(api_id)
        if case is None:
            self._rule.forget(api_id)
        elif isinstance(case, Wanted) and not self._why_not(case.label, case.entry):
            content = contents.get(case.entry.digest) if contents else None
            reason = self._rule.why_not(case.entry, content)
            return Skipped(case.label, case.entry, reason) if reason else case
        return case

    def decide_by(self, desired: Desired) -> None:
        """Follow other labels, or other tenants, from the next `settle` on.

        What is served as they want it is left alone: after a start from the disk that is most.
        """
        known = {*self.desired.api_ids(), *desired.api_ids(), *self.applied}
        self.desired = desired
        aside = {*self.failed, *self.waiting, *self.skipped, *self.withheld, *self.going}
        aside |= self._let_go | self._overdue | self._doubtful
        for api_id in known:
            if api_id in aside or self.case(api_id) != self.applied.get(api_id):
                self._unsettled.add(api_id)

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
        deploy = self._come(contents, due)
        if not due and not deploy:
            return False
        self._unsettled = set()
        undeploy: list[str] = []
        for api_id, wanted in self._in_order(due, contents):
            if wanted is None:
                undeploy += self._undeployed(api_id)
                continue
            self._stop_going(api_id)
            self._overdue.discard(api_id)
            if self._is_doubted(wanted, now, random) or self._is_settled(wanted, now):
                continue
            content = contents.get(wanted.entry.digest) or self._own(wanted.entry)
            if content is None or self._waits_for_others(wanted.entry):
                self._wait(wanted)
            else:
                deploy.append((wanted, content))
        if deploy or undeploy:
            deploy.sort(key=lambda each: rank_of(each[0].entry))
            try:
                await self._apply(deploy, undeploy, now, random)
            except BaseException:  # cancelled half-way: nobody knows what the engine took
                self._unsettled |= due
                self._unsettled.update(wanted.entry.api_id for wanted, _ in deploy)
                self._doubtful.update(wanted.entry.api_id for wanted, _ in deploy)
                raise
        return True

    async def resume(
        self,
        served: Iterable[Wanted],
        contents: Mapping[str, bytes],
        now: float,
        random: Iterator[float],
    ) -> None:
        """Serve what this node served before it was restarted (promise 10), in one swap.

        `decide_by` and `settle` go on from there. What has no contents at hand is left to them.
        """
        batch = [
            (each, contents[each.entry.digest])
            for each in sorted(served, key=lambda each: rank_of(each.entry))
            if each.entry.digest in contents
            and not self._rule.why_not(each.entry, contents[each.entry.digest])
        ]
        if batch:
            await self._apply(batch, [], now, random)

    def next_try(self) -> float | None:
        """When the first of what was set aside is due, on the monotonic clock.

        What waits for its bytes is tried when they come, and by no clock.
        """
        tries = (each.next_try for k, each in self.failed.items() if k not in self.waiting)
        return min(tries, default=None)

    def missing(self) -> list[Missing]:
        """Which bytes to fetch, each digest once, those first that others may need."""
        entries = (each.entry for each in self.waiting.values())
        found = {(rank_of(entry), entry.digest, entry.size) for entry in entries}
        return [Missing(digest, size, rank) for rank, digest, size in sorted(found)]

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
            self.withheld.pop(api_id, None)
            self._doubtful.add(api_id)
            self._unsettled.add(api_id)

    def withhold(self, api_ids: Iterable[str]) -> list[str]:
        """Have these undeployed at the next `settle`, until a label changes them.

        Answers with those that are to be served here now; the others are left as they are.
        """
        found = []
        for api_id in api_ids:
            case = self.case(api_id)
            if isinstance(case, Wanted):
                self.withheld[api_id] = case.entry
                self._unsettled.add(api_id)
                found.append(api_id)
        return found

    def let_go(self, api_ids: Iterable[str]) -> None:
        """No other label has these: undeploy them at the next `settle`."""
        for api_id in api_ids:
            self.going.discard(api_id)
            self._let_go.add(api_id)
            self._unsettled.add(api_id)

    def strays(self) -> set[str]:
        """What the engine holds, from an earlier process it may be, and is not to be served."""
        others = set(self._engine.api_ids()) - self.applied.keys()
        return {each for each in others if not isinstance(self.case(each), Wanted)}

    def processed(self, label: str, revision: int) -> int:
        """The revision up to which every change of the label is applied, failed or skipped."""
        if self._overdue and any(self.applied[k].label == label for k in self._overdue):
            revision = min(revision, self._in_step.get(label, 0))
        else:
            self._in_step[label] = revision
        if not self.waiting:
            return revision
        waiting = (
            wanted.entry.revision - 1
            for api_id, wanted in self.waiting.items()
            if wanted.label == label and api_id not in self.failed  # a retry was processed before
        )
        return min([revision, *waiting])

    async def inspect(self) -> dict[str, str]:
        """Hash every byte that the engine holds: api_id to digest, of everything it holds."""
        if self.serving is not None:
            await self.serving.look()
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

    def _in_order(
        self, due: Iterable[str], contents: Mapping[str, bytes]
    ) -> list[tuple[str, Wanted | None]]:
        """What to do about each: what others need first, and what goes after all that comes."""
        decided = [(api_id, self._decide(api_id, contents)) for api_id in due]
        last = len(DEPLOY_ORDER) + 1
        decided.sort(key=lambda each: last if each[1] is None else rank_of(each[1].entry))
        return decided

    def _decide(self, api_id: str, contents: Mapping[str, bytes]) -> Wanted | None:
        case = self.case(api_id, contents)
        self.skipped.pop(api_id, None)
        withheld = self.withheld.get(api_id)
        if withheld is not None:
            if isinstance(case, Wanted) and case.entry == withheld:
                case = Skipped(case.label, case.entry, UNDEPLOYED)
            else:
                del self.withheld[api_id]
        if isinstance(case, Wanted):
            return case
        if case is not None:
            self.skipped[api_id] = case
        self._stop_waiting(api_id)
        self.failed.pop(api_id, None)
        return None

    def _own(self, entry: Entry) -> bytes | None:
        """The bytes that the engine has already, for what is to be deployed anew."""
        if entry.api_id not in self._doubtful:
            return None
        content = self._engine.content(entry.api_id)
        return content if content is not None and digest_of(content) == entry.digest else None

    def _come(self, contents: Mapping[str, bytes], due: set[str]) -> list[tuple[Wanted, bytes]]:
        """What waited for these bytes and is deployed; whatever else waited for them is `due`."""
        found: list[tuple[Wanted, bytes]] = []
        for digest, content in contents.items():
            for api_id in self._waiting_for.get(digest, ()):
                if api_id in due or not self._may_come(api_id, content):
                    due.add(api_id)
                else:
                    found.append((self.waiting[api_id], content))
        return found

    def _may_come(self, api_id: str, content: bytes) -> bool:
        """Whether what waited for these bytes only is deployed with no second look at its case.

        A start has very many of these. Whatever changes their case makes them unsettled.
        """
        wanted = self.waiting[api_id]
        entry = wanted.entry
        return (
            api_id in self._first_time
            and api_id not in self.withheld
            and not self._why_not(wanted.label, entry)  # promise 8
            and not self._rule.why_not(entry, content)
            and not self._waits_for_others(entry)
        )

    def _waits_for_others(self, entry: Entry) -> bool:
        """Whether something that it may need has not been tried yet, for want of its bytes.

        Which one it needs is not looked up: that would be a look into each artifact.
        """
        rank = rank_of(entry)
        return any(other < rank for other in self._untried.get(entry.tenant, ()))

    def _undeployed(self, api_id: str) -> list[str]:
        """What to undeploy of this one, which is not wanted: itself or nothing."""
        if api_id not in self.applied:
            self._stop_going(api_id)
            return []
        return [] if self._stays(api_id) else [api_id]

    def _stays(self, api_id: str) -> bool:
        """Whether something that is not wanted any more had better go a little later."""
        entry = self.applied[api_id].entry
        rank = rank_of(entry)
        if rank < _FIRST_THAT_NOBODY_NEEDS and any(
            other > rank for other in self._untried.get(entry.tenant, ())
        ):  # what is served may need it until its new version is there
            self._unsettled.add(api_id)
        elif self.looks_elsewhere and api_id not in self._let_go and api_id not in self.skipped:
            self.going.add(api_id)
        else:
            return False
        self._overdue.add(api_id)
        return True

    def _stop_going(self, api_id: str) -> None:
        self.going.discard(api_id)
        self._let_go.discard(api_id)

    def _is_doubted(self, wanted: Wanted, now: float, random: Iterator[float]) -> bool:
        """Whether it may not be deployed (promise 8). What was served before it serves on."""
        api_id = wanted.entry.api_id
        failure = self.failed.get(api_id)
        reason = self._why_not(wanted.label, wanted.entry)
        if not reason:
            if failure is not None and failure.doubted:
                del self.failed[api_id]  # what is signed by now deserves a try at once
            return False
        self._stop_waiting(api_id)
        same = failure is not None and (failure.wanted, failure.reason) == (wanted, reason)
        if not same or failure is None or failure.next_try <= now:
            self._set_aside(wanted, reason, now, random, doubted=True)
        return True

    def _is_settled(self, wanted: Wanted, now: float) -> bool:
        api_id, digest = wanted.entry.api_id, wanted.entry.digest
        applied = self.applied.get(api_id)
        sure = api_id not in self._doubtful
        if applied is not None and applied.entry.digest == digest and sure:
            if applied != wanted:  # another label, or revision, of the same bytes
                self.applied[api_id] = wanted
                self.changed.add(api_id)
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
        if api_id not in self.failed and api_id not in self._doubtful:  # a retry holds up nobody
            self._untried[wanted.entry.tenant][rank_of(wanted.entry)] += 1
            self._first_time.add(api_id)
        self._waiting_for.setdefault(wanted.entry.digest, set()).add(api_id)

    def _stop_waiting(self, api_id: str) -> None:
        wanted = self.waiting.pop(api_id, None)
        if wanted is not None:
            others = self._waiting_for[wanted.entry.digest]
            others.discard(api_id)
            if not others:
                del self._waiting_for[wanted.entry.digest]
            if api_id in self._first_time:
                self._first_time.discard(api_id)
                tenant, rank = wanted.entry.tenant, rank_of(wanted.entry)
                ranks = self._untried[tenant]
                ranks[rank] -= 1
                if not ranks[rank]:
                    del ranks[rank]
                if not ranks:
                    del self._untried[tenant]

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
            self.changed.add(api_id)
            self._doubtful.discard(api_id)
            self._overdue.discard(api_id)
            self._stop_going(api_id)
        for wanted, _ in deploy:
            api_id = wanted.entry.api_id
            self._stop_waiting(api_id)
            if api_id in refused:
                self._set_aside(wanted, refused[api_id], now, random)
            else:
                self.failed.pop(api_id, None)
                self._doubtful.discard(api_id)
                self.applied[api_id] = wanted
                self.changed.add(api_id)

    def _set_aside(
        self,
        wanted: Wanted,
        reason: str,
        now: float,
        random: Iterator[float],
        *,
        doubted: bool = False,
    ) -> None:
        before = self.failed.get(wanted.entry.api_id)
        same = before is not None and before.wanted.entry.digest == wanted.entry.digest
        attempt = before.attempt + 1 if before is not None and same else 1
        next_try = now + self._delay(attempt, next(random))
        self.failed[wanted.entry.api_id] = Failure(wanted, reason, attempt, next_try, doubted)
