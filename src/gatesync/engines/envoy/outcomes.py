"""Where a way through a sequence ends: what Envoy sends on, or answers."""

from typing import Final

from immutables import Map

from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.state import FaultAnswer, Outcome, Payload, State
from gatesync.engines.envoy.values import Unknown, Value, constant

__all__ = ["answered", "failed", "passed_on"]

_NO_BODY: Final = Payload("", "")


def answered(state: State, status: int = 0) -> Outcome:
    """Envoy answers by itself: with the body that was made, or with the request's own.

    Args:
        state: where the way ends.
        status: with which an empty answer is sent, whatever the sequence says.

    Raises:
        Cannot: the answer is none that Envoy can give.
    """
    return Outcome(
        target=None,
        headers=Map(),
        payload=None,
        postfix=None,
        keeps_rest=False,
        method="",
        host="",
        answer_headers=Map() if status else state.headers,
        answer_payload=_NO_BODY if status else _payload(state),
        status=status or _status(state) or 200,
    )


def passed_on(state: State) -> Outcome:
    """Envoy asks the upstream, and its answer goes back with what the sequence made of it.

    Raises:
        Cannot: the request, or the answer, is changed in a way that Envoy cannot.
    """
    sent = state.sent
    assert sent is not None
    assert state.target is not None
    method = state.target.method or _literal(sent, "HTTP_METHOD")
    postfix = sent.axis2.get("REST_URL_POSTFIX", ())
    assert not isinstance(postfix, Unknown)
    keeps_rest = state.target.appended and "REST_URL_POSTFIX" not in sent.axis2
    if keeps_rest and state.target.query:
        raise Cannot(
            "the rest of the request's URL would come after the query of the endpoint's address",
            "an http endpoint with a method, REST_URL_POSTFIX removed, or no query",
        )
    return Outcome(
        target=state.target,
        headers=sent.headers,
        payload=_payload(sent),
        postfix=postfix or None,
        keeps_rest=keeps_rest,
        method=method.upper(),
        host=_literal(sent, "REQUEST_HOST_HEADER") or state.target.host,
        answer_headers=state.headers,
        answer_payload=_payload(state),
        status=_status(state),
        fault=state.fault,
    )


def failed(state: State) -> FaultAnswer:
    """A fault sequence answers.

    Raises:
        Cannot: the answer is none that Envoy can give, or differs from request to request.
    """
    payload, status = _payload(state), _status(state)
    if payload is None:
        raise Cannot(
            "the fault sequence answers with the body of the request, which is gone by then",
            "payloadFactory, or NO_ENTITY_BODY, before it",
        )
    if not status:
        raise Cannot("the fault sequence answers without a status", "HTTP_SC with a constant")
    headers = {name: _same_for_all(name, value) for name, value in state.headers.items()}
    return FaultAnswer(status, payload, Map({name: said for name, said in headers.items() if said}))


def _same_for_all(name: str, value: Value | None) -> str:
    literal = constant(value or ())
    if literal is None:
        raise Cannot(f"the fault's header {name} differs from request to request", "a constant")
    return literal


def _payload(state: State) -> Payload | None:
    wanted = _literal(state, "messageType") or _literal(state, "ContentType")
    if _literal(state, "NO_ENTITY_BODY").lower() == "true":
        return _NO_BODY
    if state.payload is None:
        if wanted:
            raise Cannot(
                f"the body that comes would be converted to {wanted}",
                "no messageType: the body as it comes; to convert it needs a mediation engine",
            )
        return None
    if not wanted:
        return state.payload
    if _family(wanted) != _family(state.payload.type):
        raise Cannot(
            f"a body of {state.payload.type} would be converted to {wanted}",
            "a payloadFactory of the media-type that is sent",
        )
    return Payload(state.payload.body, wanted)


def _family(content_type: str) -> str:
    subtype = content_type.partition(";")[0].strip().lower().rpartition("/")[2]
    if subtype in {"html", "xhtml+xml"}:
        return "xml"
    subtype = subtype.rpartition("+")[2]
    return {"json": "json", "xml": "xml", "plain": "text"}.get(subtype, subtype)


def _status(state: State) -> int:
    written = _literal(state, "HTTP_SC")
    if not written:
        return 0
    if not written.isdecimal() or not 200 <= int(written) <= 599:
        raise Cannot(f"the status {written!r}", "a number from 200 to 599")
    return int(written)


def _literal(state: State, name: str) -> str:
    value: Value | Unknown | None = state.axis2.get(name)
    if value is None or isinstance(value, Unknown):
        return ""
    return constant(value) or ""
