"""What is to be written into the cache: noted at once, taken as one batch later. No I/O.

Only api_ids are noted; their values are read from the live objects when a batch is taken. So a
batch is the state of one moment, and nothing queues up while the disk is away: what a failed batch
was about is taken whole the next time.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from gatesync.artifacts.signatures import Attestation
from gatesync.gateway.cache_writing import Batch, LabelPart
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LabelLog

__all__ = ["Pending"]

PENDING_BYTES: Final = 64 * 1024 * 1024  # of contents that wait to be written, or are being so
SERVED_BYTES: Final = 8 * 1024 * 1024  # asked of the engine for one batch
SUPERFLUOUS: Final = 1_000  # attestations that the file may hold for nothing before it is swept


class Pending:
    """See the module.

    Args:
        served: what the engine serves under an api_id: asked for contents that the file lacks.

    Attributes:
        dropped: how many contents found no room. They are asked of the engine later.
    """

    def __init__(self, served: Callable[[str], bytes | None]) -> None:
        self.dropped = 0
        self._served = served
        self._labels: dict[str, _Followed] = {}
        self._forgotten: set[str] = set()
        self._applied: Mapping[str, Wanted] = {}
        self._stored = False  # the file differs from `_applied` in `_touched` only
        self._loaded: dict[str, Wanted] = {}  # of what the file holds: not touched since
        self._touched: set[str] = set()
        self._changed = False  # `_applied` or `_contents`
        self._contents: dict[str, bytes] = {}
        self._bytes = 0  # of `_contents`, and of the batch that is being written
        self._lacking: dict[str, None] = {}  # api_ids whose contents the file lacks, in order
        self._asked: list[str] = []  # those in the batch that is being written
        self._attestations: dict[tuple[str, str], dict[int, Attestation]] = {}
        self._unattested: set[str] = set()

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        labels = any(each.dirty for each in self._labels.values())
        return labels or bool(
            self._forgotten or self._changed or self._lacking or self._attestations
        )

    def loaded(self, logs: Collection[LabelLog], applied: Mapping[str, Wanted]) -> None:
        """The file holds these logs, and this was applied.

        Where that is of other labels, too, it is written anew: these were lost, may never be heard
        of again, and what they had must not come back at a later start.
        """
        self._labels = {log.label: _Followed(log, stored=True) for log in logs}
        self._stored = all(each.label in self._labels for each in applied.values())
        self._loaded = dict(applied) if self._stored else {}

    def follow(self, log: LabelLog, touched: Collection[str]) -> None:
        """A log moved."""
        known = self._labels.get(log.label)
        if known is None or known.log is not log:
            known = self._labels[log.label] = _Followed(log, stored=False)
        known.touch(touched)
        self._forgotten.discard(log.label)

    def forget(self, label: str) -> None:
        """A label is no longer followed."""
        self._labels.pop(label, None)
        self._forgotten.add(label)

    def applied(
        self,
        applied: Mapping[str, Wanted],
        touched: Collection[str],
        contents: Mapping[str, bytes],
    ) -> None:
        """The engine's state changed. `applied` is that live state."""
        self._applied = applied
        if self._stored:
            # A start touches everything, and changes next to nothing of it.
            held = self._loaded
            news = {k for k in touched if k not in held or held.pop(k) != applied.get(k)}
            self._touched |= news
            self._changed = self._changed or bool(news or contents)
        else:
            self._changed = True
        for digest, content in contents.items():
            if digest in self._contents:
                continue
            if self._bytes + len(content) > PENDING_BYTES:
                self.dropped += 1
                continue
            self._contents[digest] = content
            self._bytes += len(content)

    def attest(self, label: str, epoch: str, attestations: Iterable[Attestation]) -> None:
        """These prove revisions of a label."""
        known = self._attestations.setdefault((label, epoch), {})
        for each in attestations:
            self._bytes += 0 if each.revision in known else _size(each)
            known[each.revision] = each
        if self._bytes > PENDING_BYTES:  # the disk is away: they are asked for again when it is not
            self._drop_attestations()

    def unattested(self) -> set[str]:
        """Labels that lost attestations before they were written, once the disk takes them."""
        if self._attestations:
            return set()
        lost, self._unattested = self._unattested, set()
        return lost & self._labels.keys()

    def take(self) -> Batch:
        """Everything that is to be written, as of now. One batch at a time."""
        whole = self._changed and not self._stored
        touched = {api_id: self._applied.get(api_id) for api_id in self._touched}
        batch = Batch(
            labels=tuple(each.take() for each in self._labels.values() if each.dirty),
            forgotten=frozenset(self._forgotten),
            applied=dict(self._applied) if whole else touched,
            whole=whole,
            contents=self._contents,
            served=self._ask_engine(),
            attestations=self._attestations,
            attested=self._attested(),
        )
        self._attestations = {}
        self._stored = self._stored or whole  # unless it fails: what is touched now is noted
        self._changed = False
        self._touched, self._forgotten, self._contents = set(), set(), {}
        return batch

    def written(self, lacking: Iterable[str]) -> None:
        """The batch is in the file; these api_ids of it lack their contents there."""
        self._asked = []
        self._lacking.update(dict.fromkeys(lacking))
        self._bytes = sum(map(len, self._contents.values()))
        for attestations in self._attestations.values():
            self._bytes += sum(map(_size, attestations.values()))

    def not_written(self, batch: Batch) -> None:
        """The batch is not in the file: what it was about is taken whole next time."""
        for part in batch.labels:
            if part.label in self._labels:
                self._labels[part.label].write_again()
        if batch.applied or batch.whole:
            self._applied_again()
        self._changed = self._changed or bool(batch.contents)
        self._forgotten.update(batch.forgotten - self._labels.keys())
        self._contents = {**batch.contents, **self._contents}
        for place, attestations in batch.attestations.items():
            self._attestations[place] = {**attestations, **self._attestations.get(place, {})}
        self._lacking.update(dict.fromkeys(self._asked))
        self.written(())

    def lost(self) -> None:
        """The file is gone: everything is to be written."""
        self._applied_again()
        self._unattested.update(self._labels)
        for each in self._labels.values():
            each.write_again()

    def _attested(self) -> dict[str, frozenset[int]]:
        """Which revisions are needed of labels for which many more may lie in the file."""
        for (label, _), attestations in self._attestations.items():
            if label in self._labels:
                self._labels[label].attested += len(attestations)
        found: dict[str, frozenset[int]] = {}
        for label, followed in self._labels.items():
            log = followed.log
            if log.cursor is None or followed.attested <= SUPERFLUOUS + len(log.entries):
                continue
            followed.attested = 0
            held = {each.revision for each in (*log.entries.values(), *log.retained.values())}
            served = (each.entry.revision for each in self._applied.values() if each.label == label)
            found[label] = frozenset({log.cursor.revision, *held, *served})
        return found

    def _drop_attestations(self) -> None:
        self._unattested.update(label for label, _ in self._attestations)
        for attestations in self._attestations.values():
            self._bytes -= sum(map(_size, attestations.values()))
        self._attestations = {}
        self.dropped += 1

    def _applied_again(self) -> None:
        self._stored, self._changed = False, True
        self._touched.clear()
        self._loaded.clear()

    def _ask_engine(self) -> dict[str, bytes]:
        """Some of the contents that the file lacks, by digest, unverified."""
        served: dict[str, bytes] = {}
        size = 0
        while self._lacking and size < SERVED_BYTES:
            api_id = next(iter(self._lacking))
            del self._lacking[api_id]
            self._asked.append(api_id)
            wanted, content = self._applied.get(api_id), self._served(api_id)
            if wanted is not None and content is not None:
                served[wanted.entry.digest] = content
                size += len(content)
        return served


