"""Whether what arrived is signed as it must be, and how old a head is. Decisions, no I/O.

Where a node trusts keys (promise 8):

    a change set  counts if it is signed
    a head        is a proof of being in step as of its issue (promise 11); unsigned it is a hint
    a list        counts if the signed change set of its revision gives the same label digest; an
                  entry in it that no signed change set brought is doubted: followed, not deployed
    going back    needs a recent head that says so

Where it trusts none, everything is as it arrives, and nothing of cryptography is imported. What
proves lists is read and verified in `proving`.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from gatesync.artifacts.changes import Change, ChangeSet, Entry, Head
from gatesync.artifacts.signatures import Attestation, Trust, UntrustedError, attestation_of
from gatesync.gateway.log import LabelLog

__all__ = ["RECENT_SECONDS", "WAYS", "WHYS_REFUSED", "Verifier"]

RECENT_SECONDS: Final = 60.0
"""How far clocks may differ. A head issued longer ago proves nothing of now but its age; one that
claims to be of later than in so many seconds proves nothing at all."""

TOLD_SECONDS: Final = 60.0  # between two log lines of one kind: whoever forges may be quick
WAYS: Final = ("event", "push", "head", "list", "delta", "cache")
WHYS_REFUSED: Final = ("unsigned", "key", "altered", "old", "clock")

_log = structlog.get_logger("gatesync.gateway")


class _Issued(msgspec.Struct, frozen=True):
    """The newest head of a label that was signed. Its confirmation counts, or does not."""

    head: Head
    at: int  # milliseconds since 1970
    confirms: bool


class _Doubt(msgspec.Struct, frozen=True):
    """An entry that no signed change set brought, and what it may not replace."""

    entry: Entry
    reason: str


class Verifier:
    """What one node trusts, and what it found of that.

    Args:
        trust: the keys; None asks for no signatures.
        clock: the monotonic clock.
        wall_clock: seconds since 1970.

    Attributes:
        refused: what was not taken, by way and reason: see `WAYS` and `WHYS_REFUSED`.
        answers: of each label whose store's answer is not taken, why not.
    """

    def __init__(
        self,
        trust: Trust | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.trust = trust
        self.refused: Counter[tuple[str, str]] = Counter()
        self.answers: dict[str, str] = {}
        self._clock = clock
        self._wall_clock = wall_clock
        self._proven: set[str] = set()  # labels whose entries were judged by `trust`
        self._doubts: dict[str, dict[str, _Doubt]] = {}
        self._issued: dict[str, _Issued] = {}
        self._told: dict[tuple[str, str, str], float] = {}

    def renew(self, trust: Trust | None) -> None:
        """Trust other keys from now on. What is known is to be judged anew: see `is_proven`."""
        self.trust = trust
        self._proven.clear()
        self._issued.clear()
        self.answers.clear()

    def forget(self, label: str) -> None:
        """The label is followed no more, or what is known of it is to be judged anew."""
        self._proven.discard(label)
        self._issued.pop(label, None)
        self.answers.pop(label, None)

    # Change sets.

    def change_set(self, change_set: ChangeSet) -> Attestation | None:
        """What is kept of a change set that an event brought; None where nothing is asked for.

        Raises:
            UntrustedError: it is not signed by a key that is trusted.
        """
        if self.trust is None:
            return None
        attestation = attestation_of(change_set)
        self.trust.verify_attestation(change_set.label, change_set.epoch, attestation)
        return attestation

    def took(self, label: str, changes: Iterable[Change]) -> None:
        """A signed change set settles whatever was doubted of these artifacts before."""
        if doubts := self._doubts.get(label):
            for change in changes:
                doubts.pop(change.entry.api_id, None)

    # Heads.

    def believes(self, head: Head, log: LabelLog | None = None) -> bool:
        """Whether a head may be acted on, be it as a hint; what is wrong with others is counted.

        A head without a signature is a hint where the store answered with it. Where an event
        brought it, for this `log`, it is nothing; and a look at its signature is taken only if it
        may be news, so that whoever sends old ones again costs nothing.
        """
        try:
            if log is not None and not self._is_news(head, log):
                return False
            self.hear(head, signed=log is not None)
        except UntrustedError as error:
            self.refuse("head", head.label, head.revision, error)
            if log is None:
                self.answers[head.label] = str(error)
            return False
        return True

    def _is_news(self, head: Head, log: LabelLog) -> bool:
        """Whether a head may say anything new. Raises `UntrustedError` for one that is too old."""
        issued = self._issued.get(head.label)
        if self.trust is None or issued is None or head.issue is None or log.cursor is None:
            return True
        before = (issued.at - head.issue.issued_at) / 1000
        if before > RECENT_SECONDS:
            raise UntrustedError(
                f"the head of label {head.label!r} was issued {before:.0f} s before another one "
                "that came already: it is old, and sent again",
                "old",
            )
        ahead = head.epoch != log.cursor.epoch or head.revision > log.cursor.revision
        return before < 0 or ahead or bool(log.retained)

    def hear(self, head: Head, *, signed: bool = False) -> None:
        """Take note of when a head was issued; `signed` asks for it.

        Raises:
            UntrustedError: it is not signed, though it should be; or not as it should be.
        """
        if self.trust is None or (head.issue is None and not signed):
            return
        at = self.trust.verify_issue(head)
        ahead = at / 1000 - self._wall_clock()
        if ahead > RECENT_SECONDS:  # it would pass for new as long as that lasts
            reason = (
                f"the head of label {head.label!r} is from {ahead:.0f} s ahead of this node's "
                "clock, and proves nothing: set the clocks of this node and of its publishers"
            )
            self.refuse("head", head.label, head.revision, UntrustedError(reason, "clock"))
            return
        before = self._issued.get(head.label)
        if before is None or before.at <= at:
            self._issued[head.label] = _Issued(head, at, self._confirms(head))

    def counted(self, head: Head) -> Head:
        """The head with its confirmation if that counts, else without.

        A confirmation lets removals go: a publisher has to say now that it is the label's, and
        its operator has to have said so.
        """
        if self.trust is None or head.confirmation is None:
            return head
        issued = self._issued.get(head.label)
        said = issued is not None and issued.confirms and issued.head.confirmation
        if said and said.id == head.confirmation.id and self.is_recent(head):
            return head
        return msgspec.structs.replace(head, confirmation=None)

    def is_recent(self, head: Head) -> bool:
        """Whether a publisher said a moment ago that the label stands exactly here."""
        if self.trust is None:
            return True
        age = self._age(head)
        return age is not None and age <= RECENT_SECONDS

    def proven_at(self, head: Head, received: float) -> float | None:
        """Since when a node that stands at `head` knows it; None while nobody signed for it.

        On the monotonic clock. An issue counts from when it was made, so that an old one which is
        sent again makes nothing new. Without keys the word `received` then is enough.
        """
        if self.trust is None:
            return received
        age = self._age(head)
        return None if age is None else self._clock() - age

    # Lists.

    def is_proven(self, label: str) -> bool:
        """Whether all that is known of a label was judged by the keys of now."""
        return self.trust is None or label in self._proven

    def in_question(self, log: LabelLog, entries: Iterable[Entry]) -> list[Entry]:
        """Which of these have yet to be judged: those that are not known, or are doubted."""
        if not self.is_proven(log.label):
            return list(entries)
        known, doubts = log.entries, self._doubts.get(log.label, {})
        return [
            each
            for each in entries
            if known.get(each.api_id) != each or each.api_id in doubts
        ]  # fmt: skip

    def require_no_way_back(self, log: LabelLog, head: Head, *, continues: bool) -> None:
        """Raise `UntrustedError` where a list goes back and no publisher says so now."""
        if continues or self.is_recent(head):
            return
        raise UntrustedError(
            f"revision {head.revision} of label {log.label!r} is not what comes after revision "
            f"{log.cursor.revision if log.cursor else 0}, and no publisher says now that the "
            "label stands there: it is old, or of another history",
            "old",
        )

    def require_sound(
        self,
        log: LabelLog,
        news: Mapping[str, Entry],
        gone: Iterable[str],
        doubted: Collection[str],
    ) -> None:
        """Raise `UntrustedError` where what nobody signed stands beside what goes, or goes back.

        A label digest is a sum. Whoever may put entries of their own choice into a list can make
        it come out, so that with any of these it does not prove what a list lacks.
        """
        known = log.entries
        chosen = [k for k in doubted if k not in known or known[k].digest != news[k].digest]
        if not chosen:
            return
        back = [k for k, each in news.items() if k in known and each.revision < known[k].revision]
        if lost := len(known.keys() & set(gone)) + len(back):
            raise UntrustedError(
                f"in label {log.label!r} what no trusted key signed ({len(chosen)}) stands beside "
                f"what would go, or become older ({lost}); run `gatesync keys sign`"
            )

    def judge(
        self, log: LabelLog, judged: Iterable[Entry], doubted: Mapping[str, str], *, whole: bool
    ) -> None:
        """Take note of what was found of entries; `doubted` gives the reasons by api_id.

        What changed of that is `touched` in the log. A `whole` judgement is of all that is known.
        """
        doubts = self._doubts.setdefault(log.label, {})
        for entry in judged:
            before = doubts.pop(entry.api_id, None)
            if entry.api_id in doubted:
                doubts[entry.api_id] = _Doubt(entry, doubted[entry.api_id])
            if before != doubts.get(entry.api_id):
                log.touched.add(entry.api_id)
        if whole:
            for api_id in doubts.keys() - log.entries.keys() - log.retained.keys():
                del doubts[api_id]
            self._proven.add(log.label)
        self.answers.pop(log.label, None)

    def trust_nobody(self, log: LabelLog) -> None:
        """No keys are asked for any more: what was doubted is as good as everything else."""
        log.touched |= self._doubts.pop(log.label, {}).keys()

    def why_not(self, label: str, entry: Entry) -> str:
        """Why an entry of a label is not to be deployed; empty where it may be."""
        if not (doubts := self._doubts.get(label)):
            return ""
        doubt = doubts.get(entry.api_id)
        return doubt.reason if doubt is not None and doubt.entry == entry else ""

    def doubted(self) -> list[str]:
        """Labels with doubted entries."""
        return [label for label, doubts in self._doubts.items() if doubts]

    # What is refused.

    def refuse(self, way: str, label: str, revision: int, error: UntrustedError) -> None:
        """Count what was not taken, and log it: one line a minute of each kind."""
        self.refused[way, error.why] += 1
        now, kind = self._clock(), (way, label, error.why)
        if now - self._told.get(kind, float("-inf")) < TOLD_SECONDS:
            return
        self._told[kind] = now
        _log.error(
            "not signed as it must be, and refused",
            way=way, label=label, revision=revision, reason=str(error),
            refused=self.refused[way, error.why],
        )  # fmt: skip

    def _confirms(self, head: Head) -> bool:
        if self.trust is None or head.confirmation is None:
            return False
        try:
            self.trust.verify_confirmation(head.label, head.confirmation)
        except UntrustedError as error:
            _log.debug("a confirmation does not count", reason=str(error))
            return False
        return True

    def _age(self, head: Head) -> float | None:
        """Seconds since a publisher said that the label stands exactly at this head."""
        issued = self._issued.get(head.label)
        if issued is None or (issued.head.cursor, issued.head.digest) != (head.cursor, head.digest):
            return None
        return max(0.0, self._wall_clock() - issued.at / 1000)
