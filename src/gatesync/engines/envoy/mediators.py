"""Mediators that change a message: properties, headers, payloads. And those that are not ours."""

import copy
import json
import re
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import escape

import msgspec
from lxml import etree

from gatesync.engines.envoy.expressions import Reference, evaluate
from gatesync.engines.envoy.faults import Cannot, tag_of
from gatesync.engines.envoy.patterns import METHODS, literal_query
from gatesync.engines.envoy.state import Payload, Phase, State
from gatesync.engines.envoy.values import Text, Unknown, Value, constant, text

__all__ = [
    "AXIS2",
    "AXIS2_IGNORED",
    "CHANGING",
    "HARMLESS",
    "HARMLESS_CLASSES",
    "HEADER_NAME",
    "INSTEAD_OF",
    "is_harmless",
    "why_not",
]

Read = Callable[[Reference], Value | Unknown]

HARMLESS: Final = frozenset({"log", "description"})
"""Passed over: what they do, no client and no upstream sees."""

HARMLESS_CLASSES: Final = frozenset({"APIMgtResponseHandler", "APIMgtFaultHandler"})
"""Class mediators of WSO2's own, by the last part of their name, which only count."""

_ENGINE: Final = "a mediation engine for this API (a gateway of another type)"
INSTEAD_OF: Final = {
    "script": f"headers and routing by property, header, filter and switch; {_ENGINE} for more",
    "class": f"the stock mediators; {_ENGINE} for code of your own",
    "pojoCommand": f"the stock mediators; {_ENGINE} for code of your own",
    "enrich": f"the body as it comes; {_ENGINE} to change it",
    "xslt": f"the body as it comes; {_ENGINE} to change it",
    "fastXSLT": f"the body as it comes; {_ENGINE} to change it",
    "xquery": f"the body as it comes; {_ENGINE} to change it",
    "datamapper": f"the body as it comes; {_ENGINE} to change it",
    "jsontransform": f"the body as it comes; {_ENGINE} to change it",
    "smooks": f"the body as it comes; {_ENGINE} to change it",
    "makefault": "payloadFactory with the fault's text, and HTTP_SC",
    "iterate": f"one upstream that takes the whole; {_ENGINE} to split messages",
    "foreach": f"one upstream that takes the whole; {_ENGINE} to split messages",
    "clone": f"one upstream for each request; {_ENGINE} to send to several",
    "aggregate": f"one upstream that answers the whole; {_ENGINE} to join answers",
    "validate": "validation in the upstream",
    "cache": "a cache in the upstream, or before the gateway",
    "throttle": "the API's throttle handler with a policy that counts requests",
    "callout": "<call> with an endpoint",
    "call-template": "the template's mediators, in a <sequence>",
    "store": "an upstream that queues",
    "enqueue": "an upstream that queues",
    "event": "an upstream that publishes",
    "transaction": "an upstream with a transaction",
    "dblookup": "an upstream that asks the database",
    "dbreport": "an upstream that writes to the database",
    "oauthService": "the API's authentication handler, with an issuer configured",
    "entitlementService": "authorization in the upstream",
    "conditionalRouter": "<switch>, or several resources",
    "rewrite": "REST_URL_POSTFIX, or an http endpoint with variables",
    "in": "inSequence and outSequence of the resource",
    "out": "inSequence and outSequence of the resource",
    "bean": f"the stock mediators; {_ENGINE} for code of your own",
    "ejb": f"the stock mediators; {_ENGINE} for code of your own",
    "spring": f"the stock mediators; {_ENGINE} for code of your own",
    "publishEvent": "the gateway's own metrics",
    "bam": "the gateway's own metrics",
}
"""Mediators that Envoy cannot run, each with what would work."""


def is_harmless(element: etree._Element) -> bool:
    """Whether a mediator is passed over."""
    tag = tag_of(element)
    if tag == "class":
        return element.get("name", "").rpartition(".")[2] in HARMLESS_CLASSES
    return tag in HARMLESS


def why_not(tag: str) -> tuple[str, str]:
    """Why a mediator is refused, and what would work instead."""
    if "." in tag:
        return f"the connector operation {tag!r} is not one that Envoy can run", _ENGINE
    if tag in INSTEAD_OF:
        return "Envoy cannot run this mediator", INSTEAD_OF[tag]
    return "no mediator that gatesync knows", _ENGINE


# Properties -----------------------------------------------------------------------------------

AXIS2: Final = {
    "HTTP_SC": "the status of the answer; a constant",
    "messageType": "the Content-Type of a body that payloadFactory made",
    "ContentType": "the Content-Type of a body that payloadFactory made",
    "REST_URL_POSTFIX": "what comes after the endpoint's path; may be removed",
    "HTTP_METHOD": "the method; a constant",
    "NO_ENTITY_BODY": "no body; may be removed",
    "REQUEST_HOST_HEADER": "the Host that the upstream sees; a constant",
}
"""Properties of scope axis2 that are done, each with what it does."""

