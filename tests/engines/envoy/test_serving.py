"""Real requests through a real Envoy: what arrives at the upstream, and what comes back."""

from collections.abc import Iterator

import pytest

from tests.engines.envoy.serving import Serving, api, resource, send, serving, shared

HTTP = '<http uri-template="http://@UP@/base"/>'

SERVED = [
    # Contexts and versions
    api("/plain", resource(send(HTTP))),
    api("/menu/2.1.0", resource(send(HTTP)), 'version="2.1.0" version-type="context"'),
    api("/byurl", resource(send(HTTP)), 'version="1.0" version-type="url"'),
    api("/plain/deeper", resource(send('<http uri-template="http://@OTHER@/deeper"/>'))),
    api("/tenants", resource(send(HTTP)), tenant="acme.com"),
    api("/t/globex.com/own", resource(send(HTTP)), tenant="globex.com"),
    api("/hosted", resource(send(HTTP)), 'hostname="pizza.example"'),
    # Endpoints and paths
    api(
        "/paths",
        resource(
            send('<address uri="http://@UP@/root/"/>'), None, 'methods="GET" url-mapping="/slash/*"'
        )
        + resource(
            send('<address uri="http://@UP@"/>'), None, 'methods="GET" url-mapping="/bare/*"'
        )
        + resource(
            send('<http method="POST" uri-template="http://@UP@/fixed?a=1"/>'),
            None,
            'methods="GET" url-mapping="/fixed"',
        )
        + resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" action="remove"/>' + send(HTTP),
            None,
            'methods="GET" url-mapping="/cut/*"',
        )
        + resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" value="/other?x=y"/>' + send(HTTP),
            None,
            'methods="GET" url-mapping="/set/*"',
        )
        + resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" value="a b&#10;c#"/>' + send(HTTP),
            None,
            'methods="GET" url-mapping="/odd"',
        )
        + resource(
            '<property name="REST_URL_POSTFIX" scope="axis2" '
            "expression=\"fn:concat('/v/', get-property('uri.var.id'))\"/>" + send(HTTP),
            None,
            'methods="GET" uri-template="/computed/{id}"',
        ),
    ),
    api(
        "/variables",
        resource(
            '<property name="uri.var.step" value="customers"/>'
            + send('<http method="GET" uri-template="http://@UP@/{uri.var.step}/{uri.var.id}"/>'),
            None,
            'methods="GET" uri-template="/one/{id}"',
        )
        + resource(
            send(
                '<http method="GET" '
                'uri-template="http://@UP@/q?lat={uri.var.latitude}&amp;name={query.param.name}"/>'
            ),
            None,
            'methods="GET" uri-template="/map?latitude={+latitude}"',
        )
        + resource(
            send('<http uri-template="http://@UP@/of/{uri.var.id}"/>'),
            None,
            'methods="GET" uri-template="/kept/{id}/*"',
        )
        + resource(
            send('<http method="GET" uri-template="http://@UP@/{uri.var.a}/{uri.var.b}"/>'),
            None,
            'methods="GET" uri-template="/two/{b}/and/{+a}"',
        ),
    ),
    api(
        "/to",
        resource('<header name="To" value="http://@UP@/there"/>' + send("<default/>")),
    ),
    # Choosing a resource
    api(
        "/choose",
        resource("<respond/>", None, 'methods="POST" url-mapping="/*"')
        + "".join(
            resource(
                f'<property name="X-Resource" scope="transport" value="{name}"/>' + send(HTTP),
                None,
                attributes,
            )
            for name, attributes in {
                "wild": 'methods="GET" url-mapping="/*"',
                "a-wild": 'methods="GET" uri-template="/a/*"',
                "template": 'methods="GET" uri-template="/a/{id}"',
                "exact": 'methods="GET HEAD" url-mapping="/a/b"',
                "put": 'methods="PUT" uri-template="/a/{id}"',
            }.items()
        ),
    ),
    api("/every", '<resource><inSequence>' + send(HTTP) + "</inSequence></resource>"),
    api("/options", resource(send(HTTP), None, 'methods="GET OPTIONS"')),
    # Headers and properties
    api(
        "/headers",
        resource(
            """
            <property name="X-Const" scope="transport" value="50% of $all"/>
            <property name="saved" expression="$trp:X-Change"/>
            <property name="X-Change" scope="transport" value="changed"/>
            <property name="X-Saved" scope="transport" expression="$ctx:saved"/>
            <property name="X-Joined" scope="transport"
                expression="fn:concat('a-', get-property('transport', 'X-In'), '-', $url:q)"/>
            <property name="X-Drop" scope="transport" action="remove"/>
            <header name="X-Header" scope="transport" expression="get-property('uri.var.id')"/>
            <property name="X-Method" scope="transport" expression="$axis2:HTTP_METHOD"/>
            <property name="X-Gone" scope="transport" value="x"/>
            <property name="X-Gone" scope="transport" action="remove"/>
            <property name="REQUEST_HOST_HEADER" scope="axis2" value="its.name:81"/>
            <log level="full"/>
            """
            + send(HTTP),
            """
            <property name="Server" scope="transport" action="remove"/>
            <property name="X-Out" scope="transport" value="crispy"/>
            <property name="X-From" scope="transport" expression="$trp:X-Upstream"/>
            <property name="X-Id" scope="transport" expression="get-property('uri.var.id')"/>
            <property name="X-Was" scope="transport" expression="$ctx:saved2"/>
            <send/>
            """.replace("$ctx:saved2", "'known'"),
            'methods="GET" uri-template="/{id}"',
        ),
    ),
    api(
        "/said",
        resource(
            '<property name="X-User" scope="transport" expression="$trp:X-Known"/>'
            '<property name="X-Twice" scope="transport" expression="$trp:X-Twice"/>' + send(HTTP),
            '<property name="Server" scope="transport" expression="$trp:X-None"/><send/>',
        ),
    ),
    # Answers
    api(
        "/answers",
        resource(
            '<payloadFactory media-type="json"><format>{"pizza": "$1"}</format>'
            '<args><arg value="say &quot;hi&quot;"/></args></payloadFactory>'
            '<property name="HTTP_SC" scope="axis2" value="201"/>'
            '<header name="X-Made" scope="transport" value="yes"/><respond/>',
            None,
            'methods="GET" url-mapping="/json"',
        )
        + resource(
            '<payloadFactory media-type="xml"><format><m:menu xmlns:m="urn:m">ü</m:menu></format>'
            "<args/></payloadFactory>"
            '<property name="messageType" scope="axis2" value="text/xml"/><loopback/>',
            '<property name="X-Out" scope="transport" value="too"/><respond/>',
            'methods="GET" url-mapping="/xml"',
        )
        + resource("<drop/>", None, 'methods="GET" url-mapping="/drop"')
        + resource("<log/>", None, 'methods="GET" url-mapping="/nothing"')
        + resource(
            '<property name="HTTP_SC" scope="axis2" value="202"/>'
            '<property name="X-Echo" scope="transport" expression="$trp:X-In"/><respond/>',
            None,
            'methods="POST GET" url-mapping="/echo"',
        )
        + resource(
            '<property name="RESPONSE" value="true"/><header name="To" action="remove"/>'
            '<property name="NO_ENTITY_BODY" scope="axis2" value="true"/>'
            '<property name="HTTP_SC" scope="axis2" value="403"/><send/><drop/>',
            None,
            'methods="GET" url-mapping="/back"',
        ),
    ),
    api(
        "/calls",
        resource(
            '<payloadFactory media-type="json"><format>{"order": 1}</format><args/>'
            "</payloadFactory><call><endpoint>"
            '<http method="PUT" uri-template="http://@UP@/orders"/></endpoint></call>'
            '<property name="HTTP_SC" scope="axis2" value="201"/>'
            '<payloadFactory media-type="xml"><format><done xmlns=""/></format><args/>'
            "</payloadFactory><respond/>",
            None,
            'methods="GET POST" url-mapping="/order"',
        )
        + resource(
            '<call><endpoint><http uri-template="http://@DOWN@/"/></endpoint></call>'
            '<property name="HTTP_SC" scope="axis2" value="201"/><respond/>',
            None,
            'methods="GET" url-mapping="/down"',
        ),
    ),
    # Sequences and endpoints of others
    shared('<sequence name="addHeader"><property name="X-Shared" scope="transport" value="in"/>'
           "</sequence>"),
    shared('<sequence name="whole"><sequence key="addHeader"/><send>'
           '<endpoint key="shop"/></send></sequence>'),
    shared('<sequence name="out"><property name="X-Shared" scope="transport" value="out"/>'
           "<send/></sequence>"),
    shared('<endpoint name="shop"><address uri="http://@UP@/shop"/></endpoint>'),
    shared('<localEntry key="entry"><endpoint name="x"><address uri="http://@UP@/entry"/>'
           "</endpoint></localEntry>"),
    api(
        "/shared",
        '<resource methods="GET" url-mapping="/a/*" inSequence="whole" outSequence="out" '
        'faultSequence="fault"/>'
        '<resource methods="GET" url-mapping="/b"><inSequence><send>'
        '<endpoint key="entry"/></send></inSequence></resource>',
    ),
    # Filters
    api(
        "/filters",
        resource(
            """
            <property name="kind" expression="get-property('transport','X-Kind')"/>
            <filter source="$ctx:kind" regex="pizz[ae]+"><then>
                <property name="X-Was" scope="transport" value="pizza"/></then>
              <else><property name="X-Was" scope="transport" value="other"/></else></filter>
            <switch source="$url:size">
              <case regex="small|tiny"><property name="X-Size" scope="transport" value="S"/></case>
              <case regex="big"><property name="X-Size" scope="transport" value="L"/></case>
              <default><property name="X-Size" scope="transport" value="M"/></default>
            </switch>
            <filter source="$axis2:HTTP_METHOD" regex="POST">
              <property name="X-Post" scope="transport" value="yes"/></filter>
            <filter xpath="get-property('uri.var.id') = '42' and not($trp:X-Not)">
              <property name="HTTP_SC" scope="axis2" value="404"/>
              <payloadFactory media-type="text"><format>no 42</format><args/></payloadFactory>
              <respond/>
            </filter>
            """
            + send(HTTP),
            None,
            'methods="GET POST" uri-template="/{id}"',
        ),
    ),
    api(
        "/keys",
        resource(
            '<filter source="$ctx:AM_KEY_TYPE" regex="PRODUCTION"><then>'
            + send(HTTP)
            + "</then><else>"
            + send('<http uri-template="http://@OTHER@/sandbox"/>')
            + "</else></filter>"
        ),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("envoy"), SERVED) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "arrived"),
    [
        ("/plain", "/base"),
        ("/plain/", "/base/"),
        ("/plain/a/b?q=1&q=2", "/base/a/b?q=1&q=2"),
        ("/plain/a%2Fb%20c", "/base/a%2Fb%20c"),
        ("//plain//a", "/base/a"),
        ("/x/../plain/a", "/base/a"),
        ("/menu/2.1.0/today", "/base/today"),
        ("/byurl/1.0/x", "/base/x"),
        ("/t/acme.com/tenants/x", "/base/x"),
        ("/t/globex.com/own/x", "/base/x"),
        ("/paths/slash/x", "/root/slash/x"),
        ("/paths/bare/x?y", "/bare/x?y"),
        ("/paths/cut/x?y=z", "/base"),
        ("/paths/set/x?y=z", "/base/other?x=y"),
        ("/paths/computed/7%2F8?y=z", "/base/v/7%2F8"),
        ("/paths/odd", "/base/a%20b%0Ac%23"),
        ("/variables/one/7%208?x=1", "/customers/7%208"),
        ("/variables/map?latitude=1.5&name=J%26K&z=1", "/q?lat=1.5&name=J%26K"),
        ("/variables/map?z=1&latitude=2", "/q?lat=2&name="),
        ("/variables/kept/9/more?z=1", "/of/9/kept/9/more?z=1"),
        ("/variables/two/B/and/A/A", "/A/A/B"),
        ("/to/x?y=1", "/there/x?y=1"),
        ("/shared/a/x", "/shop/a/x"),
        ("/shared/b", "/entry/b"),
    ],
)
def test_the_path_that_arrives(envoy: Serving, asked: str, arrived: str) -> None:
    seen, answer = envoy.through("GET", asked)
    assert (seen.path, answer.status) == (arrived, 200)
    assert seen.headers["host"] == f"127.0.0.1:{envoy.upstreams['UP'].port}"


