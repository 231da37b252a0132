"""Takes over into labels what others write into a tree.

    look at the tree → what changed since it was taken over? → publish and remove, as one change set
        → remember what was taken over

What is refused, in the tree or by a label, is told; the rest goes on. The publisher's own way of
committing is handed in: it signs, announces and answers as for any publish.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec
import structlog

from gatesync.artifacts.changes import Entry, Head
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.mirroring.adopting import (
    Adoption,
    Found,
    adoption_of,
    found_in,
    read_adopted,
    write_adopted,
)
from gatesync.mirroring.offering import Offer, offers_of
from gatesync.mirroring.scanning import SourceGoneError
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.source_tree import Settled, SourceTree
from gatesync.stores.store import Refused, SaveOutcome, Saver, StoreError, read_manifest

__all__ = ["Adopter", "AdopterStatus", "Commit", "Stamp"]

SET_BYTES: Final = 32 * 1024 * 1024  # of files in one change set, which is held in memory
REST: Final = 4.0  # times as long as a look took: that is a fifth of the file system's time
TOLD: Final = 20  # problems that are logged one by one

Commit: TypeAlias = Callable[[SaveRequest], Awaitable[SaveOutcome | Refused]]
"""Saves a request durably, as a publish is saved. Raises `StoreError`."""

_Held: TypeAlias = dict[Identity, Entry]
_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = structlog.get_logger("gatesync.mirroring")


class RunsInThread(Protocol):
    """Calls what blocks, beside the event loop."""

    async def __call__(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Answer with what it answers, and raise what it raises."""
        ...


class Stamp(msgspec.Struct, frozen=True):
    """Who the log says did it: see `SaveRequest`."""

    publisher: str
    author: str
    origin: str


class AdopterStatus(msgspec.Struct, frozen=True):
    """How it stands.

    `artifacts` is how many were taken over and lie in the tree. `trouble` says why the tree or
    the store cannot be used now. `problems` are what was not taken over: files, by their paths
    below the root, and artifacts. `waiting` says why what is gone from the tree is served on.
    """

    artifacts: int = 0
    trouble: str = ""
    problems: tuple[str, ...] = ()
    waiting: str = ""


