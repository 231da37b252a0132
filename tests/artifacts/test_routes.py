import pytest

from gatesync.artifacts.routes import (
    Endpoint,
    Resource,
    endpoints_of,
    handlers_of,
    resources_of,
)
from gatesync.artifacts.xml import parse

pytestmark = pytest.mark.fast

XMLNS = ' xmlns="http://ws.apache.org/ns/synapse"'


def _api(content: str, xmlns: str = XMLNS) -> bytes:
    return f'<api name="a" context="/a"{xmlns}>{content}</api>'.encode()


@pytest.mark.parametrize("xmlns", ["", XMLNS])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("<resource/>", Resource((), "", "")),
        (
            '<resource methods="GET  POST" uri-template="/dish/{id}"/>',
            Resource(("GET", "POST"), "/dish/{id}", "uri-template"),
        ),
        ('<resource url-mapping="/*"/>', Resource((), "/*", "url-mapping")),
        (
            '<resource inSequence="x" outSequence="conf:/y" faultSequence="z"/>',
            Resource((), "", "", "x", "conf:/y", "z"),
        ),
        ('<resource><inSequence><sequence key="x"/></inSequence></resource>', Resource((), "", "")),
    ],
)
def test_a_resource_says_which_requests_it_serves(
    xmlns: str, written: str, expected: Resource
) -> None:
    root = parse(_api(written, xmlns), "a.xml")
    assert resources_of(root) == (expected,)


def test_resources_and_handlers_stand_in_the_order_of_the_file() -> None:
    root = parse(
        _api(
            '<resource methods="GET"/><!-- last --><handlers><handler class="b.B"/>'
            '<handler class="a.A"><property name="class" value="c.C"/></handler></handlers>'
            '<resource methods="PUT"/>'
        ),
        "a.xml",
    )
    assert [resource.methods for resource in resources_of(root)] == [("GET",), ("PUT",)]
    assert handlers_of(root) == ("b.B", "a.A")


@pytest.mark.parametrize("xmlns", ["", XMLNS])
@pytest.mark.parametrize(
    ("content", "kind", "urls"),
    [
        ('<http method="get" uri-template="http://h/{a}"/>', "http", ["http://h/{a}"]),
        ('<address uri="http://h"><timeout/></address>', "address", ["http://h"]),
        ('<wsdl uri="http://h?wsdl" service="s" port="p"/>', "wsdl", ["http://h?wsdl"]),
        ("<!-- any --><session/><default/>", "default", []),
        ("", "", []),
    ],
)
def test_an_endpoint_has_the_type_of_its_element(
    xmlns: str, content: str, kind: str, urls: list[str]
) -> None:
    root = parse(f'<endpoint name="e"{xmlns}>{content}</endpoint>'.encode(), "a.xml")
    assert endpoints_of(root) == (Endpoint("e", kind, tuple(urls)),)


def test_an_endpoint_is_told_with_its_members_addresses() -> None:
    root = parse(
        b'<sequence name="s"><send><endpoint><loadbalance>'
        b'<endpoint name="one"><address uri="http://one/{x}"/></endpoint><endpoint key="three"/>'
        b'<endpoint><http uri-template="https://two"/></endpoint>'
        b"</loadbalance></endpoint></send></sequence>",
        "a.xml",
    )
    expected = Endpoint("", "loadbalance", ("http://one/{x}", "https://two"))
    assert endpoints_of(root) == (expected,)


def test_an_endpoint_may_be_made_by_a_template() -> None:
    root = parse(
        b'<endpoint name="e" template="t" uri="http://a"><parameter name="uri" value="http://b"/>'
        b'<parameter name="port" value="1"/></endpoint>',
        "a.xml",
    )
    assert endpoints_of(root) == (Endpoint("e", "template", ("http://a", "http://b")),)


@pytest.mark.parametrize("reference", ['key="x"', 'key-expression="$url:x"'])
def test_a_reference_to_an_endpoint_is_none(reference: str) -> None:
    root = parse(f'<sequence name="s"><endpoint {reference}/></sequence>'.encode(), "a.xml")
    assert endpoints_of(root) == ()