AXIS2_IGNORED: Final = frozenset(
    {
        "COPY_CONTENT_LENGTH_FROM_INCOMING",
        "DISABLE_CHUNKING",
        "DISABLE_SMOOKS_RESULT_PAYLOAD",
        "FORCE_HTTP_CONTENT_LENGTH",
        "IsClientDoingREST",
        "NO_KEEPALIVE",
        "POST_TO_URI",
        "PRESERVE_WS_ADDRESSING",
        "message.builder.invoked",
        "setCharacterEncoding",
    }
)
"""Of scope axis2, passed over: they speak of how Synapse itself reads and writes."""

HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_CONNECTION: Final = frozenset(
    ["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer"]
)
_FLAGS: Final = {
    "OUT_ONLY": "the client's answer is not waited for",
    "FORCE_SC_ACCEPTED": "the client gets 202 while the upstream is still called",
}


def property_(element: etree._Element, state: State, read: Read) -> State:
    """The state after a `<property>`.

    Raises:
        Cannot: Envoy cannot do the same.
    """
    name = element.get("name", "")
    scope = element.get("scope", "default") or "default"
    if not name or "{" in name:
        raise Cannot(f"a property whose name is {name!r}", "a name that is written out")
    removed = element.get("action") == "remove"
    value: Value | Unknown = () if removed else _value(element, read)
    match scope:
        case "default" | "synapse":
            return _default(name, value, state, removed=removed)
        case "transport":
            return _header(name, value, state, removed=removed)
        case "axis2":
            return _axis2(name, value, state, removed=removed)
        case "operation" | "analytics" | "trace":
            return state  # nothing that is understood here reads them
        case _:
            raise Cannot(f"scope {scope!r}", "scope default, transport or axis2")


def _value(element: etree._Element, read: Read) -> Value | Unknown:
    instead = "value or expression"
    if element.get("pattern"):
        return Unknown("a value that is cut out by a pattern", instead)
    literal, expression = element.get("value"), element.get("expression")
    if literal is not None:
        return text(literal)
    if expression is None:
        return Unknown("a value that is XML", instead)
    try:
        return evaluate(expression, read)
    except Cannot as cannot:
        return Unknown(cannot.reason, cannot.instead)  # a fault where it is used


def _default(name: str, value: Value | Unknown, state: State, *, removed: bool) -> State:
    says_true = _constant(value).lower() == "true"
    if name in _FLAGS and says_true:
        raise Cannot(f"{name}: {_FLAGS[name]}", "an upstream that answers 202 itself")
    properties = state.properties.set(name, value)
    returning = says_true if name == "RESPONSE" else state.returning
    if removed and name in state.properties:
        properties = state.properties.set(name, ())
    return msgspec.structs.replace(state, properties=properties, returning=returning)


def _header(name: str, value: Value | Unknown, state: State, *, removed: bool) -> State:
    key = name.lower()
    if not HEADER_NAME.fullmatch(name):
        raise Cannot(f"{name!r} is no name of a header", "letters, digits and '-'")
    if key == "host" and not removed and state.phase == Phase.REQUEST:
        return _axis2("REQUEST_HOST_HEADER", value, state, removed=False)
    if key == "host" and removed:
        return state  # Envoy sends the upstream's name in any case
    if key in _CONNECTION or key.startswith("x-gatesync-"):
        if removed:
            return state
        raise Cannot(f"the header {name} is the connection's own", "the property without it")
    if isinstance(value, Unknown):
        raise value.fault()
    literal = constant(value)
    if literal is not None and not _is_header_value(literal):
        raise Cannot(f"the value of {name} is none that a header can have", "printable ASCII")
    return msgspec.structs.replace(
        state, headers=state.headers.set(key, None if removed else value)
    )


def _is_header_value(literal: str) -> bool:
    return literal.isascii() and all(" " <= each <= "~" or each == "\t" for each in literal)


def _axis2(name: str, value: Value | Unknown, state: State, *, removed: bool) -> State:
    if name in AXIS2_IGNORED:
        return state
    if name in _FLAGS:
        if _constant(value).lower() == "true":
            raise Cannot(f"{name}: {_FLAGS[name]}", "an upstream that answers 202 itself")
        return state
    if name not in AXIS2:
        if removed:
            return state
        known = ", ".join(AXIS2)
        raise Cannot(f"the property {name!r} of scope axis2", f"one of {known}")
    if isinstance(value, Unknown):
        raise value.fault()
    if name == "REST_URL_POSTFIX":
        value = tuple(
            Text(literal_query(piece.text)) if isinstance(piece, Text) else piece for piece in value
        )
    elif not removed:
        _check_axis2(name, constant(value))
    return msgspec.structs.replace(state, axis2=state.axis2.set(name, None if removed else value))


