"""What a message knows: what expressions find in it, on its way through a sequence."""

from collections.abc import Mapping

from gatesync.engines.envoy.expressions import Reference
from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.mediators import HEADER_NAME
from gatesync.engines.envoy.state import Phase, State
from gatesync.engines.envoy.values import (
    Answer,
    Header,
    Method,
    QueryParameter,
    Rest,
    Unknown,
    Value,
)

__all__ = ["read"]


def read(what: Reference, state: State, known: Mapping[str, Value]) -> Value | Unknown:
    """What a reference stands for.

    Args:
        what: a property, a header, a parameter of the query...
        state: of the message by now.
        known: properties that have a value before the first mediator.

    Raises:
        Cannot: there can be nothing of this name.
    """
    name = what.name
    if what.scope == "transport":
        if not HEADER_NAME.fullmatch(name):
            raise Cannot(f"{name!r} is no name of a header", "letters, digits and '-'")
        return _header(name.lower(), state)
    if what.scope == "url":
        return (QueryParameter(name),)
    if what.scope == "axis2":
        return _axis2(name, state)
    if name in state.properties:
        return state.properties[name]
    if name in known:
        return known[name]
    if name.startswith("query.param."):
        return (QueryParameter(name.removeprefix("query.param.")),)
    if name in {"REST_METHOD", "api.ut.HTTP_METHOD"}:
        return (Method(),)
    return Unknown(
        f"nothing here sets the property {name!r}, which is known only to Synapse",
        "a property that the sequence sets from a constant, a header or the URL",
    )


def _header(name: str, state: State) -> Value:
    if name in state.headers:
        return state.headers[name] or ()
    if state.phase == Phase.ANSWER:
        return (Answer(name),)
    if state.phase == Phase.FAULT and state.sent is not None:
        return _header(name, state.sent)
    return (Header(name),)


def _axis2(name: str, state: State) -> Value | Unknown:
    if name in state.axis2:
        return state.axis2[name] or ()
    if name == "HTTP_METHOD":
        return (Method(),)
    if name == "REST_URL_POSTFIX":
        return (Rest(),)
    return Unknown(
        f"the property {name!r} of scope axis2 is known only to Synapse",
        "HTTP_METHOD, REST_URL_POSTFIX, or one that the sequence has set",
    )
