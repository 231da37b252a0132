"""What Envoy cannot do is refused, with the line, the element and what would work instead."""

import pytest

from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.engines.envoy.faults import Fault, Refusal
from gatesync.engines.envoy.options import Options, ServerTls
from gatesync.engines.envoy.translation import REFUSED_KINDS, Translated, translate
from tests.engines.envoy.serving import api, resource, send

pytestmark = pytest.mark.fast

HTTP = '<http uri-template="http://up:8080/base"/>'


def refusal(artifact: Artifact, options: Options | None = None) -> tuple[Fault, ...]:
    found, _ = translate(artifact, {}.get, options or Options())
    assert isinstance(found, Refusal), "it is served"
    return found.faults


def reasons(into: str, out: str | None = None, attributes: str = 'methods="GET"') -> list[str]:
    return [str(each.problem) for each in refusal(api("/a", resource(into, out, attributes)))]


def test_everything_is_said_at_once_with_its_line() -> None:
    into = '\n<script language="js">x</script>\n<log/>\n<iterate/>\n' + send(
        '\n<address uri="jms:/queue"/>'
    )
    whole = api("/a", resource(into) + "\n" + resource("\n<foo/>", None, 'methods="PUT"'))
    faults = refusal(whole)
    assert [(each.line, each.element, each.resource) for each in faults] == [
        (2, "script", "GET POST /*"),
        (4, "iterate", "GET POST /*"),
        (6, "address", "GET POST /*"),
        (8, "foo", "PUT /*"),
    ]
    assert str(Refusal(faults)).splitlines()[2] == (
        "api/a.xml:6: <address> in GET POST /*: the transport 'jms'; instead: http:// or https://"
    )


