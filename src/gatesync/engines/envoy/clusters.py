"""Clusters: the upstreams of an endpoint, as Envoy knows them.

A cluster is called after its hosts and a digest of its contents. So one that changes is another
cluster, and what is in use is never edited under a route that uses it.
"""

import hashlib
import ipaddress
from functools import lru_cache
from typing import Final

import msgspec
from envoy.config.cluster.v3 import cluster_pb2, outlier_detection_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from gatesync.engines.envoy.listener import packed
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.values import Value

__all__ = ["Address", "cluster_of"]

_NO_LIMIT: Final = 1_000_000  # Envoy's own is 1,024; Synapse has none


class Address(msgspec.Struct, frozen=True):
    """Of one member: where it is, and how it is treated."""

    tls: bool
    host: str
    port: int
    path: Value
    query: Value
    method: str
    timeout_ms: int
    discards: bool  # what is late is nothing that a fault sequence is told
    suspension: tuple[int, int, int] | None  # failures, first and longest pause in ms

    @property
    def name(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@lru_cache(maxsize=4_096)  # resources of an API go to the same place, and so do many APIs
def cluster_of(
    groups: tuple[tuple[Address, ...], ...], options: Options, weights: tuple[int, ...] = ()
) -> Message:
    """One cluster of these members; the groups are preferred in their order."""
    every = [address for group in groups for address in group]
    cluster = cluster_pb2.Cluster()
    _set_duration(cluster.connect_timeout, options.connect_timeout_ms)
    literal = all(_is_ip(address.host) for address in every)
    cluster.type = cluster_pb2.Cluster.STATIC if literal else cluster_pb2.Cluster.STRICT_DNS
    if not literal:
        cluster.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
    cluster.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
    # Where all are left out none is tried, as in Synapse; by default Envoy would panic.
    cluster.common_lb_config.healthy_panic_threshold.value = 0.0
    limits = cluster.circuit_breakers.thresholds.add()
    for limit in (limits.max_connections, limits.max_pending_requests, limits.max_requests):
        limit.value = _NO_LIMIT
    limits.max_retries.value = _NO_LIMIT
    for priority, group in enumerate(groups):
        locality = cluster.load_assignment.endpoints.add(priority=priority)
        for at, address in enumerate(group):
            locality.lb_endpoints.append(_endpoint(address, weights[at] if weights else 0))
    if every[0].tls:
        _set_tls(cluster, every, options)
    if suspension := next((each.suspension for each in every if each.suspension), None):
        cluster.outlier_detection.CopyFrom(_outliers(*suspension))
    digest = hashlib.sha256(cluster.SerializeToString(deterministic=True)).hexdigest()[:16]
    cluster.name = f"{every[0].host}:{every[0].port}-{digest}"
    cluster.load_assignment.cluster_name = cluster.name
    return cluster


def _endpoint(address: Address, weight: int) -> Message:
    endpoint = endpoint_pb2.LbEndpoint()
    socket = endpoint.endpoint.address.socket_address
    socket.address, socket.port_value = address.host, address.port
    endpoint.endpoint.hostname = address.name
    if weight:
        endpoint.load_balancing_weight.value = weight
    if address.tls:
        match = endpoint.metadata.filter_metadata["envoy.transport_socket_match"]
        match.update({"host": address.host})
    return endpoint


def _set_tls(cluster: Message, addresses: list[Address], options: Options) -> None:
    """Each host is asked for by its own name, and must show a certificate for it."""
    for host in sorted({address.host for address in addresses}):
        context = tls_pb2.UpstreamTlsContext()
        validation = context.common_tls_context.validation_context
        validation.trusted_ca.filename = options.upstream_ca
        san = validation.match_typed_subject_alt_names.add()
        if _is_ip(host):
            san.san_type = san.IP_ADDRESS
        else:
            context.sni = host
            san.san_type = san.DNS
        san.matcher.exact = host
        matching = cluster.transport_socket_matches.add(name=host)
        matching.match.update({"host": host})
        matching.transport_socket.name = "envoy.transport_sockets.tls"
        matching.transport_socket.typed_config.CopyFrom(packed(context))


def _outliers(failures: int, first_ms: int, longest_ms: int) -> Message:
    """Failures to connect and resets count, as in Synapse; what an upstream answers does not."""
    outliers = outlier_detection_pb2.OutlierDetection()
    outliers.split_external_local_origin_errors = True
    outliers.consecutive_local_origin_failure.value = failures
    outliers.enforcing_consecutive_local_origin_failure.value = 100
    outliers.enforcing_local_origin_success_rate.value = 0
    outliers.enforcing_consecutive_5xx.value = 0
    outliers.enforcing_consecutive_gateway_failure.value = 0
    outliers.enforcing_success_rate.value = 0
    outliers.max_ejection_percent.value = 100
    outliers.interval.seconds = 1
    _set_duration(outliers.base_ejection_time, first_ms)
    _set_duration(outliers.max_ejection_time, longest_ms)
    return outliers


def _set_duration(duration: Message, milliseconds: int) -> None:
    duration.FromMilliseconds(milliseconds)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
