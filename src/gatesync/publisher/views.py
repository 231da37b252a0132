"""What of an answer is for whoever asks: of the labels that their token may read. Pure.

What is left out leaves no trace: neither a name nor a count tells that there was more.
"""

from collections.abc import Iterable

import msgspec

from gatesync.events.messages import NodeReport
from gatesync.publisher.fleet import NodeStatus
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.publisher.tokens import Principal
from gatesync.stores.store import History

__all__ = ["environments_for", "history_for", "nodes_for", "report_for"]


def history_for(who: Principal, history: History) -> History:
    """The changes in those labels."""
    return History(
        tuple(each for each in history.changes if who.may_read(each.label)),
        {label: floor for label, floor in history.floors.items() if who.may_read(label)},
    )


def nodes_for(who: Principal, nodes: Iterable[NodeStatus]) -> list[NodeStatus]:
    """The nodes that follow one of those labels, and what they say of those."""
    if who.reads_all:
        return list(nodes)
    seen = [
        msgspec.structs.replace(
            node, labels=tuple(each for each in node.labels if who.may_read(each.label))
        )
        for node in nodes
    ]
    return [node for node in seen if node.labels]


def environments_for(
    who: Principal, environments: Iterable[EnvironmentStatus]
) -> list[EnvironmentStatus]:
    """The environments that are pushed those labels and no others: their counts are of all."""
    return [env for env in environments if all(who.may_read(label) for label in env.labels)]


def report_for(who: Principal, report: NodeReport) -> NodeReport:
    """What a node may report: of those labels. It has no say in how far another label is."""
    if who.reads_all:
        return report
    verification = report.verification
    if verification is not None:
        verification = msgspec.structs.replace(
            verification,
            labels=tuple(each for each in verification.labels if who.may_read(each.label)),
        )
    return msgspec.structs.replace(
        report,
        labels=tuple(each for each in report.labels if who.may_read(each.label)),
        verification=verification,
    )