@pytest.mark.parametrize(
    ("into", "reason"),
    [
        ('<class name="a.B"/>', "Envoy cannot run this mediator"),
        ("<http.get/>", "the connector operation 'http.get'"),
        ("<unheard-of/>", "no mediator that gatesync knows"),
        ('<sequence key="nowhere"/>', "this node has no sequence 'nowhere'; instead: publish"),
        ('<sequence key="gov:/a.xml"/>', "is in the registry, which gatesync does not see"),
        ('<sequence key="fault"/>', "is one of the pack's own, which needs Synapse"),
        ('<property name="FORCE_SC_ACCEPTED" value="true" scope="axis2"/>', "gets 202 while"),
        ('<property name="OUT_ONLY" value="true"/>', "is not waited for"),
        ('<property name="SOMETHING" value="true" scope="axis2"/>', "'SOMETHING' of scope axis2"),
        ('<property name="X" value="1" scope="registry"/>', "scope 'registry'"),
        ('<property name="Content-Length" value="1" scope="transport"/>', "connection's own"),
        ('<property name="X Y" value="1" scope="transport"/>', "no name of a header"),
        ('<property name="X" value="é" scope="transport"/>', "none that a header can have"),
        ('<property name="HTTP_METHOD" value="BREW" scope="axis2"/>', "the method 'BREW'"),
        (
            '<property name="REQUEST_HOST_HEADER" value="a&#10;b" scope="axis2"/>',
            "none that a header can have",
        ),
        (
            '<property name="X" scope="transport" '
            "expression=\"get-property('transport', 'A)%REQ(B')\"/>",
            "is no name of a header",
        ),
        ('<property name="X" expression="$body/a" scope="transport"/>', "is not one that Envoy"),
        ('<property name="X" expression="$ctx:never" scope="transport"/>', "sets the property"),
        ('<property name="X" expression="//a" scope="transport"/>', "is not one that Envoy"),
        ('<header name="wsse:Security" value="x"/>', "is one of a SOAP envelope"),
        ('<filter xpath="//a"><then/></filter>', "is not one that Envoy can compute"),
        ('<filter source="$trp:X" regex="(?=a)"><then/></filter>', "which Envoy's RE2"),
        ('<filter source="$trp:X" regex="(a)\\1"><then/></filter>', "which Envoy's RE2"),
        ('<filter source="$trp:X" regex="["><then/></filter>', "is not well-formed"),
        ("<filter><then/></filter>", "asks nothing"),
        ('<switch source="$ctx:unset"><case regex="a"/></switch>', "sets the property 'unset'"),
    ],
)
def test_mediators(into: str, reason: str) -> None:
    (said,) = reasons(into + send(HTTP))
    assert reason in said
    assert "; instead: " in said


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ('<address uri="hl7://up:1"/>', "the transport 'hl7'"),
        ('<address uri="http://up/" format="soap11"/>', "has each message rewritten"),
        ('<address uri="http://me:secret@up/"/>', "has a login"),
        ('<address uri="http://up:0/"/>', "no host"),
        ('<address uri="http://me:secret@up:99999/"/>', "is no URL"),
        ('<address uri="http://up/a?b=c"/>', "after the query of the endpoint's address"),
        ('<http uri-template="http://{uri.var.host}/"/>', "sets the property 'uri.var.host'"),
        ('<http uri-template="http://up/{uri.var.nothing}"/>', "'uri.var.nothing'"),
        ('<http uri-template="http://up/{other}"/>', "none that Synapse fills in"),
        ('<http method="BREW" uri-template="http://up/"/>', "the method 'BREW'"),
        ("<default/>", "which nothing here has set"),
        ("<wsdl/>", "a wsdl endpoint"),
        ("<recipientlist/>", "a recipientlist endpoint"),
        ("", "says not where it is"),
        (
            '<http uri-template="http://up/"><authentication/></http>',
            "the endpoint logs in by itself",
        ),
        (
            '<http uri-template="http://up/"><timeout><duration>{$ctx:t}</duration></timeout></http>',
            "is computed for each request",
        ),
        (
            '<loadbalance><endpoint><address uri="http://a/x"/></endpoint>'
            '<endpoint><address uri="http://b/y"/></endpoint></loadbalance>',
            "differ in their path",
        ),
        ("<failover/>", "without members"),
        ('<loadbalance><member hostName="a"/></loadbalance>', "members by host and port"),
    ],
)
def test_endpoints(endpoint: str, reason: str) -> None:
    (said,) = reasons(send(endpoint))
    assert reason in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("into", "out", "reason"),
    [
        ("<send/>", None, "sends to where the request came to"),
        (send(HTTP), "", "the upstream's answer is never sent back"),
        (send(HTTP), "<drop/>", "an answer is dropped"),
        (send(HTTP), send(HTTP), "a second upstream is called"),
        ("<loopback/>", "<log/>", "the message is never sent back"),
        (
            '<property name="messageType" scope="axis2" value="text/xml"/>' + send(HTTP),
            None,
            "the body that comes would be converted to text/xml",
        ),
        (
            '<property name="HTTP_SC" scope="axis2" value="99"/><respond/>',
            None,
            "the status '99'",
        ),
        (
            '<payloadFactory media-type="json"><format>{"a": "$1"}</format>'
            '<args><arg evaluator="json" expression="$.a"/></args></payloadFactory><respond/>',
            None,
            "comes from the body",
        ),
        (
            '<payloadFactory media-type="json"><format key="gov:/a"/></payloadFactory><respond/>',
            None,
            "stands elsewhere",
        ),
        (
            '<property name="A" scope="transport" expression="$trp:B"/>'
            '<property name="saved" expression="$trp:C"/>'
            '<property name="C" scope="transport" expression="$trp:D"/>'
            '<property name="D" scope="transport" expression="$ctx:saved"/>' + send(HTTP),
            None,
            "set from each other in a circle",
        ),
    ],
)
def test_ways_that_do_not_end(into: str, out: str | None, reason: str) -> None:
    (said,) = reasons(into, out)
    assert reason in said


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ('methods="BREW"', "the method 'BREW'"),
        ('methods="GET" url-mapping="a"', "begins with neither '/' nor '*.'"),
        ('methods="GET" url-mapping="/a/*/b"', "is not its last step"),
        ('methods="GET" uri-template="/a/{x}/{x}"', "names 'x' twice"),
        ('methods="GET" uri-template="/a/{/x}"', "is no {variable}"),
        ('methods="GET" protocol="https"', "is for https alone"),
        ('methods="GET" inSequence="none"', "this node has no sequence 'none'"),
        ('methods="GET" content-type="text/xml"', "content-type chooses the resource"),
    ],
)
def test_resources(attributes: str, reason: str) -> None:
    faults = refusal(api("/a", f"<resource {attributes}/>"))
    assert reason in str(faults[0].problem)


def test_a_context_needs_a_first_step() -> None:
    artifact = api("/x", resource(send(HTTP)))
    (part,) = artifact.parts
    root = Part(part.role, part.name, part.path, part.content.replace(b'"/x"', b'"/"'))
    (fault,) = refusal(Artifact(artifact.identity, artifact.api_id, (root,)))
    assert "has no first step" in fault.reason