class _Followed:
    """A log that is kept in the file."""

    def __init__(self, log: LabelLog, *, stored: bool) -> None:
        self.log = log
        self.dirty = False
        self.attested = 0  # attestations that were written since the superfluous ones were removed
        self._stored = stored  # the file differs from it in `_touched` only
        self._touched: set[str] = set()
        self._loaded = log.state() if stored else None  # until it is touched

    def touch(self, touched: Collection[str]) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None and loaded == self.log.state():
            return  # a start touches everything, and changes nothing
        if self._stored:
            self._touched.update(touched)
        self.dirty = True

    def take(self) -> LabelPart:
        """What is to be written, as of now; costs what was touched."""
        log, whole, touched = self.log, not self._stored, self._touched
        self._stored, self._touched, self.dirty = True, set(), False
        return LabelPart(
            label=log.label,
            state=log.state(),
            entries=dict(log.entries) if whole else {k: log.entries.get(k) for k in touched},
            retained=dict(log.retained) if whole else {k: log.retained.get(k) for k in touched},
            whole=whole,
        )

    def write_again(self) -> None:
        """Have all of it written."""
        self._stored, self.dirty = False, True
        self._touched.clear()


def _size(attestation: Attestation) -> int:
    """Its bytes in memory, more or less."""
    return len(attestation.leaves) + 500
