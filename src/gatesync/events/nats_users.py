"""A node as the broker knows it: its public nkey, and the subjects that are its own."""

from collections.abc import Collection
from typing import Annotated, Final

import msgspec

from gatesync.artifacts.names import check_label, check_node_id, label_token
from gatesync.events.nkeys import PUBLIC_PATTERN

__all__ = ["LABEL_SUBJECT", "REPORT_SUBJECT", "NodeUser", "node_user"]

LABEL_SUBJECT: Final = "gatesync.label."
REPORT_SUBJECT: Final = "gatesync.report."

_Nkey = Annotated[str, msgspec.Meta(pattern=PUBLIC_PATTERN)]
_Heard = Annotated[str, msgspec.Meta(pattern=r"\Agatesync\.label\.([0-9a-f]{64}|\*)\Z")]


class NodeUser(msgspec.Struct, frozen=True):
    """What one node may do: listen to `hears`, and report as `node`. There is no secret in it.

    The subjects in place of the labels: the broker's host need not know their names.
    """

    node: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
    nkey: _Nkey
    hears: tuple[_Heard, ...]

    @property
    def reports(self) -> str:
        """The one subject that it sends to."""
        return REPORT_SUBJECT + self.node


def node_user(node: str, nkey: str, labels: Collection[str] | None) -> NodeUser:
    """A node with what it may hear; None is every label.

    Raises:
        Problem: the node's id or a label is none: a wildcard in it would open what is another's.
    """
    check_node_id(node)
    if labels is None:
        return NodeUser(node, nkey, (LABEL_SUBJECT + "*",))
    subjects = {LABEL_SUBJECT + label_token(check_label(label)) for label in labels}
    return NodeUser(node, nkey, tuple(sorted(subjects)))
