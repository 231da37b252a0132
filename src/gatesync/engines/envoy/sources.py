"""Where sequences and endpoints are found that a file names: in its artifact, or on the node."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from lxml import etree

from gatesync.artifacts.base import is_base_name
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Part
from gatesync.artifacts.references import Key, also_serves_as, why_unchecked
from gatesync.artifacts.xml import parse
from gatesync.engines.envoy.faults import Cannot, tag_of

__all__ = ["HARMLESS_BASE", "Need", "Shared", "Sources", "names_of"]

HARMLESS_BASE: Final = frozenset({"_cors_request_handler_", "_build_"})
"""Of the pack's own sequences, those that Envoy's filters do, or that do nothing."""


class Need(NamedTuple):
    """What an artifact refers to: a role (`sequence`, `endpoint`, `policy`) and a name."""

    role: str
    name: str


Shared = Callable[[Need], Part | None]
"""What another artifact of the node and tenant has under a name; None: nothing."""


class Sources:
    """The files that one artifact is translated from.

    `needs` are all names that were looked for outside, found or not: when one of them changes,
    the artifact must be translated anew.
    """

    def __init__(self, parts: Iterable[Part], shared: Shared) -> None:
        self.needs: set[Need] = set()
        self._own = {need: part for part in parts for need in names_of(part)}
        self._shared = shared
        self._parsed: dict[Need, etree._Element] = {}
        self._paths: dict[etree._Element, str] = {}

    def parsed(self, part: Part) -> etree._Element:
        """The root element of one of the artifact's own parts; raises `Problem`."""
        root = parse(part.content, part.path)
        self._paths[root] = part.path
        return root

    def path_of(self, element: etree._Element) -> str:
        """The path of the part that an element stands in."""
        return self._paths.get(element.getroottree().getroot(), "")

    def sequence(self, key: str) -> list[etree._Element]:
        """The mediators of a named sequence; raises `Cannot`."""
        need = Need("sequence", key.strip())
        if need not in self._own and need.name in HARMLESS_BASE:
            return []
        return list(self._element(need).iterchildren(etree.Element))

    def on_error(self, key: str) -> tuple[etree._Element, ...] | None:
        """The mediators of a named sequence's error handler; None: none of its own.

        Raises:
            Cannot: there is no such handler.
        """
        need = Need("sequence", key.strip())
        if need not in self._own and need.name in HARMLESS_BASE:
            return None
        return self.on_error_of(self._element(need))

    def on_error_of(self, sequence: etree._Element) -> tuple[etree._Element, ...] | None:
        """The same of a sequence that is written out."""
        handler = sequence.get("onError")
        return self.fault_sequence(handler) if handler else None

    def fault_sequence(self, key: str) -> tuple[etree._Element, ...]:
        """The mediators of what runs on failures; none of the pack's own. Raises `Cannot`."""
        return () if is_base_name("sequence", key.strip()) else tuple(self.sequence(key))

    def endpoint(self, key: str) -> etree._Element:
        """The element of a named endpoint; raises `Cannot`."""
        return self._element(Need("endpoint", key.strip()))

    def has(self, need: Need) -> bool:
        """Whether something has this name; what asks needs it from now on."""
        return self._find(need) is not None

    def policy(self, names: Iterable[str]) -> Part | None:
        """The first policy that is there under one of these names."""
        found = [self._find(Need("policy", name)) for name in names]
        return next((part for part in found if part), None)

    def own(self, role: str, name: str) -> Part | None:
        """One of the artifact's own parts."""
        return self._own.get(Need(role, name))

    def _find(self, need: Need) -> Part | None:
        part = self._own.get(need)
        if part is None:
            self.needs.add(need)
            part = self._shared(need)
        return part

    def _element(self, need: Need) -> etree._Element:
        if need in self._parsed:
            return self._parsed[need]
        part = self._find(need)
        if part is None:
            raise _missing(need)
        try:
            root = parse(part.content, part.path)
        except Problem as problem:
            raise Cannot(f"{need.role} {need.name!r}: {problem}", "well-formed XML") from None
        self._paths[root] = part.path
        element = root
        if tag_of(root) == "localEntry":
            element = next(
                each for each in root.iterchildren(etree.Element) if tag_of(each) == need.role
            )
        self._parsed[need] = element
        return element


def names_of(part: Part) -> list[Need]:
    """The names under which others find a part; a local entry may hold a sequence."""
    needs = [Need(part.role, part.name)]
    if part.role == "local-entry" and (
        b"<sequence" in part.content or b"<endpoint" in part.content
    ):
        try:
            root = parse(part.content, part.path)
        except Problem:
            return needs
        if root.get("src") is None:
            needs += [Need(role, part.name) for role in also_serves_as(root)]
    return needs


def _missing(need: Need) -> Cannot:
    unchecked = why_unchecked(Key(need.role, need.name, 0))
    if unchecked:
        return Cannot(unchecked, f"a {need.role} that is published as an artifact")
    if is_base_name(need.role, need.name):
        return Cannot(
            f"the {need.role} {need.name!r} is one of the pack's own, which needs Synapse",
            f"a {need.role} of your own, published as an artifact",
        )
    return Cannot(
        f"this node has no {need.role} {need.name!r}", f"publish the {need.role} to this label"
    )
