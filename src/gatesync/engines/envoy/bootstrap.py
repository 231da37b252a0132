"""What Envoy is started with: where it finds this node's agent, and its own admin interface.

Everything else comes over xDS. The same for the Envoy that a gateway starts and for one that
others run (`gatesync gateway --print-envoy-bootstrap`).
"""

import json
from typing import Any, Final

__all__ = ["RUNTIME", "XDS_CLUSTER", "bootstrap", "bootstrap_json"]

XDS_CLUSTER: Final = "gatesync_xds"
_GRPC_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(node: str, xds: str, admin: str, *, cluster_metrics: bool = False) -> dict[str, Any]:
    """Envoy's bootstrap configuration, as its JSON form has it.

    Args:
        node: the node's id.
        xds: where the agent serves: `unix:/path` or `host:port`.
        admin: where Envoy's admin interface listens, in the same form.
        cluster_metrics: whether Envoy counts for each upstream. With 10,000 APIs that is more than
            a million numbers, and most of Envoy's memory.
    """
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": node, "cluster": "gatesync"},
        "admin": {"address": _address(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": XDS_CLUSTER, "retry_policy": _AGAIN}}
                ],
                "set_node_on_first_message_only": True,
            },
            # Envoy waits for the agent however long it takes: nobody is served half of it.
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": XDS_CLUSTER,
                    "connect_timeout": "1s",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        _GRPC_OPTIONS: {
                            "@type": f"type.googleapis.com/{_GRPC_OPTIONS}",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": XDS_CLUSTER,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(xds)}}]}],
                    },
                }
            ]
        },
        "layered_runtime": RUNTIME,
        "stats_config": {} if cluster_metrics else _WITHOUT_CLUSTERS,
    }


def bootstrap_json(document: dict[str, Any]) -> bytes:
    """As a file's content."""
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


RUNTIME: Final = {
    "layers": [
        {"name": "gatesync", "static_layer": {"re2.max_program_size.error_level": 1_000_000}}
    ]
}
"""By itself Envoy rejects patterns of about a hundred letters, which are paths of a usual length;
the translation limits those of others."""

# The agent is on this machine: to ask for it costs nothing, and to wait costs a node its start.
_AGAIN: Final = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"}}
_WITHOUT_CLUSTERS: Final = {
    "stats_matcher": {"exclusion_list": {"patterns": [{"prefix": "cluster."}]}}
}


def _address(text: str) -> dict[str, Any]:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:"), "mode": 0o600}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
