"""Which contents a token opens: those that a label which it may read holds, or lately held.

A digest is asked for without its label, so the publisher keeps what each label's kept revisions
name: read once from the log, when a token first needs it, and followed from there. What is in no
such label is not looked for in the store at all: to whoever may not read it, it is as if it were
not there, in time as well (docs/decisions/0029).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import filterfalse
from typing import Final
from weakref import WeakValueDictionary

import structlog

from gatesync.artifacts.changes import ChangeSet, Cursor, Entry, Head, Instruction
from gatesync.publisher.tokens import Principal
from gatesync.stores.store import Saver, StoreError, TooOld

__all__ = ["LabelDigests", "ReadableContents"]

LOOK_SECONDS: Final = 60.0  # what a label names is at most so old; compaction takes as long
PAGE: Final = 5_000  # entries of a list that are read at once
SETS: Final = 500  # change sets, likewise
HELD_NOW: Final = 2**63  # higher than any revision
TRIES: Final = 3  # to read a label that is compacted meanwhile

_log = structlog.get_logger("gatesync.publisher")


class LabelDigests:
    """The digests that a label's kept revisions name: what it held at its floor, and since.

    Args:
        head: of the label at the floor.
        entries: everything that it held there.

    Attributes:
        head: of the newest revision that is known.
        named: the digests, each with the last revision that held it, or `HELD_NOW`.
    """

    def __init__(self, head: Head, entries: Iterable[Entry]) -> None:
        self.head = head
        self._floor = head.revision
        self._held = {entry.api_id: entry.digest for entry in entries}
        self._holders = Counter(self._held.values())
        self.named = dict.fromkeys(self._holders, HELD_NOW)

    def follow(self, change_set: ChangeSet) -> bool:
        """Take in the next change set; False where this cannot be followed any further."""
        if change_set.previous != self.head.revision or change_set.epoch != self.head.epoch:
            return False
        digest = self.head.digest
        for change in change_set.changes:
            entry = change.entry
            new = entry.digest if change.instruction is Instruction.PUBLISH else None
            digest = digest.replace(entry.api_id, self._held.get(entry.api_id), new)
            self._replace(entry.api_id, new, change_set.revision)
        self.head = change_set.head
        return digest == change_set.digest

    def forget(self, floor: int) -> None:
        """Forget what only revisions below the floor held."""
        if floor > self._floor:
            self._floor = floor
            self.named = {digest: last for digest, last in self.named.items() if last >= floor}

    def _replace(self, api_id: str, new: str | None, revision: int) -> None:
        old = self._held.pop(api_id, None)
        if old is not None:
            self._holders[old] -= 1
            if not self._holders[old]:
                del self._holders[old]
                self.named[old] = revision - 1
        if new is not None:
            self._held[api_id] = new
            self._holders[new] += 1
            self.named[new] = HELD_NOW


class ReadableContents:
    """What tokens may read by digest.

    Args:
        saver: the store.
        clock: the monotonic clock, in seconds.
    """

    def __init__(self, saver: Saver, clock: Callable[[], float] = time.monotonic) -> None:
        self._saver = saver
        self._clock = clock
        self._labels: dict[str, LabelDigests] = {}
        self._looked_at: dict[str, float] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def of(self, who: Principal, digests: Sequence[str]) -> tuple[str, ...]:
        """Those of the digests that the token may read, in their order.

        What is known to be readable costs no question to the store.

        Raises:
            StoreError: the store cannot say.
        """
        if who.reads_all:
            return tuple(digests)
        await self._look_again(who.labels)
        readable = self._opened(who.labels, digests)
        if len(readable) < len(digests):  # it may have come a moment ago
            for head in (await self._saver.heads(who.labels)).values():
                await self._catch_up(head)
            readable = self._opened(who.labels, digests)
        return readable

    def _opened(self, labels: Sequence[str], digests: Sequence[str]) -> tuple[str, ...]:
        closed: Collection[str] = digests
        for label in labels:
            if (known := self._labels.get(label)) is not None:
                closed = [*filterfalse(known.named.__contains__, closed)]
                if not closed:
                    return tuple(digests)
        closed = frozenset(closed)
        return tuple(digest for digest in digests if digest not in closed)

    async def _look_again(self, labels: Sequence[str]) -> None:
        """Bring labels up to date that were not for a while; a store that is away changes nothing.

        So what a label holds no more, and no kept revision did, is open for no longer than that.
        """
        now = self._clock()
        old = [label for label in labels if now - self._looked_at.get(label, -1e9) > LOOK_SECONDS]
        known = [label for label in old if label in self._labels]
        if not known:
            return
        for label in known:
            self._looked_at[label] = now  # others need not wait for it meanwhile
        try:
            for head in (await self._saver.heads(known)).values():
                await self._catch_up(head)
                if (digests := self._labels.get(head.label)) is not None:
                    digests.forget(await self._floor(head))
        except StoreError as error:
            _log.warning("what labels hold cannot be read again", reason=str(error))

    async def _catch_up(self, head: Head) -> None:
        """Know a label up to this head at least."""
        async with self._turns.setdefault(head.label, asyncio.Lock()):
            known = self._labels.get(head.label)
            if known is not None:
                if known.head.revision > head.revision:  # others were here, or it lost its last
                    head = (await self._saver.heads([head.label]))[head.label]
                if known.head.revision <= head.revision and await self._follow(known, head):
                    return
            self._labels.pop(head.label, None)  # another history, or compacted past what we know
            self._labels[head.label] = await self._read(head)
            self._looked_at[head.label] = self._clock()

    async def _follow(self, known: LabelDigests, head: Head) -> bool:
        if known.head.epoch != head.epoch:
            return False
        while known.head.revision < head.revision:
            sets = await self._saver.change_sets(head.label, known.head.revision, SETS)
            if not sets or not all(known.follow(each) for each in sets):
                return False
        return known.head.revision > head.revision or known.head.digest == head.digest

    async def _read(self, head: Head) -> LabelDigests:
        for _ in range(TRIES):
            at = Cursor(head.epoch, await self._floor(head))
            try:
                known = await self._list(head.label, at)
            except TooOld:  # compacted meanwhile
                continue
            if await self._follow(known, head):
                return known
        raise StoreError(f"label {head.label!r} changes faster than it can be read; try again")

    async def _floor(self, head: Head) -> int:
        """The revision from which on all is kept."""
        first = await self._saver.change_sets(head.label, 0, 1)
        return first[0].previous if first else head.revision

    async def _list(self, label: str, at: Cursor) -> LabelDigests:
        """What the label held there. No proof is asked of the list: nothing is removed for it."""
        entries: list[Entry] = []
        after: str | None = ""
        while after is not None:
            page = await self._saver.manifest(label, at=at, after=after, limit=PAGE)
            entries += page.entries
            after = page.after
        return LabelDigests(page.head, entries)