class Adopter:
    """Takes one tree over, into the labels that it is the tree of. One step at a time.

    Args:
        tree: where others write.
        saver: what the labels hold.
        commit: saves as a publish does.
        labels: the preferred first; what is new in the tree goes there.
        record: the file that remembers what was taken over; its folder exists.
        stamp: who the log says did it.
        in_thread: calls what blocks.
        clock: seconds since 1970.
        leads: whether this process is the one that takes over, of all that watch the tree.

    Attributes:
        status: how it stands since the last step.
    """

    def __init__(
        self,
        tree: SourceTree,
        saver: Saver,
        commit: Commit,
        labels: Sequence[str],
        record: Path,
        *,
        stamp: Stamp,
        in_thread: RunsInThread,
        clock: Callable[[], float],
        leads: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.status = AdopterStatus()
        self._tree = tree
        self._saver = saver
        self._commit = commit
        self._labels = tuple(labels)
        self._record = record
        self._stamp = stamp
        self._in_thread = in_thread
        self._clock = clock
        self._leads = leads
        self._adopted = read_adopted(record)
        self._found: dict[Identity, Found] = {}
        self._manifest: SourceManifest | None = None  # that `_found` was found in
        self._done: object = None  # the state of all this that was dealt with
        self._refused: list[str] = []
        self._waiting = ""
        self._granted = 0  # steps for which somebody's word counts, that what waits is meant
        self._word: dict[str, str] | None = None  # the confirmations that there were before

    async def run(self, every: float, wait: Callable[[float], Awaitable[object]]) -> None:
        """Step after step until cancelled; between them `wait` is awaited, with seconds.

        Seldomer than `every` so many seconds where a look takes its time.
        """
        steady = asyncio.get_running_loop().time
        while True:
            began = steady()
            restless = False
            try:
                restless = bool((await self.step()).restless)
            except (SourceGoneError, StoreError, OSError) as error:
                self._tell(msgspec.structs.replace(self.status, trouble=str(error)))
            rest = max(every, REST * (steady() - began))
            await wait(self._tree.moment if restless else rest)

    async def step(self) -> Settled:
        """Look once, and take over what has settled.

        Raises:
            SourceGoneError: the tree is not there; nothing is removed (promise 6).
            StoreError: the store failed; the next step goes on where this one ended.
            OSError: what was seen or done cannot be recorded.
        """
        settled = await self._in_thread(self._tree.look)
        if settled.manifest is None:
            return settled
        if settled.manifest is not self._manifest:
            self._found = await self._in_thread(found_in, self._tree.groups, self._tree.good)
            self._manifest = settled.manifest
        heads = await self._saver.heads(self._labels)
        if self._is_confirmed(heads, waiting=bool(settled.waiting or self._waiting)):
            self._tree.confirm_removals()
            self._granted = 2
        confirmed = self._granted > 0 and not settled.waiting  # else the next look comes first
        self._granted = 0 if confirmed else max(0, self._granted - 1)
        leads = self._leads is None or await self._leads()
        state = (settled.manifest, [head.cursor for head in heads.values()], leads)
        if confirmed or state != self._done:
            await self._adopt(heads, confirmed=confirmed, leads=leads)
            self._done = state
        problems = (*map(str, settled.problems), *self._refused)
        waiting = " and ".join(each for each in (settled.waiting, self._waiting) if each)
        self._tell(AdopterStatus(len(self._adopted), "", problems, waiting))
        return settled

    def _is_confirmed(self, heads: Mapping[str, Head], *, waiting: bool) -> bool:
        """Whether somebody has said `gatesync labels confirm` since removals began to wait."""
        if not waiting:
            self._word = None
            return False
        word = {name: head.confirmation.id for name, head in heads.items() if head.confirmation}
        if self._word is None or word == self._word:
            self._word = word
            return False
        self._word = word
        return True

    async def _adopt(self, heads: Mapping[str, Head], *, confirmed: bool, leads: bool) -> None:
        self._refused, self._waiting = [], ""
        waiting = {who for who, each in self._adopted.items() if each.waiting}
        self._wait_for(waiting & self._found.keys(), waiting=False)
        if not self._has_news():
            return
        held = {label: await self._held(label) for label in self._labels}
        adoption = adoption_of(self._found, self._adopted, list(held.items()), confirmed=confirmed)
        self._waiting = adoption.waiting
        self._wait_for(adoption.held_back, waiting=True)
        for identity in adoption.gone:
            del self._adopted[identity]
        reason = "is gone from the tree, but was published otherwise since; remove it there"
        self._refused += [str(Problem(reason, where=str(each))) for each in adoption.overruled]
        for label in self._labels:
            await self._take_over(label, adoption, held[label], heads[label], leads=leads)
        await self._in_thread(write_adopted, self._record, list(self._adopted.values()))

    def _wait_for(self, identities: Iterable[Identity], *, waiting: bool) -> None:
        for who in identities:
            self._adopted[who] = msgspec.structs.replace(self._adopted[who], waiting=waiting)

    def _has_news(self) -> bool:
        if self._found.keys() != self._adopted.keys():
            return True
        return any(self._adopted[who].files != each.files for who, each in self._found.items())

    async def _held(self, label: str) -> _Held:
        _, entries = await read_manifest(self._saver, label)
        return {entry.identity: entry for entry in entries.values()}

    async def _take_over(
        self, label: str, adoption: Adoption, held: _Held, head: Head, *, leads: bool
    ) -> None:
        """Bring one label to what the tree says of it."""
        leaving = [
            Offer.removal(each.entry, self._adopted[each.entry.identity])
            for each in adoption.remove
            if each.label == label
        ]
        changed = [who for who, where in adoption.changed.items() if where == label]
        if not (changed or leaving):
            return
        for some in self._portions(changed) or [[]]:
            contents = await self._saver.contents({held[who].digest for who in some if who in held})
            offered = await self._in_thread(
                offers_of, self._tree, self._found, some, held, contents
            )
            self._refused += map(str, offered.problems)
            self._adopted.update((each.identity, each) for each in offered.held)
            if leads:
                await self._save(label, head, [*leaving, *offered.news])
                leaving = []

    def _portions(self, changed: Sequence[Identity]) -> list[list[Identity]]:
        """Parts of which each fits a change set."""
        portions: list[list[Identity]] = []
        size = SET_BYTES
        for who in changed:
            group = self._tree.groups[self._found[who].main]
            bytes_of = sum(self._tree.good[path].facts.size for path in group.paths)
            if size + bytes_of > SET_BYTES:
                portions.append([])
                size = 0
            portions[-1].append(who)
            size += bytes_of
        return portions

    async def _save(self, label: str, head: Head, offers: list[Offer]) -> None:
        """All of it as one change set, but for what the label refuses."""
        if not offers:
            return
        answer = await self._commit(self._request(label, head, offers))
        if isinstance(answer, Refused):
            offers = await self._acceptable(label, head, offers)
            if not offers:
                return
            answer = await self._commit(self._request(label, head, offers))
        if isinstance(answer, Refused):
            self._refused += answer.reasons
            return
        for warning in answer.warnings:
            _log.warning("taken over as it is", label=label, reason=warning.text)
        for offer in offers:
            if offer.adopted is not None:
                self._adopted[offer.identity] = offer.adopted
            else:
                self._adopted.pop(offer.identity, None)
        published = sum(offer.adopted is not None for offer in offers)
        removed = len(offers) - published
        _log.info("took over from the tree", label=label, published=published, removed=removed)

    async def _acceptable(self, label: str, head: Head, offers: Sequence[Offer]) -> list[Offer]:
        """Those that the label takes; what was served from a file that is refused now stays."""
        requests = [self._request(label, head, [offer]) for offer in offers]
        answers = await self._saver.preview(requests)
        accepted: list[Offer] = []
        mains: set[str] = set()
        for offer, answer in zip(offers, answers, strict=True):
            if isinstance(answer, Refused):
                self._refused += answer.reasons
                mains.add(offer.main)
            else:
                accepted.append(offer)
        return [each for each in accepted if each.adopted is not None or each.main not in mains]

    def _request(self, label: str, head: Head, offers: Sequence[Offer]) -> SaveRequest:
        asked = [label, [_asked(offer.item) for offer in offers]]
        fingerprint = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
        # The head is in it: after A and B the tree may have A again.
        return SaveRequest(
            labels=(label,),
            sets=(tuple(offer.item for offer in offers),),
            key=f"adopt/{head.epoch}/{head.revision}/{fingerprint}",
            fingerprint=fingerprint,
            published_at=int(self._clock() * 1000),
            force=True,  # an engine that reads the tree has it already
            **msgspec.structs.asdict(self._stamp),
        )

    def _tell(self, status: AdopterStatus) -> None:
        before, self.status = self.status, status
        if status.trouble and status.trouble != before.trouble:
            _log.error("nothing is taken over from the tree", reason=status.trouble)
        if status.waiting and status.waiting != before.waiting:
            labels = " ".join(f'"{label}"' for label in self._labels[:1])
            advice = f"if that is meant: gatesync labels confirm {labels}"
            _log.warning("served on, until somebody confirms", reason=status.waiting, advice=advice)
        news = [each for each in status.problems if each not in before.problems]
        for each in news[:TOLD]:
            _log.warning("not taken over", reason=each)
        if len(news) > TOLD:
            _log.warning("not taken over", more=len(news) - TOLD)


def _asked(item: Publish | Remove) -> tuple[str, str]:
    if isinstance(item, Publish):
        return "publish", item.entry.digest
    return "remove", item.api_id
