"""Takes differences and lists from the store into a label's log.

Each answer is read, proved where keys are trusted (promise 8), and offered to the log in one step
that nothing comes between: events may have moved it while the answer was on its way.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec
import structlog

from gatesync.artifacts.changes import Cursor, Entry, Head, Instruction
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.signatures import Trust, UntrustedError
from gatesync.gateway.cache import Cache
from gatesync.gateway.lag import Lag
from gatesync.gateway.log import Decision, LabelLog
from gatesync.gateway.proving import Proofs, read_proofs
from gatesync.gateway.pulse import Pulse
from gatesync.gateway.verifying import Verifier
from gatesync.stores.store import (
    Behind,
    Retriever,
    StoreError,
    TooOld,
    has_weak_history,
    read_manifest,
)

__all__ = ["REFUSED_SECONDS", "OnRead", "Puller", "UntrustedAnswerError"]

REFUSED_SECONDS: Final = 60.0  # until an answer that was not signed is asked for again, at most

OnRead: TypeAlias = Callable[[LabelLog, Head, float], object]
"""Told that a log stands at this head, which was read at that time, on the monotonic clock."""

_log = structlog.get_logger("gatesync.gateway")


class UntrustedAnswerError(StoreError):
    """The store answered with something that is not signed as it must be; nothing was taken."""


class _Checked(msgspec.Struct):
    """An answer whose head is proved; `doubted` says which of the `judged` entries are not."""

    trust: Trust | None
    head: Head
    judged: list[Entry] = []
    doubted: Mapping[str, str] = {}
    proofs: Proofs | None = None


class Puller:
    """Reads labels for the informer.

    Args:
        retriever: where the truth is read.
        verifier: what the node trusts.
        lag: tells a replica that lags from another history.
        cache: the node's own disk; None for a node without.
        pulse: what is counted.
        on_read: see `OnRead`.
        clock: the monotonic clock.
    """

    def __init__(
        self,
        retriever: Retriever,
        verifier: Verifier,
        lag: Lag,
        cache: Cache | None,
        pulse: Pulse,
        *,
        on_read: OnRead,
        clock: Callable[[], float],
    ) -> None:
        self._retriever = retriever
        self._verifier = verifier
        self._lag = lag
        self._cache = cache
        self._pulse = pulse
        self._on_read = on_read
        self._clock = clock

    async def take_changes(self, log: LabelLog, known: Cursor) -> Decision:
        """Take the difference to the head; TAKEN, or what to do instead. Raises `StoreError`."""
        if not self._verifier.is_proven(log.label):
            return Decision.LIST  # other keys are trusted by now
        self._pulse.pulls += 1
        asked = self._clock()
        try:
            delta = await self._retriever.changes(log.label, known)
        except TooOld:
            return Decision.LIST
        except Behind as behind:
            if self._lag.explains(behind.head, known):
                raise
            return log.judge(self._verifier.counted(behind.head), known)
        news = [each.entry for each in delta.changes if each.instruction is Instruction.PUBLISH]
        checked = await self._check("delta", log, delta.head, news)
        if checked.trust is not self._verifier.trust:
            return Decision.LIST
        removed = {each.entry.api_id for each in delta.changes} - {each.api_id for each in news}
        self._require_sound("delta", log, checked, {each.api_id: each for each in news}, removed)
        head = self._verifier.counted(delta.head)
        decision = log.offer_delta(delta.since, head, delta.changes)
        if decision is Decision.TAKEN:
            self._verifier.took(log.label, delta.changes)
            self._took(log, checked, asked, whole=False)
        return decision

    async def take_list(self, log: LabelLog) -> Decision:
        """Take the whole list, with proof of whether it continues the history known here.

        TAKEN; or ASK where the log moved meanwhile. Raises `StoreError`.
        """
        known, digest, started = log.cursor, log.digest, self._clock()
        if log.label in self._verifier.answers:  # before so much is read again
            heads = await self._retriever.heads([log.label])
            await self._check("list", log, heads[log.label], [])
        self._pulse.lists += 1
        head, entries = await read_manifest(self._retriever, log.label)
        if known is not None and self._lag.explains(head, known):
            raise Behind(head, known)
        continues = known is None or await self._continues(head, known, digest)
        checked = await self._check("list", log, head, entries.values())
        if not continues:
            await self._require_no_way_back(log, head)
        if log.cursor != known:  # events moved it meanwhile; the list may be older than they are
            return Decision.ASK
        if checked.trust is not self._verifier.trust:
            return Decision.LIST
        self._require_sound("list", log, checked, entries, log.entries.keys() - entries.keys())
        weak = has_weak_history(self._retriever)
        waits = log.must_wait(entries, continues=continues, weak=weak)
        # A confirmation that such a list brings along is to be known, so that it never counts.
        counted = head if known is None or waits else self._verifier.counted(head)
        held = log.take_list(counted, entries, continues=continues, weak=weak)
        self._took(log, checked, started, whole=True)
        if waits:
            what = "a list without most of the label" if continues else "another history"
            _log.error(
                f"{what}: what it would remove is kept until it is confirmed",
                label=log.label, known=known, found=head.cursor, removals_held=held,
            )  # fmt: skip
        return Decision.TAKEN

    async def _continues(self, head: Head, known: Cursor, digest: LabelDigest) -> bool:
        if head.epoch != known.epoch or head.revision < known.revision:
            return False
        return await self._retriever.digest_at(head.label, known) == digest

    async def _check(
        self, way: str, log: LabelLog, head: Head, entries: Iterable[Entry]
    ) -> _Checked:
        """Prove an answer's head, and find which entries of it are not proved (promise 8).

        Raises:
            UntrustedAnswerError: the head is not proved. The label goes on as it is.
        """
        trust = self._verifier.trust
        if trust is None:
            return _Checked(trust, head)
        if head.label != log.label:
            error = UntrustedError(f"what came is of label {head.label!r}", "altered")
            raise self._refused(way, log, head, error)
        try:
            self._verifier.hear(head)
            judged = self._verifier.in_question(log, entries)
            revisions = {each.revision for each in judged}
            if head.cursor != log.cursor or not self._verifier.is_proven(log.label):
                revisions.add(head.revision)
            proofs = await read_proofs(self._retriever, trust, log.label, head.epoch, revisions)
            if head.revision in revisions:
                proofs.require_head(head)
        except UntrustedError as error:
            raise self._refused(way, log, head, error) from error
        doubted = await proofs.why_not_each(judged)
        return _Checked(trust, head, judged, doubted, proofs)

    async def _require_no_way_back(self, log: LabelLog, head: Head) -> None:
        """Raise `UntrustedAnswerError` unless a publisher says now that the label stands there."""
        try:
            if not self._verifier.is_recent(head):
                heads = await self._retriever.heads([log.label])
                self._verifier.hear(heads[log.label])
            self._verifier.require_no_way_back(log, head, continues=False)
        except UntrustedError as error:
            raise self._refused("list", log, head, error) from error

    def _require_sound(
        self,
        way: str,
        log: LabelLog,
        checked: _Checked,
        news: Mapping[str, Entry],
        gone: Iterable[str],
    ) -> None:
        """Raise `UntrustedAnswerError` where an answer is not proved as a whole after all."""
        try:
            self._verifier.require_sound(log, news, gone, checked.doubted)
        except UntrustedError as error:
            raise self._refused(way, log, checked.head, error) from error

    def _refused(
        self, way: str, log: LabelLog, head: Head, error: UntrustedError
    ) -> UntrustedAnswerError:
        self._verifier.refuse(way, log.label, head.revision, error)
        self._verifier.answers[log.label] = str(error)
        return UntrustedAnswerError(str(error))

    def _took(self, log: LabelLog, checked: _Checked, at: float, *, whole: bool) -> None:
        """Note what is known of a log that has just taken an answer."""
        if checked.proofs is not None:
            self._verifier.judge(log, checked.judged, checked.doubted, whole=whole)
            for api_id, reason in checked.doubted.items():
                revision = log.entries[api_id].revision
                way = "list" if whole else "delta"
                self._verifier.refuse(way, log.label, revision, UntrustedError(reason))
            if self._cache is not None and checked.proofs.verified:
                attestations = checked.proofs.verified.values()
                self._cache.attest(log.label, checked.head.epoch, tuple(attestations))
        if not self._lag.hides(checked.head):
            self._on_read(log, checked.head, at)
