"""What stands before an API and behind it: handlers, TLS, groups of endpoints, timeouts."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import pytest

from gatesync.artifacts.model import Artifact, Part
from gatesync.engines.envoy.options import Issuer
from tests.engines.envoy.serving import (
    Serving,
    api,
    policy,
    resource,
    send,
    serving,
)
from tests.servers.gatesync import until
from tests.web.certificates import Authority

HTTP = '<http uri-template="http://@UP@/base"/>'
SECRET = b"a secret of the issuer and nobody else"
ISSUER = Issuer(
    issuer="https://issuer.example",
    jwks=json.dumps(
        {
            "keys": [
                {
                    "kty": "oct",
                    "alg": "HS256",
                    "kid": "one",
                    "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
                }
            ]
        }
    ),
    audiences=("gateway",),
)
HANDLERS = "org.wso2.carbon.apimgt.gateway.handlers."
UUID = "5c1d7a52-0f5e-4a86-9b0e-6a1f6f0d2c11"
PLAN = """
from EligibilityStream[isEligible == true]#throttler:timeBatch(1 hour, 0)
select throttleKey, (count(messageID) >= 2) as isThrottled, expiryTimeStamp
"""


def handler(name: str, **properties: str) -> str:
    inner = "".join(
        f'<property name="{key}" value="{value}"/>' for key, value in properties.items()
    )
    return f'<handler class="{HANDLERS}{name}">{inner}</handler>'


def guarded(context: str, *handlers: str) -> Artifact:
    whole = f"<handlers>{''.join(handlers)}</handlers>"
    return api(context, resource(send(HTTP), None, 'methods="GET" url-mapping="/*"') + whole)


def with_definition(artifact: Artifact, tier: str) -> Artifact:
    """An API whose OpenAPI definition gives its operation a tier."""
    operation = {"get": {"x-throttling-tier": tier}}
    definition = json.dumps({"openapi": "3.0.1", "paths": {"/*": operation}})
    entry = f'<localEntry key="{UUID}"><![CDATA[{definition}]]></localEntry>'
    part = Part("local-entry", UUID, f"local-entries/{UUID}.xml", entry.encode())
    return Artifact(artifact.identity, UUID, (*artifact.parts, part))


def token(**claims: object) -> str:
    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    said = {"iss": ISSUER.issuer, "aud": "gateway", "exp": time.time() + 600, **claims}
    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    signed = head + b"." + encoded(json.dumps(said).encode())
    return (signed + b"." + encoded(hmac.digest(SECRET, signed, hashlib.sha256))).decode()


SERVED = [
    guarded(
        "/cors",
        handler(
            "security.CORSRequestHandler",
            allowedOrigins="https://shop.example,https://b.example",
            allowCredentials="true",
            allowHeaders="authorization,x-mine",
            allowMethods="GET,PUT",
        ),
        handler("analytics.APIMgtUsageHandler"),
    ),
    guarded("/tokens", handler("security.APIAuthenticationHandler")),
    guarded(
        "/backend-limit",
        handler("throttling.ThrottleHandler", productionMaxCount="2", productionUnitTime="3600000"),
    ),
    with_definition(
        guarded(
            "/tier",
            handler("throttling.ThrottleHandler", apiUUID=UUID),
        ),
        "Two",
    ),
    policy("carbon.super_resource_Two_default", PLAN),
    api("/tls", resource(send('<http uri-template="https://localhost:@TLS.port@/secure"/>'))),
    api("/untrusted", resource(send('<http uri-template="https://127.0.0.2:@TLS.port@/"/>'))),
    api(
        "/balanced",
        resource(
            send(
                '<loadbalance algorithm="org.apache.synapse.endpoints.algorithms.RoundRobin">'
                '<endpoint><http uri-template="http://@UP@/lb"/></endpoint>'
                '<endpoint><http uri-template="http://@OTHER@/lb"/></endpoint></loadbalance>'
            )
        ),
    ),
    api(
        "/balanced-down",
        resource(
            send(
                "<loadbalance>"
                '<endpoint><http uri-template="http://@DOWN@/lb"/></endpoint>'
                '<endpoint><http uri-template="http://@OTHER@/lb"/></endpoint></loadbalance>'
            )
        ),
    ),
    api(
        "/failover",
        resource(
            send(
                "<failover>"
                '<endpoint><address uri="http://@UP@/first"/></endpoint>'
                '<endpoint><address uri="http://@OTHER@/first"/></endpoint></failover>'
            )
        ),
    ),
    api(
        "/failover-down",
        resource(
            send(
                "<failover>"
                '<endpoint><address uri="http://@DOWN@/f"/></endpoint>'
                '<endpoint><address uri="http://@OTHER@/f"/></endpoint></failover>'
            )
        ),
    ),
    api(
        "/slow",
        resource(
            send(
                '<http uri-template="http://@UP@/"><timeout><duration>100</duration>'
                "<responseAction>fault</responseAction></timeout></http>"
            )
        ),
    ),
    api(
        "/suspended",
        resource(
            send(
                '<http uri-template="http://@DOWN@/"><suspendOnFailure>'
                "<initialDuration>600000</initialDuration></suspendOnFailure></http>"
            )
        ),
    ),
    api(
        "/sandboxed",
        resource(
            '<filter source="$ctx:AM_KEY_TYPE" regex="PRODUCTION"><then>'
            + send('<http uri-template="http://@OTHER@/production"/>')
            + "</then><else>"
            + send('<http uri-template="http://@UP@/sandbox"/>')
            + "</else></filter>"
        ),
    ),
]


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("envoy")
    authority = Authority(folder)
    certificate = authority.issue("upstream", "localhost", "127.0.0.1")
    with serving(
        folder,
        SERVED,
        certificate=certificate,
        type="sandbox",
        issuer=ISSUER,
        upstream_ca=str(authority.file),
    ) as running:
        yield running


def test_a_sandbox_gateway_serves_the_sandbox(envoy: Serving) -> None:
    seen, _ = envoy.through("GET", "/sandboxed/x")
    assert seen.path == "/sandbox/x"


def test_cors_is_answered_before_the_upstream_is_asked(envoy: Serving) -> None:
    envoy.upstreams["UP"].seen.clear()
    asked = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
    answer = envoy.ask("OPTIONS", "/cors/x", asked)
    assert answer.status == 200
    allowed = {
        name.removeprefix("access-control-allow-"): value
        for name, value in answer.headers.items()
        if name.startswith("access-control-allow-")
    }
    assert allowed == {
        "origin": "https://shop.example",
        "methods": "GET,PUT",
        "headers": "authorization,x-mine",
        "credentials": "true",
    }
    assert envoy.upstreams["UP"].seen == []


def test_what_another_origin_asks_before_goes_nowhere(envoy: Serving) -> None:
    envoy.upstreams["UP"].seen.clear()
    asked = {"origin": "https://evil.example", "access-control-request-method": "PUT"}
    answer = envoy.ask("OPTIONS", "/cors/x", asked)
    assert "access-control-allow-origin" not in answer.headers
    assert envoy.upstreams["UP"].seen == []


def test_cors_marks_answers_for_origins_that_are_allowed(envoy: Serving) -> None:
    _, answer = envoy.through("GET", "/cors/x", {"origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"
    _, answer = envoy.through("GET", "/cors/x", {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_token_of_the_issuer_is_needed(envoy: Serving) -> None:
    good = {"authorization": f"Bearer {token()}"}
    seen, answer = envoy.through("GET", "/tokens/x", good)
    assert (seen.path, answer.status) == ("/base/x", 200)
    assert "authorization" not in seen.headers
    envoy.upstreams["UP"].seen.clear()
    for bad in ("", token(exp=1), token(aud="other"), token(iss="evil"), token()[:-4] + "AAAA"):
        headers = {"authorization": f"Bearer {bad}"} if bad else {}
        assert envoy.ask("GET", "/tokens/x", headers).status in {401, 403}
    assert envoy.upstreams["UP"].seen == []


def test_what_is_allowed_needs_no_token(envoy: Serving) -> None:
    assert envoy.ask("OPTIONS", "/tokens/x").status == 200
    assert envoy.ask("POST", "/tokens/x").status == 405


def test_requests_beyond_the_policy_of_a_tier_are_too_many(envoy: Serving) -> None:
    assert [envoy.ask("GET", "/tier/x").status for _ in range(4)] == [200, 200, 429, 429]


def test_a_limit_for_production_does_not_bind_a_sandbox(envoy: Serving) -> None:
    assert {envoy.ask("GET", "/backend-limit/x").status for _ in range(4)} == {200}


def test_an_upstream_by_https_is_asked_by_name_and_must_prove_it(envoy: Serving) -> None:
    seen, _ = envoy.through("GET", "/tls/x", upstream="TLS")
    assert seen.path == "/secure/x"
    assert seen.headers["host"] == f"localhost:{envoy.upstreams['TLS'].port}"
    envoy.upstreams["TLS"].seen.clear()
    assert envoy.ask("GET", "/untrusted/x").status == 503
    assert envoy.upstreams["TLS"].seen == []


def test_members_take_turns_and_each_is_called_by_its_own_name(envoy: Serving) -> None:
    for each in envoy.upstreams.values():
        each.seen.clear()
    answers = {envoy.ask("GET", "/balanced/x").body for _ in range(4)}
    assert answers == {"from UP", "from OTHER"}
    for name in ("UP", "OTHER"):
        upstream = envoy.upstreams[name]
        assert [seen.path for seen in upstream.seen] == ["/lb/x", "/lb/x"]
        assert {seen.headers["host"] for seen in upstream.seen} == {f"127.0.0.1:{upstream.port}"}


def test_a_member_that_is_down_is_passed_over_within_the_request(envoy: Serving) -> None:
    assert {envoy.ask("GET", "/balanced-down/x").body for _ in range(4)} == {"from OTHER"}


def test_failover_asks_the_first_as_long_as_it_is_there(envoy: Serving) -> None:
    assert {envoy.ask("GET", "/failover/x").body for _ in range(4)} == {"from UP"}
    assert {envoy.ask("GET", "/failover-down/x").body for _ in range(4)} == {"from OTHER"}


def test_an_upstream_that_takes_too_long(envoy: Serving) -> None:
    assert envoy.ask("GET", "/slow/x", {"x-slow": "0.5"}).status == 504
    assert envoy.ask("GET", "/slow/x").status == 200


def test_an_upstream_that_fails_is_left_out_for_a_while(envoy: Serving) -> None:
    first = envoy.ask("GET", "/suspended/x")
    assert (first.status, "connection failure" in first.body) == (503, True)
    # Envoy's main thread leaves it out, and tells the one that answers.
    until(lambda: "no healthy upstream" in envoy.ask("GET", "/suspended/x").body, "it is left out")
