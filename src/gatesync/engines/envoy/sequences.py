"""Sequences, followed as Synapse would follow them, once for all requests.

What a request does not decide is computed; where it decides (a filter on its method, a header...)
both ways are followed. Each way ends in what Envoy is to do with the requests that go it.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from immutables import Map
from lxml import etree

from gatesync.engines.envoy.conditions import (
    And,
    Atom,
    Condition,
    Fixed,
    Not,
    Or,
    boolean,
    matching,
)
from gatesync.engines.envoy.endpoints import target_of
from gatesync.engines.envoy.expressions import Reference
from gatesync.engines.envoy.faults import Cannot, tag_of
from gatesync.engines.envoy.mediators import CHANGING, is_harmless, why_not
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.outcomes import answered, failed, passed_on
from gatesync.engines.envoy.pending import (
    Mediators,
    OnFault,
    Todo,
    answers_as_envoy,
    before,
    guarded,
    mediators_of,
    written_out,
)
from gatesync.engines.envoy.reading import read
from gatesync.engines.envoy.sources import Sources
from gatesync.engines.envoy.state import Branch, FaultAnswer, Phase, State
from gatesync.engines.envoy.values import Unknown, Value

__all__ = ["Walk"]

Step = State | tuple[Todo, State] | list[Branch]

_ENDING: Final = frozenset({"respond", "drop", "loopback"})
_MOST_BRANCHES: Final = 256
_DEEPEST: Final = 64  # sequences in sequences; Synapse would run for ever in more


class Walk:
    """Follows the sequences of one resource.

    Args:
        sources: where sequences and endpoints of other files are found.
        options: the gateway's.
        known: properties that have a value before the first mediator.
        report: told of each element that cannot be translated; the rest is followed all the same,
            so that everything is said at once.
    """

    def __init__(
        self,
        sources: Sources,
        options: Options,
        known: dict[str, Value],
        report: Callable[[etree._Element, Cannot], None],
    ) -> None:
        self._sources = sources
        self._options = options
        self._known = known
        self._report = report
        self._count = 0
        self._out: Mediators | None = None

    def branches(
        self,
        resource: etree._Element,
        into: Mediators | None,
        out: Mediators | None,
    ) -> list[Branch]:
        """What becomes of requests to a resource whose sequences hold these mediators.

        None stands for a sequence that is not there: without an out sequence answers go back as
        they are.
        """
        self._out = out
        self._resource = resource
        return self._run(before(into or (), None), State())

    def _run(self, todo: Todo, state: State) -> list[Branch]:
        while todo is not None:
            element, todo = todo
            if isinstance(element, OnFault):
                state = msgspec.structs.replace(state, handler=element.mediators)
                continue
            tag = tag_of(element)
            if is_harmless(element):
                continue
            try:
                step = self._step(tag, element, todo, state)
            except Cannot as cannot:
                if tag not in _ENDING or not state.broken:
                    self._report(element if cannot.element is None else cannot.element, cannot)
                if tag in _ENDING:
                    return []
                state = msgspec.structs.replace(state, broken=True)
                continue
            if isinstance(step, list):
                return step
            if isinstance(step, State):
                state = step
            else:
                todo, state = step
        return self._end(state)

    def _end(self, state: State) -> list[Branch]:
        """Where a sequence ends and nothing was sent: 202, as Synapse's transport has it."""
        if state.phase == Phase.REQUEST:
            return [_branch(state, answered(msgspec.structs.replace(state, payload=None), 202))]
        if state.after_fault is not None:
            return state.after_fault(state, None)
        if state.broken:
            return []
        what = "the upstream's answer is" if state.phase == Phase.ANSWER else "the message is"
        reason = f"{what} never sent back, so that the client would wait in vain"
        self._report(self._resource, Cannot(reason, "<respond/> at the end of the sequence"))
        return []

    def _step(self, tag: str, element: etree._Element, rest: Todo, state: State) -> Step:
        if tag in CHANGING:
            return CHANGING[tag](element, state, lambda each: self._read(each, state))
        match tag:
            case "sequence":
                return self._sequence(element, rest, state)
            case "filter":
                return self._filter(element, rest, state)
            case "switch":
                return self._switch(element, rest, state)
            case "send" | "call":
                return self._send(tag, element, rest, state)
            case "respond":
                return self._respond(state)
            case "drop":
                return self._drop(element, state)
            case "loopback":
                return self._loop(element, state)
            case _:
                raise Cannot(*why_not(tag))

    def _read(self, what: Reference, state: State) -> Value | Unknown:
        return read(what, state, self._known)

    # Ways through -----------------------------------------------------------------------------

    def _sequence(self, element: etree._Element, rest: Todo, state: State) -> Step:
        key = element.get("key")
        if not key:
            inner = written_out(self._sources, element, state.handler)
            return before(inner, rest), state
        if state.depth >= _DEEPEST:
            raise Cannot(f"the sequence {key!r} calls itself", "sequences that end")
        if state.phase == Phase.FAULT and answers_as_envoy(key, state):
            return self._end(state)
        deeper = msgspec.structs.replace(state, depth=state.depth + 1)
        return before(guarded(self._sources, key, state.handler), rest), deeper

    def _filter(self, element: etree._Element, rest: Todo, state: State) -> Step:
        then, otherwise = element.find("{*}then"), element.find("{*}else")
        yes = self._within(element if then is None else then, rest, state)
        no = rest if otherwise is None else self._within(otherwise, rest, state)
        try:
            condition = self._condition(element, state)
        except Cannot as cannot:
            self._report(element, cannot)
            broken = msgspec.structs.replace(state, broken=True)
            return self._run(yes, broken) + self._run(no, broken)
        return self._either(condition, yes, no, state)

    def _condition(self, element: etree._Element, state: State) -> Condition:
        source, regex, xpath = (element.get(each) for each in ("source", "regex", "xpath"))
        if source is not None and regex is not None:
            return matching(source, regex, lambda each: self._read(each, state))
        if xpath is None:
            raise Cannot("a filter that asks nothing", "source and regex, or xpath")
        return boolean(xpath, lambda each: self._read(each, state))

    def _switch(self, element: etree._Element, rest: Todo, state: State) -> Step:
        default = element.find("{*}default")
        no = rest if default is None else self._within(default, rest, state)
        cases = [
            (matching(element.get("source", ""), each.get("regex", ""), reading), each)
            for reading in (lambda each: self._read(each, state),)
            for each in element.iterchildren("{*}case")
        ]
        return self._first_of(cases, rest, no, state)

    def _first_of(
        self, cases: list[tuple[Condition, etree._Element]], rest: Todo, no: Todo, state: State
    ) -> Step:
        if not cases:
            return no, state
        (condition, case), *others = cases
        return self._ask(
            condition,
            lambda each: self._run(self._within(case, rest, each), each),
            lambda each: self._go(self._first_of(others, rest, no, each)),
            state,
        )

    def _go(self, step: Step) -> list[Branch]:
        assert not isinstance(step, State)
        return step if isinstance(step, list) else self._run(*step)

    def _either(self, condition: Condition, yes: Todo, no: Todo, state: State) -> list[Branch]:
        return self._ask(
            condition, lambda each: self._run(yes, each), lambda each: self._run(no, each), state
        )

    def _ask(
        self,
        condition: Condition,
        yes: Callable[[State], list[Branch]],
        no: Callable[[State], list[Branch]],
        state: State,
    ) -> list[Branch]:
        """The branches of both answers; those of `yes` come first, and take what they match."""
        match condition:
            case Fixed(answer):
                return yes(state) if answer else no(state)
            case Not(inner):
                return self._ask(inner, no, yes, state)
            case And(first, second):
                return self._ask(first, lambda each: self._ask(second, yes, no, each), no, state)
            case Or(first, second):
                return self._ask(first, yes, lambda each: self._ask(second, yes, no, each), state)
            case Atom():
                for asked, answer in state.atoms:
                    if asked == condition:
                        return yes(state) if answer else no(state)
                return yes(self._knowing(state, condition, answer=True)) + no(
                    self._knowing(state, condition, answer=False)
                )

    def _knowing(self, state: State, atom: Atom, *, answer: bool) -> State:
        self._count += 1
        if self._count > _MOST_BRANCHES:
            reason = f"its filters part requests in more than {_MOST_BRANCHES} ways"
            raise Cannot(reason, "fewer filters, or several resources", self._resource)
        return msgspec.structs.replace(state, atoms=(*state.atoms, (atom, answer)))

    def _within(self, element: etree._Element, rest: Todo, state: State) -> Todo:
        """The mediators of a branch, which may be a sequence's."""
        key = element.get("sequence")
        if not key:
            return before(mediators_of(element), rest)
        try:
            return before(guarded(self._sources, key, state.handler), rest)
        except Cannot as cannot:
            self._report(element, cannot)
            return rest

    # Where it ends ----------------------------------------------------------------------------

    def _send(self, tag: str, element: etree._Element, rest: Todo, state: State) -> Step:
        endpoint = element.find("{*}endpoint")
        if endpoint is None:
            back = state.phase in {Phase.ANSWER, Phase.LOOPED} or state.returning
            if tag == "send" and back:
                return self._respond(state)
            if not state.to or state.phase == Phase.FAULT:
                reason = f"<{tag}> without an endpoint sends to where the request came to"
                instead = "<respond/>" if state.phase == Phase.FAULT else "an <endpoint> in it"
                raise Cannot(reason, instead)
            endpoint = _default_endpoint()
        if state.phase == Phase.FAULT:
            raise Cannot(
                "another upstream is called after the first one failed",
                "a failover endpoint, whose members are tried where nothing was sent",
            )
        if state.phase != Phase.REQUEST:
            raise Cannot(
                "a second upstream is called with the first one's answer",
                "one call for each resource; to chain calls needs a mediation engine",
            )
        target = target_of(
            endpoint,
            lambda each: self._read(each, state),
            self._sources.endpoint,
            state.to,
            self._options,
        )
        answer = State(
            phase=Phase.ANSWER,
            properties=state.properties,
            target=target,
            sent=state,
            atoms=state.atoms,
            depth=state.depth,
            broken=state.broken,
        )
        if tag == "send":
            key = element.get("receive")
            if self._out is None and not key:
                return self._failing(answer, lambda each: self._sent_back(element, each))
            rest = before(self._sources.sequence(key) if key else self._out or (), None)
        if not state.handler:
            return rest, answer
        return self._failing(answer, lambda each: self._run(rest, each))

    def _sent_back(self, element: etree._Element, answer: State) -> list[Branch]:
        try:
            return self._respond(answer)
        except Cannot as cannot:
            self._report(element, cannot)
            return []

    def _failing(self, answer: State, onward: Callable[[State], list[Branch]]) -> list[Branch]:
        """What becomes of requests on each way through what runs when the upstream fails.

        Which way is known before anything is sent: the filters there ask for the request as well.
        """

        def go_on(ended: State, fault: FaultAnswer | None) -> list[Branch]:
            return onward(
                msgspec.structs.replace(
                    answer,
                    fault=fault,
                    atoms=ended.atoms,
                    broken=answer.broken or ended.broken,
                )
            )

        sent = answer.sent
        assert sent is not None
        # What was set to be sent does not come back: a password for the upstream may be in it.
        fault = msgspec.structs.replace(
            sent,
            phase=Phase.FAULT,
            headers=Map(),
            axis2=sent.axis2.set("NO_ENTITY_BODY", None),
            payload=None,
            returning=False,
            sent=sent,
            after_fault=go_on,
        )
        return self._run(before(sent.handler, None), fault)

    def _respond(self, state: State) -> list[Branch]:
        if state.after_fault is not None:
            return state.after_fault(state, failed(state))
        outcome = passed_on(state) if state.phase == Phase.ANSWER else answered(state)
        return [_branch(state, outcome)]

    def _drop(self, element: etree._Element, state: State) -> Step:
        if state.phase == Phase.REQUEST and not state.returning:
            return [_branch(state, answered(msgspec.structs.replace(state, payload=None), 202))]
        if state.phase == Phase.FAULT:
            return self._end(state)
        raise Cannot("an answer is dropped, and the client waits in vain", "<respond/>", element)

    def _loop(self, element: etree._Element, state: State) -> Step:
        if state.phase != Phase.REQUEST:
            where = "fault" if state.phase == Phase.FAULT else "out"
            raise Cannot(f"<loopback/> in the {where} sequence", "<respond/>", element)
        looped = msgspec.structs.replace(state, phase=Phase.LOOPED)
        return self._respond(looped) if self._out is None else (before(self._out, None), looped)


def _branch(state: State, outcome: object) -> Branch:
    atoms = tuple(atom for atom, answer in state.atoms if answer)
    return Branch(atoms, outcome)  # type: ignore[arg-type]


def _default_endpoint() -> etree._Element:
    endpoint = etree.Element("endpoint")
    etree.SubElement(endpoint, "default")
    return endpoint
