"""Which keys a file refers to, rule by rule, and which of them must be names."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gatesync.artifacts.description import describe
from gatesync.artifacts.model import KINDS
from gatesync.artifacts.references import Key, also_serves_as, keys_of, why_unchecked
from gatesync.artifacts.tree import artifacts_of
from gatesync.artifacts.xml import parse

pytestmark = pytest.mark.fast

SYNAPSE = "http://ws.apache.org/ns/synapse"
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "micro-integrator"


def _keys(document: str) -> list[Key]:
    return list(keys_of(parse(document.encode(), "a.xml")))


def _named(document: str) -> list[str]:
    return [f"{key.role} {key.text}" for key in _keys(document)]


def _in_sequence(content: str) -> list[str]:
    found = _named(f'<sequence xmlns="{SYNAPSE}" name="a">{content}</sequence>')
    assert found == _named(f'<sequence name="a">{content}</sequence>')
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('<sequence key="x"/>', ["sequence x"]),
        ('<call><endpoint key="x"/></call>', ["endpoint x"]),
        ('<endpoint key-expression="$ctx:x"/>', ["endpoint {$ctx:x}"]),
        ('<endpoint name="e" template="x" uri="http://e"/>', ["template x"]),
        ('<endpoint><failover><endpoint key="x"/></failover></endpoint>', ["endpoint x"]),
        ('<call-template target="x"/>', ["template x"]),
        ('<send receive="x"/>', ["sequence x"]),
        ('<callout endpointKey="x"><source key="p"/><target key="q"/></callout>', ["endpoint x"]),
        (
            '<clone><target sequence="x"/><target endpoint="y"/></clone>',
            ["sequence x", "endpoint y"],
        ),
        ('<iterate expression="//a"><target sequence="x"/></iterate>', ["sequence x"]),
        ('<foreach expression="//a" sequence="x"/>', ["sequence x"]),
        ('<aggregate><onComplete expression="//a" sequence="x"/></aggregate>', ["sequence x"]),
        ('<cache><onCacheHit sequence="x"/></cache>', ["sequence x"]),
        (
            '<filter xpath="a"><then sequence="x"/><else sequence="y"/></filter>',
            ["sequence x", "sequence y"],
        ),
        ('<store messageStore="x" sequence="y"/>', ["message-store x", "sequence y"]),
        ('<enqueue executor="e" sequence="x"/>', ["sequence x"]),
        (
            '<throttle id="a" onAccept="x" onReject="y"><policy key="z"/></throttle>',
            ["sequence x", "sequence y", "local-entry z"],
        ),
        ('<xslt key="x"/>', ["local-entry x"]),
        ('<fastXSLT key="x"/>', ["local-entry x"]),
        (
            '<xslt key="x"><resource location="l" key="y"/></xslt>',
            ["local-entry x", "local-entry y"],
        ),
        (
            '<xquery key="x"><variable name="v" key="y"/></xquery>',
            ["local-entry x", "local-entry y"],
        ),
        (
            '<script language="js" key="x"><include key="y"/></script>',
            ["local-entry x", "local-entry y"],
        ),
        ('<validate><schema key="x"/></validate>', ["local-entry x"]),
        ('<payloadFactory><format key="x"/></payloadFactory>', ["local-entry x"]),
        (
            '<enrich><source type="inline" key="x"/><target type="body"/></enrich>',
            ["local-entry x"],
        ),
        ('<smooks config-key="x"/>', ["local-entry x"]),
        ('<jsontransform schema="x"/>', ["local-entry x"]),
        (
            '<datamapper config="x" inputSchema="y" outputSchema="z"/>',
            ["local-entry x", "local-entry y", "local-entry z"],
        ),
        (
            '<entitlementService onAccept="x" onReject="y" obligations="z" advice="a"/>',
            ["sequence x", "sequence y", "sequence z", "sequence a"],
        ),
        ('<http.get configKey="x"/>', ["local-entry x"]),
    ],
)
def test_a_mediator_refers_to(content: str, expected: list[str]) -> None:
    assert _in_sequence(content) == expected


@pytest.mark.parametrize(
    "content",
    [
        '<log><property name="key" value="x"/></log>',
        '<sequence name="inner"/>',
        '<sequence key=""/>',
        '<class name="a.B" configKey="x"/>',
        '<enrich><source type="body"/><target type="property" property="x"/></enrich>',
        '<payloadFactory><format><endpoint key="x"/></format></payloadFactory>',
        '<enrich><source type="inline"><sequence key="x"/></source></enrich>',
        '<property name="p"><order><sequence key="x"/></order></property>',
        '<makefault><detail><sequence key="x"/></detail></makefault>',
        '<a:sequence xmlns:a="urn:other" key="x"/>',
        '<a:get.it xmlns:a="urn:other" xmlns="" configKey="x"/>',
        "<!-- <sequence key='x'/> --><script><![CDATA[<sequence key='x'/>]]></script>",
    ],
)
def test_what_only_looks_like_a_reference_is_none(content: str) -> None:
    document = f'<sequence xmlns="{SYNAPSE}" name="a">{content}</sequence>'
    assert [key for key in _keys(document) if key.text] == []


def test_what_stands_inside_a_target_is_used_and_not_its_attribute() -> None:
    written = '<target sequence="anon"><sequence><sequence key="x"/></sequence></target>'
    assert _in_sequence(f"<iterate>{written}</iterate>") == ["sequence x"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('<sequence name="a" onError="x"/>', ["sequence x"]),
        ('<template name="a" onError="x"><sequence/></template>', ["sequence x"]),
        (
            '<api name="a" context="/a"><resource inSequence="x" outSequence="y" faultSequence="z"'
            ' endpoint="e"/><resource><inSequence onError="f"/></resource></api>',
            ["sequence x", "sequence y", "sequence z", "endpoint e", "sequence f"],
        ),
        (
            '<proxy name="a"><target inSequence="x" outSequence="y" faultSequence="z" endpoint="e">'
            '</target><publishWSDL key="w" endpoint="d"/><policy key="p"/>'
            '<enableSec policy="q"/></proxy>',
            [
                "sequence x",
                "sequence y",
                "sequence z",
                "endpoint e",
                "local-entry w",
                "endpoint d",
                "local-entry p",
                "local-entry q",
            ],
        ),
        (
            '<inboundEndpoint name="a" sequence="x" onError="y"><parameters/></inboundEndpoint>',
            ["sequence x", "sequence y"],
        ),
        (
            '<inboundEndpoint name="a"><parameter name="ws.outflow.dispatch.sequence">x</parameter>'
            '<parameter name="ws.outflow.dispatch.fault.sequence"> y\n</parameter>'
            '<parameter name="inbound.ws.port">9099</parameter></inboundEndpoint>',
            ["sequence x", "sequence y"],
        ),
        (
            '<messageProcessor name="a" messageStore="x" targetEndpoint="y">'
            '<parameter name="message.processor.reply.sequence">z</parameter>'
            '<parameter name="interval">1000</parameter></messageProcessor>',
            ["message-store x", "endpoint y", "sequence z"],
        ),
        (
            '<messageStore name="a">'
            '<parameter name="store.failover.message.store.name">x</parameter></messageStore>',
            ["message-store x"],
        ),
        (
            '<endpoint name="a"><loadbalance><endpoint key="x"/></loadbalance></endpoint>',
            ["endpoint x"],
        ),
        ('<task name="a" class="b"><trigger once="true"/></task>', []),
    ],
)
def test_an_artifact_refers_to(document: str, expected: list[str]) -> None:
    assert _named(document) == expected


def test_a_key_has_the_line_of_its_element() -> None:
    document = '<sequence name="a">\n<sequence key="x"/>\n\n<send>\n<endpoint\nkey="y"/></send>'
    document += "\n</sequence>"
    assert [(key.text, key.line) for key in _keys(document)] == [("x", 2), ("y", 6)]


@pytest.mark.parametrize(
    ("role", "text", "why"),
    [
        ("sequence", "conf:/x", "'conf:/x' is in the registry"),
        ("sequence", "gov:x", "'gov:x' is in the registry"),
        ("local-entry", "resources:xslt/x.xslt", "'resources:xslt/x.xslt' is in the registry"),
        ("sequence", "local:/x", "'local:/x' is in the registry"),
        ("local-entry", "xslt/x", "'xslt/x' is in the registry"),
        ("local-entry", "/x", "'/x' is in the registry"),
        ("local-entry", "x.XSLT", "'x.XSLT' may be a file in the registry"),
        ("sequence", "x.xml", "'x.xml' may be a file in the registry"),
        ("sequence", "{$ctx:next}", "'{$ctx:next}' is known only at run time"),
        ("endpoint", "$name", "'$name' is known only at run time"),
        ("endpoint", "${vars.to}", "'${vars.to}' is known only at run time"),
        ("endpoint", "http://host/a", "'http://host/a' is an address"),
        ("template", "synapse.lang.eip.splitter", "may be in a library"),
    ],
)
def test_what_may_be_no_name_is_not_checked(role: str, text: str, why: str) -> None:
    said = why_unchecked(Key(role, text, 1))
    assert said.startswith(f"{role} ")
    assert why in said


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("sequence", "audit"),
        ("sequence", "admin--Menu:v1.0.0--In"),  # how API-M 1 names an API's
        ("sequence", "com.example.audit"),
        ("endpoint", "Menu--v1.0.0_APIproductionEndpoint"),
        ("local-entry", "throttle_policy"),
        ("local-entry", "rates v1.0"),
        ("template", "rates_v1.0"),
        ("message-store", "Orders"),
    ],
)
def test_a_plain_name_must_be_there(role: str, text: str) -> None:
    assert why_unchecked(Key(role, text, 1)) == ""


@pytest.mark.parametrize(
    "address",
    ["https://ann:s3cret@host/a", "jms:/queue?password=s3cret", "http://ann:s3cret@host/{x}"],
)
def test_an_addresss_secrets_are_not_told(address: str) -> None:
    assert "s3cret" not in why_unchecked(Key("endpoint", address, 1))


@pytest.mark.parametrize("role", ["sequence", "endpoint", "template"])
def test_a_local_entry_serves_as_what_it_holds(role: str) -> None:
    content = f'<!-- it --><description>it</description><{role} name="other"/>'
    for attribute in ("", f' xmlns="{SYNAPSE}"'):
        document = f'<localEntry{attribute} key="x">{content}</localEntry>'
        assert also_serves_as(parse(document.encode(), "a.xml")) == (role,)


@pytest.mark.parametrize(
    "document",
    [
        '<localEntry key="x"/>',
        '<localEntry key="x">&lt;sequence/></localEntry>',
        '<localEntry key="x"><proxy name="p"/></localEntry>',
        '<localEntry key="x"><s:sequence xmlns:s="urn:other"/></localEntry>',
        '<sequence name="x"><endpoint/></sequence>',
    ],
)
def test_whatever_holds_no_sequence_serves_as_itself(document: str) -> None:
    assert also_serves_as(parse(document.encode(), "a.xml")) == ()


def test_a_local_entry_from_elsewhere_may_be_any_of_them() -> None:
    root = parse(b'<localEntry key="x" src="file:seq.xml"/>', "a.xml")
    assert also_serves_as(root) == ("sequence", "endpoint", "template")
    assert list(keys_of(root)) == []


def test_a_local_entry_refers_to_what_its_sequence_does_and_to_nothing_else() -> None:
    assert _named('<localEntry key="x"><sequence><sequence key="y"/></sequence></localEntry>') == [
        "sequence y"
    ]
    assert _named('<localEntry key="x"><order><sequence key="y"/></order></localEntry>') == []


# Trees that other people wrote ----------------------------------------------------------------

# The tests of the server that they belong to are about what is not there.
PROXIES = "proxy-services"
PROCESSORS = "message-processors"
STORE = "message-store 'EmptyMsgBodyTestStore'"
MISSING = {
    "tests-mediator-2": {
        (f"{PROCESSORS}/EmptyMsgBodyTestProcessor.xml", 1, STORE),
        (f"{PROXIES}/EmptyMsgBodyTestProxy.xml", 5, STORE),
        (
            f"{PROXIES}/sequenceMediatorNonExistingSequenceTestProxy.xml",
            5,
            "sequence 'non-existing'",
        ),
    },
    "tests-service": set(),
    "tests-transport": {
        (f"{PROCESSORS}/SamplingProcessor1.xml", 1, "endpoint 'RESTEndpoint'"),
        (f"{PROXIES}/JMSStoreNotAvailableTestCaseProxy.xml", 7, "message-store 'JMSMS12'"),
    },
}


def _files(suite: str) -> Mapping[str, bytes]:
    root = CORPUS / suite / "repository"
    if not root.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suite", sorted(MISSING))
def test_a_suites_references_lead_somewhere_but_for_those_that_do_not(suite: str) -> None:
    described = [describe(artifact) for artifact in artifacts_of(_files(suite)).artifacts]
    claimed = {claim.key for each in described for claim in each.claims}
    references = [reference for each in described for reference in each.references]
    assert {reference.text.split()[0] for reference in references} <= set(KINDS)
    found = {
        (reference.where, reference.line, reference.text)
        for reference in references
        if reference.key not in claimed
    }
    assert found == MISSING[suite]
    assert len(references) > 10 * len(found) + 10  # the rest is found
