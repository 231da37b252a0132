"""What a token may change: the labels and tenants that a request may name.

A request that names one outside is refused whole, before anything of it is stored. The labels
stand in the request. The tenants do not: a published artifact says its own, in its canonical form,
and of one that is to be removed the store is asked whose it is.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.names import check_label
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.publisher.tokens import Principal
from gatesync.stores.store import SaveOutcome, Saver
from gatesync.web.app import ForbiddenError

__all__ = ["check_confirming", "check_publishing", "check_reading", "check_tenants"]

NAMED: Final = 5  # of what was not allowed; more would not help anybody


def check_reading(who: Principal, label: str) -> None:
    """Raise `ForbiddenError` for a label that it may not read, whether there is one or not."""
    check_label(label)
    if not who.may_read(label):
        raise ForbiddenError(f"this token may not read label {label!r}")


def check_publishing(who: Principal, labels: Iterable[str] = ()) -> None:
    """Raise `ForbiddenError` unless it may publish, and to each of these labels.

    What is no label at all is left to those who say what is wrong with it.
    """
    if not who.may_publish():
        raise ForbiddenError("this token may not publish; one with the role 'publish' may")
    refused = [label for label in labels if not who.may_publish_to(label) and _is_label(label)]
    if refused:
        raise ForbiddenError(
            f"this token may not publish to {_listed('label', refused)}; "
            f"it may to {_listed('label', who.labels)}"
        )


def check_confirming(who: Principal, label: str) -> None:
    """Raise `ForbiddenError` unless it may confirm the label: of all tenants at once."""
    check_publishing(who, [label])
    if who.tenants:
        raise ForbiddenError(
            f"this token may not confirm label {label!r}: that is of all its tenants, "
            f"and it may publish for {_listed('tenant', who.tenants)} only"
        )


async def check_tenants(
    requests: Sequence[SaveRequest], saver: Saver, tenants: Sequence[str]
) -> None:
    """Raise `ForbiddenError` where requests touch an artifact of another tenant than these.

    Without `tenants` there is no limit. What another request does between this look and the save
    is not missed: the plan looks again (`SaveRequest.tenants`).
    """
    if not tenants:
        return
    items = [(each, item) for each in requests for items in each.sets for item in items]
    touched = {item.entry.tenant for _, item in items if isinstance(item, Publish)}
    removing = [
        msgspec.structs.replace(each, labels=(label,), sets=((item,),), tenants=(), force=True)
        for each, item in items
        if isinstance(item, Remove)
        for label in each.labels
    ]  # one by one, so that nothing but their being there stands against them
    for outcome in await saver.preview(removing) if removing else ():
        if isinstance(outcome, SaveOutcome):
            touched |= {change.entry.tenant for s in outcome.change_sets for change in s.changes}
    if refused := sorted(touched - set(tenants)):
        raise ForbiddenError(
            f"this token may not publish for {_listed('tenant', refused)}; "
            f"it may for {_listed('tenant', tenants)}"
        )


def _is_label(label: str) -> bool:
    try:
        check_label(label)
    except Problem:
        return False
    return True


def _listed(what: str, names: Sequence[str]) -> str:
    said = ", ".join(repr(each) for each in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{what}{'s' if len(names) > 1 else ''} {said}{more}"
