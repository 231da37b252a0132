"""What a publisher answers over HTTP, as values: for its handlers, and for the command line."""

import msgspec

from gatesync.artifacts.changes import Entry, Head
from gatesync.events.messages import Drift
from gatesync.publisher.fleet import NodeStatus, Receipt
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.publisher.workers import WorkerRow
from gatesync.stores.store import History
from gatesync.stores.wire import WIRE_FORMAT

__all__ = [
    "ArtifactsAnswer",
    "GatewaysAnswer",
    "Held",
    "HistoryAnswer",
    "LabelRequest",
    "LabelsAnswer",
    "ReceiptsAnswer",
    "Verdict",
    "Verification",
    "VerificationAnswer",
]


class Held(msgspec.Struct, frozen=True):
    """An artifact in one label."""

    label: str
    entry: Entry


class Verdict(msgspec.Struct, frozen=True):
    """What a verification found on one node, for one label."""

    node: str
    label: str
    status: str
    """in step | drift | behind | no answer"""
    revision: int = 0
    reason: str = ""
    drifted: tuple[Drift, ...] = ()


class Verification(msgspec.Struct, frozen=True):
    """How far a verification is; `complete` when every node has answered."""

    id: str
    complete: bool
    verdicts: tuple[Verdict, ...]


class LabelRequest(msgspec.Struct, frozen=True):
    """Names a label."""

    label: str


class LabelsAnswer(msgspec.Struct, frozen=True):
    """Every label that was ever used."""

    labels: tuple[Head, ...]
    format: str = WIRE_FORMAT


class ArtifactsAnswer(msgspec.Struct, frozen=True):
    """What labels hold."""

    artifacts: tuple[Held, ...]
    format: str = WIRE_FORMAT


class HistoryAnswer(msgspec.Struct, frozen=True):
    """See `stores.store.History`."""

    history: History
    format: str = WIRE_FORMAT


class GatewaysAnswer(msgspec.Struct, frozen=True):
    """Every gateway, and the heads to compare it with; and how this publisher's pushing goes.

    `workers` are those that rsync copies to.
    """

    gateways: tuple[NodeStatus, ...]
    heads: tuple[Head, ...]
    environments: tuple[EnvironmentStatus, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    format: str = WIRE_FORMAT


class ReceiptsAnswer(msgspec.Struct, frozen=True):
    """What each gateway of a label did about a revision.

    `version` rises with each report that comes in; give it back to wait for more.
    """

    receipts: tuple[Receipt, ...]
    version: int = 0
    format: str = WIRE_FORMAT


class VerificationAnswer(msgspec.Struct, frozen=True):
    """The id to ask for a verification's results."""

    id: str
    format: str = WIRE_FORMAT
