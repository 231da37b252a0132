"""A real Synapse and a real Envoy are given the same APIs, and the same requests arrive upstream.

Apache's Synapse has neither http endpoints nor templates of URLs; what it has is compared.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engines.envoy.serving import Serving, api, filled, resource, send, serving, shared
from tests.engines.test_synapse import BASE, CONFIGS, write
from tests.servers.gatesync import free_ports
from tests.servers.synapse import synapse_engine

ADDRESS = '<address uri="http://@UP@/base"/>'
EVERYWHERE = 'methods="GET" url-mapping="/*"'
DOWN = '<address uri="http://@DOWN@/"/>'
SORRY = (
    '<payloadFactory media-type="xml"><format><sorry xmlns=""/></format><args/></payloadFactory>'
    '<property name="messageType" scope="axis2" value="text/xml"/>'
    '<property name="NO_ENTITY_BODY" scope="axis2" action="remove"/>'
    '<property name="HTTP_SC" scope="axis2" value="{}"/><header name="To" action="remove"/>'
    '<property name="RESPONSE" value="true"/><send/>'
)

APIS = [
    api("/plain", resource(send(ADDRESS))),
    api("/byurl", resource(send(ADDRESS)), 'version="1.0" version-type="url"'),
    api(
        "/postfix",
        resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" action="remove"/>' + send(ADDRESS),
            None,
            'methods="GET" url-mapping="/cut/*"',
        )
        + resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" value="/other?x=y"/>' + send(ADDRESS),
            None,
            'methods="GET" url-mapping="/set/*"',
        ),
    ),
    api(
        "/choose",
        "".join(
            resource(
                f'<property name="X-Chosen" scope="transport" value="{at}"/>' + send(ADDRESS),
                None,
                f'methods="GET" url-mapping="{mapping}"',
            )
            for at, mapping in enumerate(["/*", "/a/b", "/a/b/c/*", "*.jsp"])
        ),
    ),
    api("/to", resource('<header name="To" value="http://@UP@/there"/>' + send("<default/>"))),
    api("/empty", resource("<log/>")),
    shared('<sequence name="in"><property name="X-In" scope="transport" value="in"/></sequence>'),
    shared('<endpoint name="shop"><address uri="http://@UP@/shop"/></endpoint>'),
    api(
        "/shared",
        resource('<sequence key="in"/><send><endpoint key="shop"/></send>', None, EVERYWHERE),
    ),
    api(
        "/headers",
        resource(
            '<property name="X-Set" scope="transport" value="a"/>'
            "<property name=\"X-Both\" scope=\"transport\" "
            "expression=\"fn:concat(get-property('transport', 'X-Sent'), '!')\"/>"
            '<property name="X-Gone" scope="transport" action="remove"/>' + send(ADDRESS),
            '<property name="X-Back" scope="transport" value="b"/><send/>',
            EVERYWHERE,
        ),
    ),
    api(
        "/filter",
        resource(
            "<filter source=\"get-property('transport', 'X-Kind')\" regex=\"a|b+\">"
            '<then><property name="X-Was" scope="transport" value="yes"/></then>'
            '<else><property name="X-Was" scope="transport" value="no"/></else></filter>'
            "<switch source=\"get-property('transport', 'X-Size')\">"
            '<case regex="S"><property name="X-Is" scope="transport" value="small"/></case>'
            '<default><property name="X-Is" scope="transport" value="other"/></default></switch>'
            + send(ADDRESS),
            None,
            EVERYWHERE,
        ),
    ),
    shared(f'<sequence name="other">{SORRY.format(598)}</sequence>'),
    shared(f'<sequence name="careful" onError="other">{send(DOWN)}</sequence>'),
    shared('<sequence name="before" onError="other"><log/></sequence>'),
    *(
        api(
            f"/fault-{name}",
            f"<resource {EVERYWHERE}><inSequence{handler}>{into}</inSequence>"
            f"<faultSequence>{SORRY.format(599)}</faultSequence></resource>",
        )
        for name, handler, into in [
            ("plain", "", send(DOWN)),
            ("inner", "", '<sequence key="careful"/>'),
            ("before", "", '<sequence key="before"/>' + send(DOWN)),
            ("inline", ' onError="other"', send(DOWN)),
            ("up", "", send(ADDRESS)),
        ]
    ),
]  # fmt: skip


class Both(NamedTuple):
    envoy: Serving
    synapse: Serving


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder: Path = tmp_path_factory.mktemp("both")
    with serving(folder, APIS) as envoy:
        ports = {name: each.port for name, each in envoy.upstreams.items()}
        ports["DOWN"] = free_ports(1)[0]
        configs = folder / CONFIGS
        write(configs, BASE)
        for artifact in APIS:
            for part in filled(artifact, ports).parts:
                path = f"{part.path.rpartition('/')[0]}/{part.name}.xml"
                write(configs, {path: part.content.decode()})
        with synapse_engine(folder / "synapse", configs) as engine:
            yield Both(envoy, Serving(engine.port, envoy.upstreams))


@pytest.mark.parametrize(
    "path",
    [
        "/plain",
        "/plain/",
        "/plain?q=1",
        "/plain/a/b?q=1&q=2",
        "/plain/a%2Fb%20c",
        "/postfix/cut/x?y=z",
        "/postfix/set/x?y=z",
        "/to/x?y=1",
        "/shared/x",
        "/choose",
        "/choose/z",
        "/choose/a",
        "/choose/a/z",
        "/choose/a/b",
        "/choose/a/b/",
        "/choose/a/b/c",
        "/choose/a/b/c/d",
    ],
)
def test_the_same_arrives(both: Both, path: str) -> None:
    (one, answered), (other, said) = (each.through("GET", path) for each in both)
    assert one.path == other.path
    assert one.headers["host"] == other.headers["host"]
    assert one.headers.get("x-chosen") == other.headers.get("x-chosen")
    assert (answered.status, answered.body) == (said.status, said.body)


@pytest.mark.parametrize("path", ["/byurl/1.0", "/byurl/1.0/x?y"])
def test_a_version_in_the_url_is_no_part_of_what_arrives(both: Both, path: str) -> None:
    """Apache's Synapse loses the API on the way back, and answers with its main sequence."""
    (one, answered), (other, _) = (each.through("GET", path) for each in both)
    assert (one.path, answered.status) == (other.path, 200)