def _check_axis2(name: str, literal: str | None) -> None:
    if literal is None:
        raise Cannot(f"{name} is computed for each request", "a constant value")
    if not _is_header_value(literal):
        raise Cannot(f"the value of {name} is none that a header can have", "printable ASCII")
    if name == "HTTP_METHOD" and literal.upper() not in METHODS:
        raise Cannot(f"the method {literal!r}", f"one of {', '.join(METHODS)}")


def _constant(value: Value | Unknown) -> str:
    return "" if isinstance(value, Unknown) else constant(value) or ""


# Headers --------------------------------------------------------------------------------------


def header(element: etree._Element, state: State, read: Read) -> State:
    """The state after a `<header>`: of scope transport, or the address To.

    Raises:
        Cannot: it is a SOAP header, or Envoy cannot do the same.
    """
    name = element.get("name", "")
    removed = element.get("action") == "remove"
    value: Value | Unknown = () if removed else _value(element, read)
    if element.get("scope") == "transport":
        return _header(name, value, state, removed=removed)
    if name.rpartition(":")[2] != "To":
        raise Cannot(
            f"the header {name!r} is one of a SOAP envelope",
            'scope="transport" for a header of HTTP; SOAP needs a mediation engine',
        )
    if isinstance(value, Unknown):
        raise value.fault()
    return msgspec.structs.replace(state, to=None if removed else value)


# Payloads -------------------------------------------------------------------------------------

_TYPES: Final = {"json": "application/json", "xml": "application/xml", "text": "text/plain"}
_HOLE: Final = re.compile(r"\$(\d+)")
_CONSTANT: Final = "a payload of constants; what comes from the request needs a mediation engine"


def payload(element: etree._Element, state: State, read: Read) -> State:
    """The state after a `<payloadFactory>` whose text is the same for all requests.

    Raises:
        Cannot: the text depends on the request, or stands elsewhere.
    """
    media = element.get("media-type", "xml")
    form = element.find("{*}format")
    if media not in _TYPES or element.get("template-type", "default").lower() != "default":
        raise Cannot("a payload of this type", "media-type json, xml or text, without a template")
    if form is None or form.get("key") or form.get("key-expression"):
        raise Cannot("the payload's text stands elsewhere", "<format> with the text in it")
    body = _xml_of(form) if media == "xml" else (form.text or "").strip()
    arguments = element.find("{*}args")
    values = [
        _argument(each, read) for each in (() if arguments is None else arguments.iterchildren())
    ]
    filled = _HOLE.sub(lambda hole: _filled(hole, values, media), body)
    return msgspec.structs.replace(state, payload=Payload(filled, _TYPES[media]))


def _xml_of(form: etree._Element) -> str:
    child = next(form.iterchildren(etree.Element), None)
    if child is None:
        return ""
    alone = copy.deepcopy(child)  # with the namespaces that it uses, and no others
    etree.cleanup_namespaces(alone)
    return etree.tostring(alone, encoding="unicode", with_tail=False)


def _argument(element: etree._Element, read: Read) -> str | Unknown:
    if tag_of(element) != "arg":
        return Unknown(f"<{tag_of(element)}> among the arguments", _CONSTANT)
    literal = element.get("value")
    if literal is not None:
        return literal
    expression = element.get("expression", "")
    if element.get("evaluator", "xml") != "xml":
        return Unknown(f"the argument {expression!r} comes from the body", _CONSTANT)
    try:
        value = evaluate(expression, read)
    except Cannot as cannot:
        return Unknown(cannot.reason, _CONSTANT)
    if isinstance(value, Unknown):
        return Unknown(value.reason, _CONSTANT)
    found = constant(value)
    if found is None:
        return Unknown(f"the argument {expression!r} differs from request to request", _CONSTANT)
    return found


def _filled(hole: re.Match[str], values: list[str | Unknown], media: str) -> str:
    at = int(hole[1]) - 1
    if not 0 <= at < len(values):
        return hole[0]
    value = values[at]
    if isinstance(value, Unknown):
        raise value.fault()
    if media == "json":
        return json.dumps(value, ensure_ascii=False)[1:-1]
    return escape(value) if media == "xml" else value


CHANGING: Final[dict[str, Callable[[etree._Element, State, Read], State]]] = {
    "property": property_,
    "header": header,
    "payloadFactory": payload,
}
"""Mediators that make another state of a message and nothing else."""
