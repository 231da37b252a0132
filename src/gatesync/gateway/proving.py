"""Proves lists by attestations: reads them, verifies each once, and says what each entry has.

    proofs = await read_proofs(retriever, trust, "L", epoch, revisions)
    proofs.require_head(head)            the list as a whole
    proofs.why_not(entry)                one entry of it

A verification takes some 200 microseconds, ten thousand of them two seconds: the loop's other tasks
have their turn in between. A thread would not help: the library holds the interpreter's lock.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from gatesync.artifacts.changes import Entry, Head
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.signatures import Attestation, Trust, UntrustedError, publish_leaf
from gatesync.gateway.cache import Remembered
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LabelLog
from gatesync.gateway.verifying import Verifier
from gatesync.stores.store import PAGE_ATTESTATIONS, Retriever

__all__ = ["Proofs", "judge_remembered", "read_proofs"]

AT_ONCE: Final = 16  # verified before other tasks have their turn: some 4 ms

SIGN: Final = "run `gatesync keys sign` where a publisher with a trusted key runs"


class Proofs:
    """The verified attestations of one label in one epoch."""

    def __init__(self, trust: Trust, label: str, epoch: str) -> None:
        self.verified: dict[int, Attestation] = {}
        self._trust = trust
        self._label = label
        self._epoch = epoch
        self._faults: dict[int, UntrustedError] = {}
        self._leaves: dict[int, frozenset[bytes]] = {}

    async def add(self, attestations: Iterable[Attestation]) -> None:
        """Verify these."""
        for number, each in enumerate(attestations):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                self._trust.verify_attestation(self._label, self._epoch, each)
            except UntrustedError as error:
                self._faults[each.revision] = error
            else:
                self.verified[each.revision] = each

    def require_head(self, head: Head) -> None:
        """Raise `UntrustedError` unless a signed change set led to this very head.

        What the label holds is proved by that, and what it does not hold, too.
        """
        if head.revision == 0:
            if head.digest != EMPTY_LABEL:
                raise UntrustedError(f"label {self._label!r} is not empty at revision 0", "altered")
            return
        found = self._of(head.revision)
        if found.digest != head.digest:
            raise UntrustedError(
                f"what is given as revision {head.revision} of label {self._label!r} has "
                f"{head.digest.count} artifacts, and is not what key {found.signature.key_id} "
                f"signed as that revision, with {found.digest.count}",
                "altered",
            )

    def why_not(self, entry: Entry) -> str:
        """Why an entry is not proved; empty where its revision's signed change set brought it."""
        try:
            found = self._of(entry.revision)
        except UntrustedError as error:
            return str(error)
        if entry.revision not in self._leaves:
            self._leaves[entry.revision] = found.split()
        if publish_leaf(entry) in self._leaves[entry.revision]:
            return ""
        return (
            f"revision {entry.revision} of label {self._label!r}, as key "
            f"{found.signature.key_id} signed it, did not bring {entry.identity} as it is here"
        )

    async def why_not_each(self, entries: Iterable[Entry]) -> dict[str, str]:
        """The same of many, by api_id; those that are proved are left out."""
        doubted: dict[str, str] = {}
        for number, entry in enumerate(entries):
            if number % (32 * AT_ONCE) == 0:
                await asyncio.sleep(0)
            if reason := self.why_not(entry):
                doubted[entry.api_id] = reason
        return doubted

    def _of(self, revision: int) -> Attestation:
        if (found := self.verified.get(revision)) is not None:
            return found
        what = f"revision {revision} of label {self._label!r}"
        fault = self._faults.get(revision)
        if fault is None:
            raise UntrustedError(f"{what} is not signed by a key that this node trusts; {SIGN}")
        raise UntrustedError(f"{fault}; {SIGN}" if fault.why == "key" else str(fault), fault.why)


async def read_proofs(
    retriever: Retriever, trust: Trust, label: str, epoch: str, revisions: Collection[int]
) -> Proofs:
    """Read and verify what a store kept of these revisions. Raises `StoreError`."""
    proofs = Proofs(trust, label, epoch)
    wanted = sorted(set(revisions) - {0}, reverse=True)
    while wanted:
        after = wanted[-1] - 1
        # One page of all, or only a few where only a few are wanted, which may lie far apart.
        limit = min(PAGE_ATTESTATIONS, wanted[0] - after, max(64, 4 * len(wanted)))
        page = await retriever.attestations(label, after, limit)
        last = max((each.revision for each in page), default=0)
        if last <= after:
            break
        needed = set(wanted)
        await proofs.add(each for each in page if each.revision in needed)
        while wanted and wanted[-1] <= last:
            wanted.pop()
    return proofs


async def judge_remembered(verifier: Verifier, remembered: Remembered) -> Remembered:
    """What of a node's own disk may be believed: a disk can be written by others, too.

    A log whose head is not proved is dropped with all that was applied of it: the store is asked
    for all of the label. What was applied is dropped where nothing proves it.
    """
    trust = verifier.trust
    if trust is None:
        return remembered
    labels: dict[str, LabelLog] = {}
    applied: dict[str, Wanted] = {}
    for label, log in remembered.labels.items():
        kept = remembered.attestations.get(label, {})
        served = {k: each.entry for k, each in remembered.applied.items() if each.label == label}
        try:
            found = await _judge_log(verifier, trust, log, kept, served)
        except UntrustedError as error:
            verifier.refuse("cache", label, log.cursor.revision if log.cursor else 0, error)
            continue
        labels[label] = log
        applied.update((k, remembered.applied[k]) for k in served.keys() - found)
        if found:
            reason = next(iter(found.values()))
            revision = served[next(iter(found))].revision
            verifier.refuse("cache", label, revision, UntrustedError(reason))
    return Remembered(labels, applied)


async def _judge_log(
    verifier: Verifier,
    trust: Trust,
    log: LabelLog,
    kept: Mapping[str, Iterable[Attestation]],
    served: Mapping[str, Entry],
) -> dict[str, str]:
    """Judge a log's entries; answers with what was applied and is not proved, and why.

    What is retained or served may be of another epoch than the log by now.
    """
    if log.cursor is None:
        raise UntrustedError(f"label {log.label!r} has no revision")
    epochs: dict[str, Proofs] = {}
    for epoch in {log.cursor.epoch, *kept}:
        epochs[epoch] = Proofs(trust, log.label, epoch)
        await epochs[epoch].add(kept.get(epoch, ()))
    own = epochs[log.cursor.epoch]
    own.require_head(Head(log.label, log.cursor.epoch, log.cursor.revision, log.digest))
    doubted = await own.why_not_each(log.entries.values())
    others = {api_id: _why_not_any(epochs.values(), each) for api_id, each in log.retained.items()}
    doubted |= {api_id: reason for api_id, reason in others.items() if reason}
    verifier.judge(log, [*log.entries.values(), *log.retained.values()], doubted, whole=True)
    found: dict[str, str] = {}
    for api_id, entry in served.items():
        if log.entries.get(api_id) == entry and api_id not in doubted:
            continue
        if reason := _why_not_any(epochs.values(), entry):
            found[api_id] = reason
    return found


def _why_not_any(epochs: Iterable[Proofs], entry: Entry) -> str:
    reason = ""
    for proofs in epochs:
        if not (reason := proofs.why_not(entry)):
            return ""
    return reason
