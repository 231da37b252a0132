"""One label's log as a gateway follows it: pure decisions, no I/O.

Whatever arrives is offered to a `LabelLog`, which takes it or says what to do instead:

    an event  → TAKEN | OLD | PULL | ASK
    a head    → TAKEN (in step) | OLD | PULL | ASK
    a delta   → TAKEN | LIST
    a list    → taken; what it may not remove is retained

`ASK` means: this does not fit what I know, and an event is no proof. Ask the store.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Cursor, Entry, Head, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, Count, LabelDigest, label_digest_of
from gatesync.artifacts.errors import FormatError

__all__ = ["Decision", "LabelLog", "LogState"]

REMEMBERED_REVISIONS: Final = 1_000


class Decision(Enum):
    """What to do about something that was offered."""

    TAKEN = auto()
    OLD = auto()
    PULL = auto()
    ASK = auto()
    LIST = auto()


class LogState(msgspec.Struct, frozen=True):
    """What a log knows beside its entries. `retained` is how many of those there are."""

    cursor: Cursor | None
    digest: LabelDigest
    retained: Count
    remembered: tuple[tuple[Count, LabelDigest], ...]
    confirmations: tuple[str, ...]


class LabelLog:
    """What this node knows of one label: the entries, and where in which history it stands.

    Attributes:
        cursor: the place in the log that `entries` are the state of; None before the first list.
        digest: the label digest of `entries`.
        entries: what the label holds, by api_id.
        retained: what another history would have removed, and which waits for an operator.
        touched: api_ids whose entry or retention changed since the caller last cleared it.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.cursor: Cursor | None = None
        self.digest = EMPTY_LABEL
        self.entries: dict[str, Entry] = {}
        self.retained: dict[str, Entry] = {}
        self.touched: set[str] = set()
        self._remembered: OrderedDict[int, LabelDigest] = OrderedDict()
        self._confirmations: set[str] = set()

    @classmethod
    def restored(
        cls, label: str, state: LogState, entries: dict[str, Entry], retained: dict[str, Entry]
    ) -> "LabelLog":
        """The log that `state` was taken of. All that it holds is `touched`.

        Raises:
            FormatError: the entries are not those that belong to this state.
        """
        digest = label_digest_of([(api_id, each.digest) for api_id, each in entries.items()])
        if digest != state.digest or len(retained) != state.retained:
            raise FormatError(
                f"label {label!r}: {len(entries)} entries and {len(retained)} retained ones do not "
                f"add up to the {state.digest.count} and {state.retained} of its state"
            )
        log = cls(label)
        log.cursor, log.digest = state.cursor, state.digest
        log.entries, log.retained = entries, retained
        log.touched = entries.keys() | retained.keys()
        log._remembered.update(state.remembered)
        log._confirmations.update(state.confirmations)
        return log

    def state(self) -> LogState:
        """What is to be kept beside the entries, as of now."""
        return LogState(
            cursor=self.cursor,
            digest=self.digest,
            retained=len(self.retained),
            remembered=tuple(self._remembered.items()),
            confirmations=tuple(self._confirmations),
        )

    def offer_change_set(self, change_set: ChangeSet) -> Decision:
        """Take an event's change set if it is the next one."""
        decision = self.judge_change_set(change_set)
        if decision is Decision.TAKEN:
            self.take_change_set(change_set)
        return decision

    def judge_change_set(self, change_set: ChangeSet) -> Decision:
        """What `offer_change_set` would answer. Nothing moves."""
        if self.cursor is None:
            return Decision.PULL
        if change_set.epoch != self.cursor.epoch:
            return Decision.ASK
        if change_set.revision <= self.cursor.revision:
            return self._compare(change_set.revision, change_set.digest)  # promise 7
        if change_set.previous != self.cursor.revision:
            return Decision.PULL
        if self._after(change_set.changes) != change_set.digest:
            return Decision.PULL
        return Decision.TAKEN

    def take_change_set(self, change_set: ChangeSet) -> None:
        """Take one that `judge_change_set` answered TAKEN for, just now."""
        self._apply(change_set.changes)
        self._move(change_set.head)

    def offer_head(self, head: Head) -> Decision:
        """Compare with a head that a publisher announced. TAKEN is a proof of being in step."""
        if self.cursor is None:
            return Decision.PULL
        if head.epoch != self.cursor.epoch:
            return Decision.ASK
        if head.revision > self.cursor.revision:
            return Decision.PULL
        decision = self._compare(head.revision, head.digest)
        if decision is Decision.OLD and head.revision == self.cursor.revision:
            self._confirm(head)
            return Decision.TAKEN
        return decision

    def judge(self, head: Head, known: Cursor | None) -> Decision:
        """Compare with what the store itself answered.

        `known` is the cursor at the time of asking: the log may have moved on since, and an
        answer that was on its way cannot know of that.
        """
        if self.cursor is None or known is None:
            return Decision.PULL
        if self.cursor.epoch != known.epoch:
            return Decision.OLD
        if head.epoch != known.epoch or head.revision < known.revision:
            return Decision.LIST  # another history: never a reason to remove (promise 6)
        decision = self.offer_head(head)
        return Decision.LIST if decision is Decision.ASK else decision

    def offer_delta(self, since: int, head: Head, changes: Iterable[Change]) -> Decision:
        """Take the net difference from the cursor to `head`, if it comes out as `head` says."""
        cursor = self.cursor
        if cursor is None or head.epoch != cursor.epoch or since != cursor.revision:
            return Decision.OLD if cursor and head.epoch == cursor.epoch else Decision.LIST
        changes = tuple(changes)
        if head.revision < since or self._after(changes) != head.digest:
            return Decision.LIST
        if head.revision == since and head.digest != self.digest:
            return Decision.LIST
        self._apply(changes)
        self._move(head)
        return Decision.TAKEN

    def must_wait(self, entries: Mapping[str, Entry], *, continues: bool, weak: bool) -> bool:
        """Whether what a list of these would remove waits for an operator (promise 6).

        Where it does not continue the history known here; and where that proves little, as whoever
        writes a `weak` history could have rewritten it, when it removes more than half.
        """
        if self.cursor is None:
            return False
        gone = sum(api_id not in entries for api_id in self.entries)
        return not continues or (weak and 2 * gone > len(self.entries))

    def take_list(
        self, head: Head, entries: Mapping[str, Entry], *, continues: bool, weak: bool = False
    ) -> int:
        """Take a whole list. Answers with how many removals wait for an operator now.

        The caller has proved that `entries` add up to `head`, and whether the list `continues`
        the history up to the cursor. Where it `must_wait`, what it does not name is retained:
        deployed as before, until `labels confirm` (promise 6).
        """
        waits = self.must_wait(entries, continues=continues, weak=weak)
        gone = {api_id: entry for api_id, entry in self.entries.items() if api_id not in entries}
        for api_id, entry in entries.items():
            if self.entries.get(api_id) != entry:
                self.touched.add(api_id)
        for api_id in entries.keys() & self.retained.keys():
            del self.retained[api_id]
        if waits:
            self.retained.update(gone)
        if self.cursor is not None and not continues:
            self._remembered.clear()
        if (waits or self.cursor is None) and head.confirmation is not None:
            self._confirmations.add(head.confirmation.id)
        self.touched.update(gone)
        self.entries = dict(entries)
        self._move(head)
        return len(self.retained)

    def _compare(self, revision: int, digest: LabelDigest) -> Decision:
        remembered = self._remembered.get(revision)
        return Decision.OLD if remembered in (None, digest) else Decision.ASK

    def _after(self, changes: Iterable[Change]) -> LabelDigest:
        digest = self.digest
        for change in changes:
            entry = change.entry
            before = self.entries.get(entry.api_id)
            after = entry.digest if change.instruction is Instruction.PUBLISH else None
            digest = digest.replace(entry.api_id, before.digest if before else None, after)
        return digest

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            entry = change.entry
            self.touched.add(entry.api_id)
            self.retained.pop(entry.api_id, None)
            if change.instruction is Instruction.PUBLISH:
                self.entries[entry.api_id] = entry
            else:
                self.entries.pop(entry.api_id, None)

    def _move(self, head: Head) -> None:
        self.cursor = head.cursor
        self.digest = head.digest
        self._remembered[head.revision] = head.digest
        self._remembered.move_to_end(head.revision)
        while len(self._remembered) > REMEMBERED_REVISIONS:
            self._remembered.popitem(last=False)
        self._confirm(head)

    def _confirm(self, head: Head) -> None:
        """Carry out retained removals once an operator has confirmed this history.

        A confirmation counts once, and only if it came after the histories parted: one that the
        other history brought along was given for something else.
        """
        confirmation = head.confirmation
        if confirmation is None or confirmation.id in self._confirmations:
            return
        if confirmation.epoch != head.epoch:
            return
        if self.retained:
            self.touched.update(self.retained)
            self.retained.clear()
        self._confirmations.add(confirmation.id)