@pytest.mark.parametrize(
    "headers",
    [{"X-Sent": "s", "X-Gone": "1"}, {}],
)
def test_the_same_headers_arrive_and_come_back(both: Both, headers: dict[str, str]) -> None:
    (one, answered), (other, said) = (each.through("GET", "/headers/x", headers) for each in both)
    names = ("x-set", "x-both", "x-gone", "x-sent")
    assert [one.headers.get(each) for each in names] == [other.headers.get(each) for each in names]
    assert answered.headers["x-back"] == said.headers["x-back"]


@pytest.mark.parametrize(
    "headers",
    [{"X-Kind": "a"}, {"X-Kind": "bbb", "X-Size": "S"}, {"X-Kind": "ab", "X-Size": "SS"}, {}],
)
def test_filters_and_switches_go_the_same_way(both: Both, headers: dict[str, str]) -> None:
    (one, _), (other, _) = (each.through("GET", "/filter/x", headers) for each in both)
    for name in ("x-was", "x-is"):
        assert one.headers[name] == other.headers[name]


def test_what_synapse_answers_by_itself(both: Both) -> None:
    answers = [each.ask("OPTIONS", "/plain/x") for each in both]
    assert [each.status for each in answers] == [200, 200]
    assert len({frozenset(each.headers["allow"].split(", ")) for each in answers}) == 1
    assert [each.ask("GET", "/empty/x").status for each in both] == [202, 202]


@pytest.mark.parametrize(
    ("name", "status"),
    [("plain", 599), ("inner", 598), ("before", 599), ("inline", 598)],
)
def test_the_same_fault_sequence_answers(both: Both, name: str, status: int) -> None:
    for each in both:
        answer = each.ask("GET", f"/fault-{name}/x")
        assert (answer.status, "<sorry" in answer.body) == (status, True)


def test_what_the_upstream_answers_is_no_fault(both: Both) -> None:
    for each in both:
        assert each.ask("GET", "/fault-up/x", {"x-want": "503"}).status == 503
