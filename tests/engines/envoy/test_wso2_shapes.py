"""APIs as WSO2's portal, an OpenAPI document or our examples make them."""

import json
from pathlib import Path

import pytest

from gatesync.artifacts.model import Artifact, Part
from gatesync.artifacts.openapi import artifact_from_openapi
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.cli.reading import read_artifacts
from gatesync.engines.envoy.listener import JWT, RATE_LIMIT
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Issuer, Options
from gatesync.engines.envoy.resources import CLUSTER, SCOPE, Message
from tests.engines.envoy.serving import NAMESPACE, api, policy, resource, send

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OPEN = Options(allow_unauthenticated=True)
PACKAGE = "org.wso2.carbon.apimgt.gateway.handlers"
HTTP = '<http uri-template="http://up:8080/base"/>'
PLAN = "#throttler:timeBatch(1 min, 0) select (count(messageID) >= 10) as isThrottled"


def routes(node: Node, scope: str) -> list[Message]:
    resource = node.resources().of(SCOPE)[scope]
    return list(resource.route_configuration.virtual_hosts[0].routes)


@pytest.mark.parametrize("name", ["menu", "pizzashack", "gold-policy"])
def test_the_examples_are_served(name: str) -> None:
    found = [each.load() for each in read_artifacts([EXAMPLES / name], None).artifacts]
    assert Node(Options()).apply(found, ()).refused == {}


@pytest.mark.parametrize(
    ("kind", "host"),
    [("hybrid", "up.example"), ("production", "up.example"), ("sandbox", "try.example")],
)
def test_an_openapi_document_is_served_where_the_type_says(kind: str, host: str) -> None:
    operation = {"responses": {"200": {"description": "fine"}}}
    document = {
        "openapi": "3.0.1",
        "info": {"title": "Pets", "version": "1.0"},
        "paths": {"/pets": {"get": operation, "post": operation}},
    }
    options = OpenApiOptions(
        endpoint="https://up.example/v1", sandbox_endpoint="https://try.example/v1"
    )
    made = artifact_from_openapi(json.dumps(document).encode(), options).artifact
    node = Node(Options(type=kind, allow_unauthenticated=True))
    assert node.apply([made], ()).refused == {}
    (cluster,) = node.resources().of(CLUSTER)
    assert cluster.startswith(f"{host}:443-")


def portal_api(tier: str = "") -> Artifact:
    """As API Manager 3.2 writes one: its analytics, its handlers, its key types."""
    level = f'<property name="APILevelPolicy" value="{tier}"/>'
    handlers = "".join(
        f'<handler class="{PACKAGE}.{name}">{inner}</handler>'
        for name, inner in {
            "common.APIMgtLatencyStatsHandler": '<property name="apiUUID" value="u"/>',
            "security.CORSRequestHandler": '<property name="apiImplementationType" value="E"/>',
            "security.APIAuthenticationHandler": level,
            "throttling.ThrottleHandler": "",
            "analytics.APIMgtUsageHandler": "",
            "ext.APIManagerExtensionHandler": "",
        }.items()
    )
    into = (
        '<property name="api.ut.backendRequestTime" expression="get-property(\'SYSTEM_TIME\')"/>'
        '<filter source="$ctx:AM_KEY_TYPE" regex="PRODUCTION"><then>'
        + send(HTTP)
        + '</then><else><sequence key="_sandbox_key_error_"/></else></filter>'
    )
    out = f'<class name="{PACKAGE}.analytics.APIMgtResponseHandler"/><send/>'
    return api(
        "/menu/1.0",
        resource(into, out, 'methods="GET" url-mapping="/*" faultSequence="fault"')
        + f"<handlers>{handlers}</handlers>",
        'version="1.0" version-type="context"',
    )


def test_what_the_portal_writes_is_served() -> None:
    node = Node(OPEN)
    assert node.apply([portal_api()], ()).refused == {}
    preflight, served, *_ = routes(node, "menu")
    assert preflight.match.headers[0].string_match.exact == "OPTIONS"
    assert served.route.cluster.startswith("up:8080-")
    assert RATE_LIMIT not in served.typed_per_filter_config


def test_tokens_are_asked_for_where_there_is_an_issuer() -> None:
    node = Node(Options(issuer=Issuer("https://i", "{}")))
    assert node.apply([portal_api()], ()).refused == {}
    needing = [JWT in each.typed_per_filter_config for each in routes(node, "menu")]
    assert needing == [False, True, False, False, False]


def test_the_tier_of_an_api_limits_its_resources() -> None:
    node = Node(OPEN)
    artifact = portal_api("Ten")
    applied = node.apply([artifact], ())
    assert "tier 'Ten' has no policy" in applied.refused[artifact.api_id]
    assert node.apply([artifact, policy("resource_Ten_default", PLAN)], ()).refused == {}
    limited = [RATE_LIMIT in each.typed_per_filter_config for each in routes(node, "menu")]
    assert limited == [False, True, False, False, False]


def test_a_policy_that_changes_changes_the_apis_of_its_tier() -> None:
    node = Node(OPEN)
    node.apply([portal_api("Ten"), policy("resource_Ten_default", PLAN)], ())
    applied = node.apply([policy("resource_Ten_default", PLAN.replace("10", "20"))], ())
    assert set(applied.changed.of(SCOPE)) == {"menu"}
    bandwidth = PLAN.replace("count(messageID) >= 10", "sum(size) >= 10")
    refused = node.apply([policy("resource_Ten_default", bandwidth)], ()).refused
    assert "counts something else than requests" in next(iter(refused.values()))


def test_the_extension_sequences_of_an_api_are_run() -> None:
    artifact = portal_api()
    name = "menu-1.0:v1.0--In"
    xml = (
        f'<sequence {NAMESPACE} name="{name}">'
        '<property name="X-Extended" scope="transport" value="yes"/></sequence>'
    )
    part = Part("sequence", name, "sequences/menu.xml", xml.encode())
    node = Node(OPEN)
    node.apply([Artifact(artifact.identity, artifact.api_id, (*artifact.parts, part))], ())
    assert b"x-extended" in routes(node, "menu")[1].SerializeToString()
