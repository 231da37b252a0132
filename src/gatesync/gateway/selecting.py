"""Which artifacts of this node an operator means. Pure."""

from typing import Final

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.gateway.deployment import Deployment

__all__ = ["Selection", "SelectionError", "select"]

LISTED: Final = 20  # candidates that an ambiguous name is answered with


class SelectionError(Exception):
    """What was named is not one thing that this node can do this with.

    Attributes:
        status: 400, 404 or 409, as HTTP has them.
        code: one word for machines.
    """

    def __init__(self, status: int, code: str, reason: str) -> None:
        self.status = status
        self.code = code
        super().__init__(reason)


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One artifact, by `api_id` or by `name`, or `all`.

    `version`, `kind` and `tenant` make a name exact. A misspelled member is refused: it would
    widen what is meant.
    """

    api_id: str | None = None
    name: str | None = None
    version: str | None = None
    kind: str | None = None
    tenant: str | None = None
    all: bool = False

    def check(self) -> None:
        """Raise `SelectionError` unless it says what is meant in exactly one way."""
        ways = [self.api_id is not None, self.name is not None, self.all]
        if ways.count(True) != 1:
            reason = 'give one of api_id, name, and "all": true'
            raise SelectionError(400, "invalid", reason)
        exact = (self.version, self.kind, self.tenant)
        if self.name is None and any(each is not None for each in exact):
            reason = "version, kind and tenant make a name exact; give them with a name"
            raise SelectionError(400, "invalid", reason)

    def fits(self, api_id: str, entry: Entry) -> bool:
        """Whether it means this artifact."""
        if self.api_id is not None:
            return api_id == self.api_id
        asked = (self.name, self.version, self.kind, self.tenant)
        found = (entry.name, entry.version, entry.kind, entry.tenant)
        return all(want in (None, have) for want, have in zip(asked, found, strict=True))

    def __str__(self) -> str:
        """For messages: what was asked for."""
        if self.api_id is not None:
            return f"api_id {self.api_id[:255]!r}"
        asked = {"kind": self.kind, "name": self.name, "version": self.version}
        asked["tenant"] = self.tenant
        return ", ".join(f"{key} {value[:255]!r}" for key, value in asked.items() if value)


def select(selection: Selection, deployment: Deployment) -> str:
    """The api_id of the one artifact that is meant, which is to be served here.

    What its operator undeployed is to be served here, until then.

    Raises:
        SelectionError: 400 it is not said what is meant; 404 there is no such artifact here;
            409 there are several, or it is not to be served by this node.
    """
    selection.check()
    here = _to_be_served(deployment)
    found = {each for each, entry in here.items() if selection.fits(each, entry)}
    if len(found) == 1:
        return found.pop()
    if found:
        several = sorted(f"{here[each].identity} (api_id {each})" for each in found)
        more = ", ..." if len(several) > LISTED else ""
        raise SelectionError(
            409, "ambiguous", f"{selection} is not one: {', '.join(several[:LISTED])}{more}"
        )
    for api_id, skipped in deployment.skipped.items():
        if selection.fits(api_id, skipped.entry):
            reason = f"{selection} is not to be served here: {skipped.reason}"
            raise SelectionError(409, "skipped", reason)
    raise SelectionError(404, "not-found", f"no label of this node has {selection}")


def _to_be_served(deployment: Deployment) -> dict[str, Entry]:
    here = {api_id: wanted.entry for api_id, wanted in deployment.applied.items()}
    here |= {api_id: wanted.entry for api_id, wanted in deployment.waiting.items()}
    here |= {api_id: failure.wanted.entry for api_id, failure in deployment.failed.items()}
    return here | deployment.withheld