def test_handlers() -> None:
    package = "org.wso2.carbon.apimgt.gateway.handlers"
    inner = resource(send(HTTP)) + (
        f'<handlers><handler class="{package}.security.APIAuthenticationHandler"/>'
        f'<handler class="{package}.throttling.ThrottleHandler">'
        '<property name="apiLevelPolicy" value="Gold"/></handler>'
        f'<handler class="{package}.analytics.APIMgtUsageHandler"/>'
        '<handler class="com.example.Own"/></handlers>'
    )
    said = [str(each.problem) for each in refusal(api("/a", inner))]
    assert len(said) == 3
    assert any("no issuer of tokens is configured" in each for each in said)
    assert any("publish the policy resource_Gold_default" in each for each in said)
    assert any("'com.example.Own' is code of its own" in each for each in said)
    open_to_all = Options(allow_unauthenticated=True)
    assert len(refusal(api("/a", inner), open_to_all)) == 2


MADE = "<payloadFactory><format><a/></format></payloadFactory>"
TEAPOT = '<property name="HTTP_SC" scope="axis2" value="418"/>'


@pytest.mark.parametrize(
    ("inner", "element", "reason"),
    [
        ("<log/><respond/>", "respond", "with the body of the request, which is gone by then"),
        (f"{MADE}<respond/>", "respond", "answers without a status"),
        (
            f'{MADE}{TEAPOT}<header name="A" scope="transport" expression="$trp:B"/><respond/>',
            "respond",
            "the fault's header a differs from request to request",
        ),
        (
            f'<header name="A" scope="transport" expression="$ctx:ERROR_MESSAGE"/>{MADE}{TEAPOT}'
            "<respond/>",
            "header",
            "nothing here sets the property 'ERROR_MESSAGE'",
        ),
        (send(HTTP), "send", "another upstream is called after the first one failed"),
        ("<send/>", "send", "sends to where the request came to; instead: <respond/>"),
        ("<loopback/>", "loopback", "<loopback/> in the fault sequence"),
        (f'{TEAPOT}<sequence key="fault"/>', "sequence", "for which Envoy answers by itself"),
        ("<script/>", "script", "Envoy cannot run this mediator"),
    ],
)
def test_fault_sequences(inner: str, element: str, reason: str) -> None:
    whole = (
        '<resource methods="GET"><inSequence>' + send(HTTP) + "</inSequence>"
        f"<faultSequence>{inner}</faultSequence></resource>"
    )
    (fault,) = refusal(api("/a", whole))
    assert (fault.element, fault.line) == (element, 1)
    assert reason in str(fault.problem)


def test_a_fault_sequence_that_is_not_there() -> None:
    inner = f'<resource methods="GET" {{}}><inSequence>{send(HTTP)}</inSequence></resource>'
    (fault,) = refusal(api("/a", inner.format('faultSequence="none"')))
    assert "this node has no sequence 'none'" in fault.reason


def test_https_only_on_a_listener_with_tls() -> None:
    secured = api("/a", resource(send(HTTP)), 'transports="https"')
    found, _ = translate(secured, {}.get, Options(tls=ServerTls("a.pem", "b.pem")))
    assert isinstance(found, Translated)
    assert "listens for http" in refusal(secured)[0].reason


def test_a_sequence_that_calls_itself_ends() -> None:
    part = Part("sequence", "again", "sequences/again.xml", b"")
    content = (
        b'<sequence xmlns="http://ws.apache.org/ns/synapse" name="again">'
        b'<sequence key="again"/></sequence>'
    )
    part = Part("sequence", "again", "sequences/again.xml", content)
    whole = api("/a", resource('<sequence key="again"/>'))
    own = Artifact(whole.identity, whole.api_id, (*whole.parts, part))
    assert "calls itself" in refusal(own)[0].reason


def test_filters_that_part_requests_in_too_many_ways() -> None:
    many = "".join(f'<filter xpath="$trp:H{n}"><then><log/></then></filter>' for n in range(20))
    (said,) = reasons(many + send(HTTP))
    assert "in more than 256 ways" in said


@pytest.mark.parametrize("kind", sorted(REFUSED_KINDS))
def test_kinds_that_need_a_mediation_engine(kind: str) -> None:
    identity = Identity("carbon.super", kind, "x")
    part = Part(kind, "x", "x.xml", b"<x/>")
    (fault,) = refusal(Artifact(identity, "id", (part,)))
    assert (fault.reason, fault.instead) == (f"Envoy runs no {kind}", REFUSED_KINDS[kind])


def test_an_api_that_is_no_xml() -> None:
    identity = Identity("carbon.super", "api", "x")
    part = Part("api", "x", "api/x.xml", b"<api>\n<oops></api>")
    (fault,) = refusal(Artifact(identity, "id", (part,)))
    assert (fault.path, fault.line) == ("api/x.xml", 2)
