"""What is still to be done of a sequence, and what runs should the upstream fail meanwhile."""

from collections.abc import Iterable

import msgspec
from lxml import etree

from gatesync.artifacts.base import is_base_name
from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.sources import HARMLESS_BASE, Sources
from gatesync.engines.envoy.state import State

__all__ = [
    "Mediators",
    "OnFault",
    "Todo",
    "answers_as_envoy",
    "before",
    "guarded",
    "mediators_of",
    "written_out",
]


class OnFault(msgspec.Struct, frozen=True):
    """Stands among mediators: from here on these run when an upstream fails."""

    mediators: tuple[etree._Element, ...]


Mediators = list[etree._Element | OnFault]

# What is still to be done: a mediator, and what comes after it.
Todo = tuple[etree._Element | OnFault, "Todo"] | None


def guarded(sources: Sources, key: str, handler: tuple[etree._Element, ...]) -> Mediators:
    """The mediators of a named sequence, its error handler before and the one around it after.

    Raises:
        Cannot: there is no such sequence, or no such handler.
    """
    return _between(sources.on_error(key), sources.sequence(key), handler)


def written_out(
    sources: Sources, sequence: etree._Element, handler: tuple[etree._Element, ...]
) -> Mediators:
    """The same of a sequence that stands where it is run."""
    return _between(sources.on_error_of(sequence), mediators_of(sequence), handler)


def _between(
    own: tuple[etree._Element, ...] | None,
    mediators: list[etree._Element],
    handler: tuple[etree._Element, ...],
) -> Mediators:
    return [*mediators] if own is None else [OnFault(own), *mediators, OnFault(handler)]


def answers_as_envoy(key: str, state: State) -> bool:
    """Whether one of the pack's own sequences is run on a failure, for which Envoy answers.

    Raises:
        Cannot: something was made for the answer before.
    """
    if key in HARMLESS_BASE or not is_base_name("sequence", key):
        return False
    sent = state.sent
    status_set = sent is None or state.axis2.get("HTTP_SC") != sent.axis2.get("HTTP_SC")
    if state.headers or state.payload or status_set:
        raise Cannot(
            f"the sequence {key!r} is one of the pack's own, for which Envoy answers by itself",
            "<respond/> in its place, or nothing set before it",
        )
    return True


def before(elements: Iterable[etree._Element | OnFault], rest: Todo) -> Todo:
    """What is to be done where these come before the rest."""
    for element in reversed(list(elements)):
        rest = (element, rest)
    return rest


def mediators_of(element: etree._Element) -> list[etree._Element]:
    """Those that stand in an element."""
    return list(element.iterchildren(etree.Element))