def test_nothing_of_ours_arrives_and_nobody_forges_the_scope(envoy: Serving) -> None:
    forged = {"x-gatesync-scope": "/menu/2.1.0", "x-in": "1", "user-agent": "me"}
    seen, answer = envoy.through("GET", "/plain/x", forged)
    assert seen.path == "/base/x"
    assert set(seen.headers) == {"host", "x-in", "user-agent", "x-forwarded-proto"}
    assert answer.headers["server"] == "upstream/1"
    assert not [name for name in answer.headers if "envoy" in name or "gatesync" in name]


def test_the_method_the_body_and_the_status_pass_through(envoy: Serving) -> None:
    headers = {"content-type": "text/csv", "x-want": "418"}
    seen, answer = envoy.through("POST", "/plain/x", headers, "a,b")
    assert (seen.method, seen.body, seen.headers["content-type"]) == ("POST", "a,b", "text/csv")
    assert (answer.status, answer.body) == (418, "from UP")


def test_an_endpoint_with_a_method_has_its_own_path_and_method(envoy: Serving) -> None:
    seen, _ = envoy.through("GET", "/paths/fixed?mine=1")
    assert (seen.method, seen.path) == ("POST", "/fixed?a=1")


def test_the_longer_context_is_asked_first(envoy: Serving) -> None:
    seen, _ = envoy.through("GET", "/plain/deeper/x", upstream="OTHER")
    assert seen.path == "/deeper/x"


