"""Fault sequences through a real Envoy: what clients get when an upstream fails, and when not."""

import socket
from collections.abc import Iterator

import pytest

from tests.engines.envoy.serving import TIMEOUT, Serving, api, send, serving, shared

DOWN = send('<http uri-template="http://@DOWN@/"/>')
UP = send('<http uri-template="http://@UP@/base"/>')
ANSWER = (
    '<log/><property name="HTTP_SC" scope="axis2" value="599"/>'
    '<payloadFactory media-type="json"><format>{"sorry": "$1"}</format>'
    '<args><arg value="all ovens are cold"/></args></payloadFactory>'
)
EVERYWHERE = 'methods="GET POST HEAD" url-mapping="/*"'


def late(action: str) -> str:
    return send(
        '<http uri-template="http://@UP@/"><timeout><duration>100</duration>'
        f"<responseAction>{action}</responseAction></timeout></http>"
    )


def status(number: int) -> str:
    """A fault sequence's mediators that answer with this status alone."""
    return (
        f'<property name="HTTP_SC" scope="axis2" value="{number}"/>'
        '<property name="NO_ENTITY_BODY" scope="axis2" value="true"/><respond/>'
    )


def resource(into: str, fault: str, out: str = "", attributes: str = EVERYWHERE) -> str:
    return (
        f"<resource {attributes}><inSequence>{into}</inSequence>{out}"
        f"<faultSequence>{fault}</faultSequence></resource>"
    )


SERVED = [
    api(
        "/whole",
        resource(
            '<property name="Authorization" scope="transport" value="Basic c2VjcmV0"/>'
            '<header name="X-Sent" scope="transport" expression="$trp:X-In"/>' + DOWN,
            ANSWER + '<header name="X-Fault" scope="transport" value="yes 100%"/>'
            '<header name="X-Gone" scope="transport" value="yes"/>'
            '<header name="X-Gone" scope="transport" action="remove"/><respond/>',
            '<outSequence><header name="X-Out" scope="transport" value="out"/>'
            '<property name="HTTP_SC" scope="axis2" value="201"/><send/></outSequence>',
        ),
    ),
    api("/up", resource(UP, ANSWER + "<respond/>")),
    api("/slow", resource(late("fault"), ANSWER + "<respond/>")),
    api("/discarded", resource(late("discard"), ANSWER + "<respond/>")),
    api("/none", f"<resource {EVERYWHERE}><inSequence>{DOWN}</inSequence></resource>"),
    api("/dropped", resource(DOWN, ANSWER + "<drop/>")),
    api("/unsent", resource(DOWN, ANSWER)),
    api("/empty", resource(DOWN, status(507))),
    api(
        "/back",
        resource(
            DOWN,
            ANSWER + '<property name="messageType" scope="axis2" value="application/problem+json"/>'
            '<property name="RESPONSE" value="true"/><header name="To" action="remove"/><send/>',
        ),
    ),
    api(
        "/called",
        resource(
            '<payloadFactory media-type="xml"><format><order xmlns=""/></format><args/>'
            '</payloadFactory><call><endpoint><http uri-template="http://@DOWN@/"/></endpoint>'
            '</call><property name="HTTP_SC" scope="axis2" value="201"/><respond/>',
            ANSWER + "<respond/>",
        ),
    ),
    api(
        "/asked",
        resource(
            DOWN,
            f'<filter source="$trp:X-Kind" regex="a"><then>{status(501)}</then>'
            f"<else><log/></else></filter>"
            f'<switch source="$axis2:HTTP_METHOD"><case regex="POST">{status(502)}</case></switch>',
        ),
    ),
    api(
        "/pack",
        resource(DOWN, '<log/><sequence key="_cors_request_handler_"/><sequence key="fault"/>'),
    ),
    api(
        "/suspended",
        resource(
            send(
                '<http uri-template="http://@DOWN@/"><suspendOnFailure>'
                "<initialDuration>600000</initialDuration></suspendOnFailure></http>"
            ),
            status(507),
        ),
    ),
    api(
        "/group",
        resource(
            send(
                '<failover><endpoint><address uri="http://@DOWN@/"/></endpoint>'
                '<endpoint><address uri="http://localhost:@DOWN.port@/"/></endpoint></failover>'
            ),
            status(507),
        ),
    ),
    # Of other artifacts, and of sequences
    shared(f'<sequence name="sorry">{ANSWER}<respond/></sequence>'),
    shared(f'<sequence name="other">{status(598)}</sequence>'),
    shared(f'<sequence name="careful" onError="other"><log/>{DOWN}</sequence>'),
    shared('<sequence name="careful-before" onError="other"><log/></sequence>'),
    shared(f'<sequence name="careless" onError="fault">{DOWN}</sequence>'),
    *(
        api(
            f"/{name}",
            f'<resource {EVERYWHERE} faultSequence="sorry"><inSequence>{into}</inSequence>'
            "</resource>",
        )
        for name, into in {
            "by-key": DOWN,
            "inner": '<sequence key="careful"/>',
            "before": '<sequence key="careful-before"/>' + DOWN,
            "careless": '<sequence key="careless"/>',
        }.items()
    ),
    api(
        "/in-key",
        f'<resource {EVERYWHERE} inSequence="careful" faultSequence="sorry"/>',
    ),
    api(
        "/inline",
        f'<resource {EVERYWHERE} faultSequence="sorry"><inSequence onError="other">{DOWN}'
        "</inSequence></resource>",
    ),
]


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("envoy"), SERVED) as running:
        yield running


