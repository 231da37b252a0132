"""Resources made by hand, for tests of what carries them; a translator that any bytes will do for.

An artifact's content is served as it is under `/<api_id>`. Contents in JSON may say more:
`{"scope": ..., "to": port, "dns": port, "nowhere": true, "bad": "route" | "cluster", "text": ...}`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - for ParseDict
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,  # noqa: F401
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2,  # noqa: F401
)
from google.protobuf import json_format

from gatesync.engines.envoy.resources import CLUSTER, LISTENER, SCOPE, Applied, Resources

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def read(api_id: str, content: bytes) -> Any:
    """In place of decoding a canonical form."""
    return SimpleNamespace(api_id=api_id, content=content)


class HandmadeNode:
    """In place of `Node`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._contents: dict[str, bytes] = {}
        self._resources: dict[tuple[str, str], Any] = {}

    def apply(self, deploy: Sequence[Any], undeploy: Collection[str]) -> Applied:
        refused = {}
        for api_id in undeploy:
            self._contents.pop(api_id, None)
        for each in deploy:
            if each.content == b"untranslatable":
                refused[each.api_id] = "nobody can translate this"
            else:
                self._contents[each.api_id] = each.content
        made: dict[tuple[str, str], Any] = {}
        owners: dict[tuple[str, str], frozenset[str]] = {}
        routes: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for api_id, content in self._contents.items():
            said = _said(content)
            routes.setdefault(said.get("scope", api_id), []).append((api_id, said))
            if "to" in said or "dns" in said:
                key = CLUSTER, f"c-{api_id}"
                made[key], owners[key] = cluster(key[1], said), frozenset({api_id})
        for name, some in routes.items():
            key = SCOPE, name
            made[key], owners[key] = scope(name, some), frozenset(each for each, _ in some)
        changed = {k: each for k, each in made.items() if self._resources.get(k) != each}
        removed = {
            type_url: frozenset(
                name for kind, name in self._resources.keys() - made.keys() if kind == type_url
            )
            for type_url in (CLUSTER, SCOPE)
        }
        self._resources = made
        return Applied(refused, _by_type(changed), removed, {k: owners[k] for k in changed})

    def resources(self) -> Resources:
        return _by_type({(LISTENER, "main"): listener(self._port), **self._resources})


def _by_type(resources: Mapping[tuple[str, str], Any]) -> Resources:
    found: dict[str, dict[str, Any]] = {}
    for (type_url, name), each in resources.items():
        found.setdefault(type_url, {})[name] = each
    return Resources(found)


def _said(content: bytes) -> dict[str, Any]:
    if content.startswith(b"{"):
        found: dict[str, Any] = json.loads(content)
        return found
    return {"text": content[:4000].decode("latin-1")}


def cluster(name: str, said: Mapping[str, Any]) -> Cluster:
    address = {"address": "127.0.0.1", "port_value": said.get("to", 1)}
    if "dns" in said:
        address = {"address": "localhost", "port_value": said["dns"]}
    if said.get("bad") == "cluster":
        address["address"] = "no address"
    return _parsed(
        Cluster(),
        {
            "name": name,
            "connect_timeout": "5s",
            "type": "STRICT_DNS" if "dns" in said else "STATIC",
            "dns_lookup_family": "V4_ONLY",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}]}
                ],
            },
        },
    )


def scope(name: str, some: Sequence[tuple[str, dict[str, Any]]]) -> ScopedRouteConfiguration:
    routes: list[dict[str, Any]] = []
    for api_id, said in some:
        match: dict[str, Any] = {"prefix": f"/{name}"}
        if said.get("bad") == "route":
            match = {"safe_regex": {"regex": "((("}}
        elif "scope" in said:
            match = {"prefix": f"/{name}/{api_id}"}
        if "to" in said or "dns" in said:
            action: dict[str, Any] = {"route": {"cluster": f"c-{api_id}"}}
        elif "nowhere" in said:
            action = {"route": {"cluster": "nowhere"}}
        else:
            action = {
                "direct_response": {"status": 200, "body": {"inline_string": said["text"] or " "}}
            }
        routes.append({"match": match, **action})
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    return _parsed(
        ScopedRouteConfiguration(),
        {
            "name": name,
            "key": {"fragments": [{"string_key": name}]},
            "route_configuration": {
                "name": name,
                "virtual_hosts": hosts,
                "max_direct_response_body_size_bytes": 1 << 20,
            },
        },
    )


def listener(port: int) -> Listener:
    mutation = {
        "@type": f"{_EXTENSIONS}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [
            {
                "append": {
                    "header": {"key": "x-scope", "value": "%PATH(NQ)%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            }
        ],
    }
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    extractor = {"name": "x-scope", "element_separator": "/", "index": 1}
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gatesync",
        "early_header_mutation_extensions": [{"name": "scope", "typed_config": mutation}],
        "scoped_routes": {
            "name": "scopes",
            "scope_key_builder": {"fragments": [{"header_value_extractor": extractor}]},
            "rds_config_source": source,
            "scoped_rds": {"scoped_rds_config_source": source},
        },
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    return _parsed(
        Listener(),
        {
            "name": "main",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        },
    )


def _parsed(message: Any, document: Mapping[str, Any]) -> Any:
    return json_format.ParseDict(document, message)