@pytest.mark.parametrize("path", ["/none", "/", "/plainer", "/byurl/2.0/x", "/tenants/x"])
def test_what_no_api_has_is_not_found(envoy: Serving, path: str) -> None:
    assert envoy.ask("GET", path).status == 404


def test_an_api_for_a_host_is_not_found_on_another(envoy: Serving) -> None:
    assert envoy.ask("GET", "/hosted/x").status == 404


@pytest.mark.parametrize(
    ("method", "path", "chosen"),
    [
        ("GET", "/choose/a/b", "exact"),
        ("HEAD", "/choose/a/b", "exact"),
        ("GET", "/choose/a/b/", "exact"),
        ("GET", "/choose/a/c", "template"),
        ("PUT", "/choose/a/b", "put"),
        ("GET", "/choose/a/c/d", "a-wild"),
        ("GET", "/choose/a", "a-wild"),
        ("GET", "/choose", "wild"),
        ("GET", "/choose/z", "wild"),
    ],
)
def test_the_resource_that_is_chosen(envoy: Serving, method: str, path: str, chosen: str) -> None:
    seen, _ = envoy.through(method, path)
    assert (seen.method, seen.headers["x-resource"]) == (method, chosen)


def test_a_method_that_no_resource_of_the_path_has(envoy: Serving) -> None:
    answer = envoy.ask("PATCH", "/choose/a/c")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, PUT")
    assert envoy.ask("HEAD", "/plain").status == 405


