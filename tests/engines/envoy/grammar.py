"""APIs from the grammar that the translation supports, for hypothesis; and some from outside it."""

from typing import Any
from xml.sax.saxutils import quoteattr

from hypothesis import strategies as st

from gatesync.artifacts.model import Artifact
from tests.engines.envoy.serving import api

# Texts that mean something to Envoy's formatters, to regular expressions, to XML or to URLs.
TEXTS = st.one_of(
    st.sampled_from(
        ["", "x", "a b", "100%", "%REQ(x)%", "%%", "a/b", "\\1", "$1", "<&>'\"", "{x}"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
)
NAMES = st.sampled_from(["x", "id", "long-name", "A.b", "n_1"])
HEADERS = st.sampled_from(["X-A", "X-B", "x-c", "Accept", "User-Agent", "Server"])
PATTERNS = st.sampled_from(["a", "a|b", "[a-z]+", "(?:x|y)*z?", r"\d{2,3}", r"a\.b", ".*", "[^/]+"])
METHODS = st.lists(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
    unique=True,
    max_size=3,
)
STEPS = st.sampled_from(["a", "menu", "v1.0", "x+y", "(b)", "ü", "a b", "~t", "$", "a%2Fb"])


def attribute(name: str, value: str) -> str:
    return f" {name}={quoteattr(value)}"


@st.composite
def expressions(draw: Any, depth: int = 1) -> str:
    plain = st.one_of(
        HEADERS.map(lambda name: f"$trp:{name}"),
        NAMES.map(lambda name: f"$ctx:{name}"),
        NAMES.map(lambda name: f"$url:{name}"),
        st.sampled_from(["A.b", "n_1", "x"]).map(lambda name: f"get-property('uri.var.{name}')"),
        NAMES.map(lambda name: f"$ctx:query.param.{name}"),
        HEADERS.map(lambda name: f"get-property('transport', '{name}')"),
        st.sampled_from(["$axis2:HTTP_METHOD", "$ctx:AM_KEY_TYPE", "'text'", "$ctx:REST_METHOD"]),
    )
    if depth == 0 or draw(st.booleans()):
        return str(draw(plain))
    parts = draw(st.lists(expressions(depth - 1), min_size=2, max_size=3))
    return f"fn:concat({', '.join(parts)})"


@st.composite
def conditions(draw: Any, depth: int = 1) -> str:
    kind = draw(st.sampled_from(["exists", "equals", "differs", "not", "and", "or"]))
    if depth == 0 or kind in {"exists", "equals", "differs"}:
        left = draw(expressions(0))
        mark = {"equals": "=", "differs": "!="}.get(kind)
        return f"{left} {mark} 'a.b'" if mark else left
    if kind == "not":
        return f"not({draw(conditions(depth - 1))})"
    return f"{draw(conditions(depth - 1))} {kind} {draw(conditions(depth - 1))}"


@st.composite
def properties(draw: Any) -> str:
    scope = draw(st.sampled_from(["default", "transport", "transport", "axis2"]))
    if scope == "axis2":
        name, value = draw(
            st.sampled_from(
                [
                    ("HTTP_SC", "404"),
                    ("REST_URL_POSTFIX", "/x?y=z"),
                    ("REST_URL_POSTFIX", "plain"),
                    ("HTTP_METHOD", "PUT"),
                    ("REQUEST_HOST_HEADER", "h.example:1"),
                    ("NO_ENTITY_BODY", "true"),
                    ("DISABLE_CHUNKING", "true"),
                ]
            )
        )
        value = attribute("value", value)
    else:
        name = draw(HEADERS if scope == "transport" else NAMES)
        given = draw(st.sampled_from(["value", "expression"]))
        value = attribute(given, draw(TEXTS if given == "value" else expressions()))
    if draw(st.integers(0, 4)) == 0:
        value = ' action="remove"'
    return f"<property{attribute('name', name)}{value}{attribute('scope', scope)}/>"


@st.composite
def payloads(draw: Any) -> str:
    media = draw(st.sampled_from(["json", "xml", "text"]))
    body = {"json": '{"a": "$1"}', "xml": '<m:a xmlns:m="urn:m">$1</m:a>', "text": "$1 %REQ(x)%"}
    args = f"<args><arg{attribute('value', draw(TEXTS))}/></args>"
    return (
        f'<payloadFactory media-type="{media}"><format>{body[media]}</format>{args}'
        "</payloadFactory>"
    )


@st.composite
def sequences(draw: Any, depth: int = 2) -> str:
    simple = st.one_of(properties(), properties(), payloads(), st.just('<log level="full"/>'))
    if depth == 0:
        return "".join(draw(st.lists(simple, max_size=3)))
    inner = sequences(depth - 1)
    ways = st.one_of(
        st.tuples(expressions(0), PATTERNS, inner, inner).map(
            lambda it: (
                f"<filter{attribute('source', it[0])}{attribute('regex', it[1])}>"
                f"<then>{it[2]}</then><else>{it[3]}</else></filter>"
            )
        ),
        st.tuples(conditions(), inner).map(
            lambda it: f"<filter{attribute('xpath', it[0])}>{it[1]}</filter>"
        ),
        st.tuples(expressions(0), PATTERNS, inner, inner).map(
            lambda it: (
                f"<switch{attribute('source', it[0])}><case{attribute('regex', it[1])}>"
                f"{it[2]}</case><default>{it[3]}</default></switch>"
            )
        ),
    )
    return "".join(draw(st.lists(st.one_of(simple, simple, ways), max_size=4)))


@st.composite
def endpoints(draw: Any) -> str:
    scheme = draw(st.sampled_from(["http", "https"]))
    path = draw(st.sampled_from(["", "/", "/base", "/base/", "/a b/ü", "/%41", "/(x)\\1"]))
    kind = draw(st.sampled_from(["http", "method", "address", "loadbalance", "failover"]))
    inner = draw(
        st.sampled_from(
            [
                "",
                "<timeout><duration>30000</duration><responseAction>fault</responseAction></timeout>",
                "<suspendOnFailure><initialDuration>1000</initialDuration>"
                "<maximumDuration>64000</maximumDuration></suspendOnFailure><markForSuspension>"
                "<retriesBeforeSuspension>3</retriesBeforeSuspension></markForSuspension>",
            ]
        )
    )
    url = quoteattr(f"{scheme}://up.example:8080{path}")
    match kind:
        case "http":
            return f"<http uri-template={url}>{inner}</http>"
        case "method":
            written = f"{scheme}://10.0.0.1{path}/{{uri.var.x}}?q={{query.param.n_1}}"
            return f'<http method="POST" uri-template={quoteattr(written)}>{inner}</http>'
        case "address":
            return f"<address uri={url}>{inner}</address>"
    members = "".join(
        f"<endpoint><address uri={quoteattr(f'{scheme}://{host}{path}')}>{inner}</address>"
        "</endpoint>"
        for host in ("a.example", "10.0.0.1:81", "[::1]:82")
    )
    return f"<{kind}>{members}</{kind}>"


# Properties that expressions read are set before; one in a few is not.
SET_BEFORE = tuple(
    f'<property name="{name}" {given}/>'
    for name, given in {
        "x": 'expression="$trp:X-A"',
        "id": 'value="constant"',
        "long-name": "expression=\"fn:concat('a', $url:q)\"",
        "A.b": 'expression="$axis2:HTTP_METHOD"',
        "n_1": 'value="%REQ(x)%"',
        "uri.var.A.b": 'value="step"',
        "uri.var.long-name": 'expression="$url:q"',
        "uri.var.n_1": 'value="two steps"',
    }.items()
)


@st.composite
def fault_sequences(draw: Any) -> str:
    if draw(st.booleans()):
        return ""
    before = draw(st.one_of(st.just(""), st.just(""), sequences(1)))
    status = draw(st.sampled_from(['value="500"', 'value="503"'] * 3 + ['action="remove"']))
    name, value = draw(HEADERS), draw(TEXTS)
    header = f'<header scope="transport"{attribute("name", name)}{attribute("value", value)}/>'
    body = draw(st.one_of(*[payloads()] * 5, st.just("")))
    ending = draw(st.sampled_from(["<respond/>"] * 4 + ["<drop/>", "", "<loopback/>"]))
    set_status = f'<property name="HTTP_SC" scope="axis2" {status}/>'
    return f"<faultSequence>{before}{set_status}{body}{header}{ending}</faultSequence>"


@st.composite
def resources(draw: Any) -> str:
    left_out = draw(st.one_of(st.none(), st.none(), st.sampled_from(SET_BEFORE)))
    into = "".join(each for each in SET_BEFORE if each != left_out) + draw(sequences())
    ending = draw(
        st.one_of(
            st.sampled_from(["<respond/>", "<drop/>", "", "<loopback/>"]),
            endpoints().map(lambda each: f"<send><endpoint>{each}</endpoint></send>"),
            endpoints().map(lambda each: f"<call><endpoint>{each}</endpoint></call><respond/>"),
        )
    )
    out = draw(st.one_of(st.none(), sequences(1).map(lambda each: f"{each}<send/>")))
    outer = "" if out is None else f"<outSequence>{out}</outSequence>"
    outer += draw(fault_sequences())
    steps = "".join(f"/{each}" for each in draw(st.lists(STEPS, max_size=2)))
    style, pattern = draw(
        st.sampled_from(
            [
                ("", ""),
                ("url-mapping", f"{steps}/*"),
                ("url-mapping", steps or "/"),
                ("url-mapping", "*.jsp"),
                *[("uri-template", f"{steps}/{{x}}")] * 4,
                *[("uri-template", f"{steps}/{{x}}/and/{{+id}}")] * 4,
                *[("uri-template", f"{steps}/{{x}}*")] * 4,
                *[("uri-template", f"{steps}/?n_1={{n_1}}&x={{x}}")] * 2,
                ("uri-template", f"{steps}/*"),
            ]
        )
    )
    methods = " ".join(draw(METHODS))
    attributes = attribute("methods", methods) if methods else ""
    attributes += attribute(style, pattern) if style else ""
    return f"<resource{attributes}><inSequence>{into}{ending}</inSequence>{outer}</resource>"


HANDLERS = st.sampled_from(
    [
        "",
        '<handlers><handler class="x.CORSRequestHandler"/></handlers>',
        '<handlers><handler class="x.APIAuthenticationHandler"/><handler class="x.ThrottleHandler">'
        '<property name="productionMaxCount" value="7"/></handler></handlers>',
    ]
)


@st.composite
def apis(draw: Any) -> Artifact:
    steps = draw(st.lists(STEPS, min_size=1, max_size=3))
    version = draw(st.sampled_from(["", ' version="1.0" version-type="url"', ' hostname="h"']))
    inner = "".join(draw(st.lists(resources(), min_size=1, max_size=3)))
    context = "/" + "/".join(steps)
    made = api("/x", inner + draw(HANDLERS), version)
    (part,) = made.parts
    content = part.content.decode().replace('"/x"', quoteattr(context), 1)
    return api_like(made, content)


def api_like(artifact: Artifact, content: str) -> Artifact:
    (part,) = artifact.parts
    changed = type(part)(part.role, part.name, part.path, content.encode())
    return Artifact(artifact.identity, artifact.api_id, (changed,))
