"""What Envoy cannot do of an artifact, said so that a person can mend it."""

from typing import cast

import msgspec
from lxml import etree

from gatesync.artifacts.errors import Problem

__all__ = ["Cannot", "Fault", "Refusal", "line_of", "tag_of"]


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing that cannot be translated.

    Args:
        path: the part's, as the artifact has it; a shared sequence's, where it stands in that.
        line: in that part, from 1; 0: the whole of it.
        element: the XML element, without its namespace.
        resource: the methods and pattern of the API's resource; empty: the API as a whole.
        reason: why not.
        instead: what would work.
        by_settings: whether another gateway's settings would let it pass.
    """

    path: str
    line: int
    element: str
    resource: str
    reason: str
    instead: str
    by_settings: bool = False

    @property
    def problem(self) -> Problem:
        """For messages: `<script> in GET /menu: ...; instead: ...`."""
        where = f" in {self.resource}" if self.resource else ""
        text = f"<{self.element}>{where}: {self.reason}; instead: {self.instead}"
        return Problem(text, where=self.path, line=self.line)


class Refusal(msgspec.Struct, frozen=True):
    """Why an artifact is not served: everything in it that cannot be, in order."""

    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return "\n".join(str(fault.problem) for fault in self.faults)


class Cannot(Exception):
    """Raised where one element cannot be translated.

    Args:
        reason: why not.
        instead: what would work.
        element: the one at fault; None: the one that is being translated where this is caught.
        by_settings: whether the gateway's settings could let it pass.
    """

    def __init__(
        self,
        reason: str,
        instead: str,
        element: etree._Element | None = None,
        *,
        by_settings: bool = False,
    ) -> None:
        super().__init__(f"{reason}; instead: {instead}")
        self.reason = reason
        self.instead = instead
        self.element = element
        self.by_settings = by_settings


def tag_of(element: etree._Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def line_of(element: etree._Element) -> int:
    """Where it begins."""
    return cast("int", element.sourceline)