def test_options_is_always_welcome(envoy: Serving) -> None:
    answer = envoy.ask("OPTIONS", "/plain/x")
    assert (answer.status, answer.headers["allow"], answer.body) == (200, "GET, POST", "")
    seen, _ = envoy.through("OPTIONS", "/options")
    assert seen.method == "OPTIONS"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_a_resource_without_methods_has_them_all(envoy: Serving, method: str) -> None:
    seen, answer = envoy.through(method, "/every/x")
    assert (seen.method, seen.path, answer.status) == (method, "/base/x", 200)


def test_headers_are_set_and_removed_on_the_way_there(envoy: Serving) -> None:
    sent = {"X-Change": "before", "X-In": "in", "X-Drop": "1", "X-Gone": "1"}
    seen, _ = envoy.through("GET", "/headers/7?q=a%20b", sent)
    mine = {name: value for name, value in seen.headers.items() if name.startswith("x-")}
    mine.pop("x-forwarded-proto")
    assert mine == {
        "x-const": "50% of $all",
        "x-change": "changed",
        "x-saved": "before",
        "x-joined": "a-in-a b",
        "x-in": "in",
        "x-header": "7",
        "x-method": "GET",
    }
    assert seen.headers["host"] == "its.name:81"


def test_headers_are_set_and_removed_on_the_way_back(envoy: Serving) -> None:
    _, answer = envoy.through("GET", "/headers/7")
    assert "server" not in answer.headers
    assert {name: answer.headers.get(name) for name in ("x-out", "x-from", "x-id", "x-was")} == {
        "x-out": "crispy",
        "x-from": "UP",
        "x-id": "7",
        "x-was": "known",
    }


