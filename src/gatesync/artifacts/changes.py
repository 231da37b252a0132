"""What a label's log consists of: entries, change sets, heads.

These values travel: through stores, events and HTTP. All are immutable.
"""

from enum import StrEnum

import msgspec

from gatesync.artifacts.digests import EMPTY_LABEL, Count, Digest, LabelDigest
from gatesync.artifacts.model import Identity
from gatesync.artifacts.signatures import Issue, Signature

__all__ = ["Change", "ChangeSet", "Confirmation", "Cursor", "Entry", "Head", "Instruction"]


class Instruction(StrEnum):
    """GATEWAY_INSTRUCTION, with WSO2's own spelling."""

    PUBLISH = "Publish"
    REMOVE = "Remove"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One artifact as a label names it: who it is and which bytes it has.

    `digest` is that of the canonical form, `size` its length in bytes, `revision` that of the
    change set which brought it into the label.
    """

    api_id: str
    tenant: str
    kind: str
    name: str
    version: str
    context: str
    digest: Digest
    size: Count
    revision: Count = 0

    @property
    def identity(self) -> Identity:
        """Tenant, kind, name and version."""
        return Identity(self.tenant, self.kind, self.name, self.version)


class Change(msgspec.Struct, frozen=True, gc=False):
    """One instruction about one artifact. A removal names the entry that it removes."""

    instruction: Instruction
    entry: Entry


class Cursor(msgspec.Struct, frozen=True):
    """A place in a label's log. Revisions of different epochs cannot be compared."""

    epoch: str
    revision: Count


class Confirmation(msgspec.Struct, frozen=True):
    """An operator's word that a label's history at this place is the right one.

    It lets gateways carry out removals that another history implies (`labels confirm`).
    """

    id: str
    epoch: str
    revision: Count
    signature: Signature | None = None


class Head(msgspec.Struct, frozen=True):
    """The newest state of a label. A label that was never used has revision 0 and is empty.

    `issue` is a publisher's signature, where it signs: when it said so.
    """

    label: str
    epoch: str
    revision: Count = 0
    digest: LabelDigest = EMPTY_LABEL
    confirmation: Confirmation | None = None
    issue: Issue | None = None

    @property
    def cursor(self) -> Cursor:
        """Where in the log this head stands."""
        return Cursor(self.epoch, self.revision)


class ChangeSet(msgspec.Struct, frozen=True):
    """Instructions that go live together in one label.

    `previous` is the revision before it, `digest` the label's after it. `published_at` is
    milliseconds since 1970 by the publisher's clock. `signature` is the publisher's, where it
    signs: over all but time and name of the publisher.
    """

    label: str
    epoch: str
    revision: Count
    previous: Count
    changes: tuple[Change, ...]
    digest: LabelDigest
    published_at: int
    publisher: str = ""
    signature: Signature | None = None

    @property
    def id(self) -> str:
        """What log lines call it, from the publisher to each node: `LABEL@REVISION.EPOCH`.

        Of the epoch, a UUID, the first eight digits. A label is taken literally and may hold
        anything, an `@` too: read from the right, what follows the last `@` is never its own.
        """
        return f"{self.label}@{self.revision}.{self.epoch[:8]}"

    @property
    def head(self) -> Head:
        """The label's head after this change set."""
        return Head(self.label, self.epoch, self.revision, self.digest)
