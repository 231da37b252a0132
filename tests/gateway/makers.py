"""Entries, change sets and heads, made short."""

from collections.abc import Sequence

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Entry, Head, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest, digest_of
from tests.contracts.saves import id_of

EPOCH = "epoch-1"
OTHER = "epoch-2"


def content(name: str, version: object = 1) -> bytes:
    return f"{name} {version}".encode()


def entry(name: str, version: object = 1, *, revision: int = 1, context: str = "") -> Entry:
    body = content(name, version)
    return Entry(
        api_id=id_of(name),
        tenant="carbon.super",
        kind="api",
        name=name,
        version="1.0.0",
        context=context or f"/{name}",
        digest=digest_of(body),
        size=len(body),
        revision=revision,
    )


def digest_over(entries: Sequence[Entry]) -> LabelDigest:
    digest = EMPTY_LABEL
    for each in entries:
        digest = digest.add(each.api_id, each.digest)
    return digest


class History:
    """A label's history as its store has it: what a gateway is offered comes out of one."""

    def __init__(self, label: str = "L", epoch: str = EPOCH, revision: int = 0) -> None:
        self.label = label
        self.epoch = epoch
        self.revision = revision
        self.entries: dict[str, Entry] = {}
        self.confirmation: Confirmation | None = None

    @property
    def head(self) -> Head:
        digest = digest_over(list(self.entries.values()))
        return Head(self.label, self.epoch, self.revision, digest, self.confirmation)

    def copy(self) -> "History":
        """A backup, or where another history begins."""
        copy = History(self.label, self.epoch, self.revision)
        copy.entries = dict(self.entries)
        copy.confirmation = self.confirmation
        return copy

    def publish(self, *names: str, version: object = 1) -> ChangeSet:
        self.revision += 1
        made = [entry(name, version, revision=self.revision) for name in names]
        self.entries.update((each.api_id, each) for each in made)
        return self._change_set([Change(Instruction.PUBLISH, each) for each in made])

    def remove(self, *names: str) -> ChangeSet:
        self.revision += 1
        gone = [self.entries.pop(id_of(name)) for name in names]
        return self._change_set([Change(Instruction.REMOVE, each) for each in gone])

    def confirm(self, name: str) -> Head:
        self.confirmation = Confirmation(name, self.epoch, self.revision)
        return self.head

    def names(self) -> set[str]:
        return {each.name for each in self.entries.values()}

    def _change_set(self, changes: list[Change]) -> ChangeSet:
        return ChangeSet(
            label=self.label,
            epoch=self.epoch,
            revision=self.revision,
            previous=self.revision - 1,
            changes=tuple(changes),
            digest=self.head.digest,
            published_at=1_700_000_000_000,
        )


def without_confirmation(head: Head) -> Head:
    return msgspec.structs.replace(head, confirmation=None)