def test_a_client_cannot_say_what_the_gateway_is_to_say_of_it(envoy: Serving) -> None:
    seen, answer = envoy.through("GET", "/said/x", {"X-User": "admin", "X-Twice": "kept"})
    assert "x-user" not in seen.headers
    assert seen.headers["x-twice"] == "kept"
    assert "server" not in answer.headers
    seen, _ = envoy.through("GET", "/said/x", {"X-User": "admin", "X-Known": "me"})
    assert seen.headers["x-user"] == "me"


def test_a_query_cannot_smuggle_a_header_in(envoy: Serving) -> None:
    envoy.upstreams["UP"].seen.clear()
    assert envoy.ask("GET", "/headers/7?q=a%0d%0aX-Evil:%201").status >= 400
    assert envoy.upstreams["UP"].seen == []


def test_answers_that_are_made(envoy: Serving) -> None:
    made = envoy.ask("GET", "/answers/json")
    assert (made.status, made.body) == (201, '{"pizza": "say \\"hi\\""}')
    assert (made.headers["content-type"], made.headers["x-made"]) == ("application/json", "yes")
    made = envoy.ask("GET", "/answers/xml")
    assert (made.status, made.body) == (200, '<m:menu xmlns:m="urn:m">ü</m:menu>')
    assert (made.headers["content-type"], made.headers["x-out"]) == ("text/xml", "too")


def test_what_is_dropped_or_never_sent_is_accepted(envoy: Serving) -> None:
    for path in ("/answers/drop", "/answers/nothing"):
        answer = envoy.ask("GET", path)
        assert (answer.status, answer.body) == (202, "")


def test_respond_sends_the_request_back(envoy: Serving) -> None:
    sent = {"content-type": "text/csv", "x-in": "in"}
    answer = envoy.ask("POST", "/answers/echo", sent, "a,b")
    assert (answer.status, answer.body) == (202, "a,b")
    assert (answer.headers["content-type"], answer.headers["x-echo"]) == ("text/csv", "in")
    assert envoy.ask("GET", "/answers/echo").body == ""


def test_what_is_said_to_be_an_answer_goes_back(envoy: Serving) -> None:
    answer = envoy.ask("GET", "/answers/back")
    assert (answer.status, answer.body) == (403, "")


def test_a_call_with_a_body_of_its_own_and_an_answer_of_its_own(envoy: Serving) -> None:
    for method, body in (("GET", None), ("POST", "old")):
        seen, answer = envoy.through(method, "/calls/order?x=1", body=body)
        assert (seen.method, seen.path, seen.body) == ("PUT", "/orders", '{"order": 1}')
        assert seen.headers["content-type"] == "application/json"
        assert (answer.status, answer.body) == (201, "<done/>")
        assert answer.headers["content-type"] == "application/xml"


def test_a_failing_upstream_is_not_taken_for_an_answer(envoy: Serving) -> None:
    assert envoy.ask("GET", "/calls/down").status == 503


def test_sequences_and_endpoints_of_other_artifacts(envoy: Serving) -> None:
    seen, answer = envoy.through("GET", "/shared/a/x")
    assert (seen.headers["x-shared"], answer.headers["x-shared"]) == ("in", "out")


@pytest.mark.parametrize(
    ("kind", "query", "was", "size"),
    [
        ("pizza", "size=tiny", "pizza", "S"),
        ("pizzae", "size=big", "pizza", "L"),
        ("a pizza", "size=bigger", "other", "M"),
        (None, "", "other", "M"),
    ],
)
def test_filters_and_switches(
    envoy: Serving, kind: str | None, query: str, was: str, size: str
) -> None:
    headers = {} if kind is None else {"X-Kind": kind}
    seen, _ = envoy.through("GET", f"/filters/1?{query}", headers)
    assert (seen.headers["x-was"], seen.headers["x-size"]) == (was, size)
    assert "x-post" not in seen.headers


def test_filters_on_the_method_and_on_a_variable_of_the_url(envoy: Serving) -> None:
    seen, _ = envoy.through("POST", "/filters/1")
    assert seen.headers["x-post"] == "yes"
    answer = envoy.ask("GET", "/filters/42?size=big")
    assert (answer.status, answer.body) == (404, "no 42")
    seen, _ = envoy.through("GET", "/filters/42", {"x-not": "1"})
    assert seen.path == "/base/42"


def test_a_gateway_of_any_type_but_sandbox_serves_production(envoy: Serving) -> None:
    seen, _ = envoy.through("GET", "/keys/x")
    assert seen.path == "/base/x"