BODY = '{"sorry": "all ovens are cold"}'


def test_a_refused_connection_is_answered_by_the_fault_sequence_and_nothing_else(
    envoy: Serving,
) -> None:
    for method, body in (("GET", None), ("POST", "order")):
        answer = envoy.ask(method, "/whole/x", {"X-In": "in"}, body)
        assert (answer.status, answer.body) == (599, BODY)
        answer.headers.pop("date")
        answer.headers.pop("connection", None)  # it ends where the body was not read to its end
        assert answer.headers == {
            "content-type": "application/json",
            "content-length": str(len(BODY)),
            "x-fault": "yes 100%",
        }


def test_head_gets_the_status_and_no_body(envoy: Serving) -> None:
    answer = envoy.ask("HEAD", "/whole/x")
    assert (answer.status, answer.body, answer.headers["x-fault"]) == (599, "", "yes 100%")


@pytest.mark.parametrize("wanted", ["200", "500", "502", "503", "504"])
def test_what_the_upstream_answers_itself_is_untouched(envoy: Serving, wanted: str) -> None:
    _, answer = envoy.through("GET", "/up/x", {"x-want": wanted})
    assert (answer.status, answer.body) == (int(wanted), "from UP")
    assert answer.headers["content-type"] == "text/plain"
    assert not [name for name in answer.headers if "gatesync" in name]


def test_an_upstream_that_hangs_up(envoy: Serving) -> None:
    answer = envoy.ask("GET", "/up/x", {"x-hang-up": "1"})
    assert (answer.status, answer.body) == (599, BODY)


def test_an_answer_that_is_late(envoy: Serving) -> None:
    slow = {"x-slow": "0.5"}
    answer = envoy.ask("GET", "/slow/x", slow)
    assert (answer.status, answer.body) == (599, BODY)
    assert envoy.ask("GET", "/slow/x").status == 200
    assert envoy.ask("GET", "/discarded/x", slow).status == 504


def test_a_client_that_is_late_itself_is_no_fault_of_the_upstream(envoy: Serving) -> None:
    with socket.create_connection(("127.0.0.1", envoy.port), TIMEOUT) as connection:
        connection.sendall(b"POST /slow/x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\na")
        assert connection.recv(12) == b"HTTP/1.1 408"


@pytest.mark.parametrize("path", ["/none", "/dropped", "/unsent", "/pack", "/careless"])
def test_where_no_fault_sequence_answers_envoy_does(envoy: Serving, path: str) -> None:
    answer = envoy.ask("GET", path)
    assert (answer.status, BODY in answer.body) == (503, False)


def test_bodies_of_other_types_and_none(envoy: Serving) -> None:
    answer = envoy.ask("GET", "/back")
    assert (answer.status, answer.body) == (599, BODY)
    assert answer.headers["content-type"] == "application/problem+json"
    answer = envoy.ask("GET", "/empty")
    assert (answer.status, answer.body) == (507, "")
    assert "content-type" not in answer.headers


def test_a_call_that_fails(envoy: Serving) -> None:
    answer = envoy.ask("GET", "/called")
    assert (answer.status, answer.body) == (599, BODY)


def test_filters_in_a_fault_sequence_ask_for_the_request(envoy: Serving) -> None:
    assert envoy.ask("GET", "/asked", {"x-kind": "a"}).status == 501
    assert envoy.ask("POST", "/asked").status == 502
    assert envoy.ask("GET", "/asked").status == 503


def test_a_group_of_which_nobody_is_there_has_failed(envoy: Serving) -> None:
    assert envoy.ask("GET", "/group").status == 507


def test_an_upstream_that_is_left_out_has_failed_too(envoy: Serving) -> None:
    assert {envoy.ask("GET", "/suspended").status for _ in range(20)} == {507}


@pytest.mark.parametrize(
    ("path", "status"),
    [("by-key", 599), ("inner", 598), ("before", 599), ("inline", 598), ("in-key", 598)],
)
def test_the_innermost_error_handler_around_the_send_runs(
    envoy: Serving, path: str, status: int
) -> None:
    assert envoy.ask("GET", f"/{path}").status == status
