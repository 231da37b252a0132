"""What is known of a message while its sequence is followed, and what finally becomes of it."""

from collections.abc import Callable
from typing import Final

import msgspec
from immutables import Map
from lxml import etree

from gatesync.engines.envoy.conditions import Atom
from gatesync.engines.envoy.endpoints import Target
from gatesync.engines.envoy.values import Unknown, Value

__all__ = ["Branch", "FaultAnswer", "Outcome", "Payload", "Phase", "State"]


class Payload(msgspec.Struct, frozen=True):
    """A body that a sequence has made; `type` is its Content-Type, empty where there is none."""

    body: str
    type: str


class Phase:
    """Where in its life a message is."""

    REQUEST: Final = "request"
    """It came in and is still here."""
    LOOPED: Final = "looped"
    """The same, in the out sequence."""
    ANSWER: Final = "answer"
    """It is the upstream's answer."""
    FAULT: Final = "fault"
    """It was sent, the upstream failed, and it is in the fault sequence."""


class FaultAnswer(msgspec.Struct, frozen=True):
    """What a fault sequence answers when the upstream failed: the same for all requests."""

    status: int
    payload: Payload
    headers: Map[str, str]


class State(msgspec.Struct, frozen=True):
    """Nothing in here changes: each mediator makes another state.

    `headers` are those that were set (a value) or removed (None), by lower-case name, of the
    request or, once that was sent, of the answer; `sent` keeps those of the request then.
    `axis2` are properties of that scope, None where they were removed. `returning`: it was said
    to be an answer, so that a <send/> goes back. `broken`: something before could not be
    translated, so that what only follows from that is not said, too. `handler` are the mediators
    that run should the upstream fail; `fault` is what came of them, and `after_fault` follows on
    with that (None: Envoy's own answer) while they are followed.
    """

    phase: str = Phase.REQUEST
    properties: Map[str, Value | Unknown] = Map()
    headers: Map[str, Value | None] = Map()
    axis2: Map[str, Value | Unknown | None] = Map()
    payload: Payload | None = None
    to: Value | None = None
    target: Target | None = None
    sent: "State | None" = None
    returning: bool = False
    atoms: tuple[tuple[Atom, bool], ...] = ()
    depth: int = 0
    broken: bool = False
    handler: tuple[etree._Element, ...] = ()
    fault: FaultAnswer | None = None
    after_fault: "Callable[[State, FaultAnswer | None], list[Branch]] | None" = None


class Outcome(msgspec.Struct, frozen=True):
    """What Envoy does with a request.

    Without a `target` it answers itself: with `answer_payload`, or, where that is None, with
    the request's own body. `status` 0: the upstream's. `fault` None: where the upstream fails,
    Envoy's own answer.
    """

    target: Target | None
    headers: Map[str, Value | None]
    payload: Payload | None
    postfix: Value | None
    keeps_rest: bool
    method: str
    host: str
    answer_headers: Map[str, Value | None]
    answer_payload: Payload | None
    status: int
    fault: FaultAnswer | None = None


class Branch(msgspec.Struct, frozen=True):
    """What is done with the requests that all of `atoms` match, and no earlier branch took."""

    atoms: tuple[Atom, ...]
    outcome: Outcome
