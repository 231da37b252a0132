"""Every key of deployment.toml that gatesync reads, section by section, with its default.

WSO2's keys stand under `server`, `apim` and `database`; ours under `gatesync`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

from gatesync.config import kinds
from gatesync.config.database import read_database
from gatesync.config.envoy import read_envoy
from gatesync.config.event_hub import read_event_hub
from gatesync.config.git import read_git, refuse_git_without_url
from gatesync.config.placeholders import Placeholders
from gatesync.config.reader import Reader, Section
from gatesync.config.secret_sources import secret_sources
from gatesync.config.settings import (
    AuditMode,
    EndpointType,
    EnvironmentSettings,
    GatewaySettings,
    LocalDrift,
    LogFormat,
    LogLevel,
    PublisherSettings,
    RetrievalMode,
    ServerSettings,
    Settings,
    SkipList,
    TenantLoading,
    TrafficManagerSettings,
    WhenStale,
)
from gatesync.config.share import read_share, refuse_share_without_path
from gatesync.config.signing import read_signing
from gatesync.config.tls import read_tls
from gatesync.config.trusted_keys import read_trusted_keys
from gatesync.secret import Secret

__all__ = ["known_keys", "read_settings"]

PUBLISHER_LISTEN = "127.0.0.1:9640"
GATEWAY_LISTEN = "127.0.0.1:9641"
TRAFFIC_MANAGER_LISTEN = "127.0.0.1:9642"
OFFSET_MAX = 50_000  # every default port stays below 65,536
STALE_HEARTBEATS = 12  # a minute by default: a failover or a restart is over by then
WEEK_MS = 7 * kinds.DAY_MS
_MIB = 1024 * 1024


def read_settings(reader: Reader, folder: Path, host_id: str) -> Settings:
    """The settings that a document gives; faults are left in `reader.problems`.

    Args:
        reader: the document.
        folder: where relative paths begin.
        host_id: this machine's name as a node id, for when the file gives none.
    """
    ours = reader.section("gatesync")
    offset = reader.section("server").read("offset", kinds.whole(0, OFFSET_MAX), 0)
    data = ours.read("data", kinds.path_in(folder), "gatesync-data")
    ours.optional("secrets", secret_sources)  # checked here, read where $secret{} asks for one
    tls = read_tls(reader, folder)
    publisher = _publisher(reader, offset)
    heartbeat_ms = ours.read("heartbeat_interval", kinds.milliseconds(100), 5_000)
    allow_plaintext = ours.read("allow_plaintext", kinds.boolean, False)
    gateway = _gateway(reader, offset, folder, heartbeat_ms)
    git = read_git(reader, data, folder, allow_plaintext=allow_plaintext)
    refuse_git_without_url(reader, git, publisher.artifact_saver, gateway.artifact_retriever)
    server = _server(ours, offset, host_id)
    share = read_share(reader, data, folder, server.node_id)
    refuse_share_without_path(reader, share, publisher.artifact_saver, gateway.artifact_retriever)
    return Settings(
        server=server,
        data=data,
        heartbeat_interval_ms=heartbeat_ms,
        log_format=ours.read("log_format", kinds.choice(LogFormat), "console"),
        log_level=ours.read("log_level", kinds.choice(LogLevel), "info"),
        allow_plaintext=allow_plaintext,
        tls=tls,
        signing=read_signing(reader, data, folder),
        publisher=publisher,
        gateway=gateway,
        envoy=read_envoy(reader, offset, folder),
        traffic_manager=_traffic_manager(reader, offset, folder),
        event_hub=read_event_hub(
            reader, f"{tls.scheme}://{publisher.listen.reachable}", folder, heartbeat_ms
        ),
        database=read_database(reader, data, folder),
        git=git,
        share=share,
        environments=_environments(reader, pushes=publisher.publish_directly_to_gateway),
    )


def _server(ours: Section, offset: int, host_id: str) -> ServerSettings:
    # Nodes that share a host differ in their offset, and must not share an id.
    derived = f"{host_id[:57]}-{offset}" if offset else host_id
    return ServerSettings(
        offset=offset,
        node_id=ours.derived("node_id", kinds.node_id, derived, "from the host's name"),
    )


def _publisher(reader: Reader, offset: int) -> PublisherSettings:
    wso2 = reader.section("apim.sync_runtime_artifacts.publisher")
    ours = reader.section("gatesync.publisher")
    return PublisherSettings(
        artifact_saver=wso2.read("artifact_saver", kinds.text, "DBSaver"),
        publish_directly_to_gateway=wso2.read("publish_directly_to_gateway", kinds.boolean, True),
        listen=ours.read("listen", kinds.listen(offset), PUBLISHER_LISTEN),
        retention_revisions=ours.read("retention_revisions", kinds.whole(1, 1_000_000_000), 1_000),
        retention_age_ms=ours.read("retention_age", _days(0), 0),
        forget_nodes_after_ms=ours.read("forget_nodes_after", _days(60_000), WEEK_MS),
        full_pulls_at_once=ours.read("full_pulls_at_once", kinds.whole(1, 100_000), 64),
        request_max_bytes=ours.read(
            "request_max_bytes", kinds.whole(1024, 2**40, "a whole number of bytes"), 64 * _MIB
        ),
        audit=ours.read("audit", kinds.choice(AuditMode), "on"),
        requests_per_second=ours.read("requests_per_second", kinds.whole(0, 1_000_000), 1_000),
    )


def _days(minimum: int) -> kinds.Kind[int]:
    """A duration in milliseconds that may well be months."""
    return kinds.whole(minimum, 3_650 * kinds.DAY_MS, "a whole number of milliseconds")


def _gateway(reader: Reader, offset: int, folder: Path, heartbeat_ms: int) -> GatewaySettings:
    wso2 = reader.section("apim.sync_runtime_artifacts.gateway")
    skip = reader.section("apim.sync_runtime_artifacts.gateway.skip_list")
    tenants = reader.section("apim.sync_runtime_artifacts.gateway.tenant_loading")
    ours = reader.section("gatesync.gateway")
    token = ours.optional("token", kinds.secret)
    token_file = ours.optional("token_file", kinds.path_in(folder))
    if token is not None and token_file is not None:
        ours.problem("token_file", "cannot stand beside token; keep one of the two")
    admin_token = ours.optional("admin_token", kinds.secret)
    push_token = ours.optional("push_token", kinds.secret)
    if push_token is not None and push_token == admin_token:
        reason = "is the admin_token, too: whoever pushes events would be an operator; give another"
        ours.problem("push_token", reason)
    return GatewaySettings(
        enable=wso2.read("enable", kinds.boolean, True),
        gateway_labels=wso2.read("gateway_labels", kinds.labels, ["Production and Sandbox"]),
        artifact_retriever=wso2.read("artifact_retriever", kinds.text, "DBRetriever"),
        # The documentation misspells it, real packs do not.
        deployment_retry_duration_ms=wso2.read(
            "deployment_retry_duration",
            kinds.milliseconds(1),
            15_000,
            also="deployment_retry_duartion",
        ),
        data_retrieval_mode=wso2.read("data_retrieval_mode", kinds.choice(RetrievalMode), "sync"),
        save_artifacts_locally=wso2.optional("save_artifacts_locally", kinds.boolean),
        event_waiting_time_ms=wso2.read("event_waiting_time", kinds.milliseconds(0), 0),
        skip_list=SkipList(
            apis=skip.read("apis", kinds.texts, []),
            endpoints=skip.read("endpoints", kinds.texts, []),
            sequences=skip.read("sequences", kinds.texts, []),
            local_entries=skip.read("local_entries", kinds.texts, [], also="local-entries"),
        ),
        tenant_loading=TenantLoading(
            enable=tenants.read("enable", kinds.boolean, False),
            tenants=tenants.read("tenants", kinds.words, "*"),
        ),
        listen=ours.read("listen", kinds.listen(offset), GATEWAY_LISTEN),
        max_retry_count=ours.read("max_retry_count", kinds.whole(0, 1_000_000), 10),
        start_from_cache=ours.read("start_from_cache", kinds.boolean, False),
        max_staleness_ms=_max_staleness(ours, heartbeat_ms),
        when_stale=ours.read("when_stale", kinds.choice(WhenStale), "serve"),
        engine=ours.read("engine", kinds.text, "memory"),
        type=ours.read("type", kinds.choice(EndpointType), "hybrid"),
        local_drift=ours.read("local_drift", kinds.choice(LocalDrift), "restore"),
        contents_url=ours.optional("contents_url", kinds.http_url),
        local_drift_interval_ms=ours.read("local_drift_interval", kinds.milliseconds(100), 30_000),
        home=_home(ours, folder),
        admin_token=admin_token,
        push_token=push_token,
        trusted_keys=read_trusted_keys(reader),
        token=token,
        token_file=token_file,
    )


def _max_staleness(ours: Section, heartbeat_ms: int) -> int:
    """How old a proof may be. Proofs come each heartbeat, or a little later where one was lost."""
    default = min(STALE_HEARTBEATS * heartbeat_ms, kinds.DAY_MS)
    why = f"{STALE_HEARTBEATS} times gatesync.heartbeat_interval"
    found = ours.derived("max_staleness", kinds.milliseconds(0), default, why)
    if 0 < found < 2 * heartbeat_ms <= kinds.DAY_MS:
        ours.problem(
            "max_staleness",
            f"is less than two heartbeats ({2 * heartbeat_ms} ms): the node would be stale "
            "between one proof and the next; write more, or 0 for no limit",
        )
    return found


def _home(ours: Section, folder: Path) -> Path:
    """The installation that the file is part of, as a pack has it: `HOME/repository/conf`."""
    conf = Path(os.path.normpath(folder))  # `bin/../conf` is `conf`
    if conf.parts[-2:] == ("repository", "conf"):
        home, why = conf.parents[1], "the file lies in its repository/conf"
    else:
        home, why = conf, "the file's folder"
    return ours.derived("home", kinds.path_in(folder), str(home), why)


def _traffic_manager(reader: Reader, offset: int, folder: Path) -> TrafficManagerSettings:
    ours = reader.section("gatesync.traffic_manager")
    return TrafficManagerSettings(
        listen=ours.read("listen", kinds.listen(offset), TRAFFIC_MANAGER_LISTEN),
        binary=ours.optional("binary", kinds.path_in(folder)),
        token_file=ours.optional("token_file", kinds.path_in(folder)),
    )


def _environments(reader: Reader, *, pushes: bool) -> tuple[EnvironmentSettings, ...]:
    found: list[EnvironmentSettings] = []
    for table in reader.sections("apim.gateway.environment"):
        name = table.optional("name", kinds.label) or ""
        if not name and reader.lookup(table.place("name")) is None:
            table.problem("name", "is needed: each environment has a name of its own")
        elif name and name in {other.name for other in found}:
            table.problem("name", "is the name of an earlier environment; each needs its own")
        username = table.optional("username", kinds.text)
        password = table.optional("password", kinds.password)
        service_url = table.optional("service_url", kinds.http_url)
        if pushes and service_url is None and reader.lookup(table.place("service_url")) is None:
            table.warn("service_url", "is not there, so nothing is pushed to this environment")
        if username and ":" in username:
            table.problem("username", "holds a ':', which Basic authentication cannot send")
        if password and not username and not _is_token(password):
            reason = "holds a line break or a letter that no token has; with a username it may"
            table.problem("password", reason)
        if username and password is None:
            table.problem("username", "has no password beside it; a token is a password alone")
        found.append(
            EnvironmentSettings(
                name=name,
                type=table.read("type", kinds.choice(EndpointType), "hybrid"),
                labels=table.derived("labels", kinds.labels, [name or "unnamed"], "its name"),
                service_url=service_url,
                username=username,
                password=password,
                description=table.read("description", kinds.any_text, ""),
                http_endpoint=table.optional("http_endpoint", kinds.text),
                https_endpoint=table.optional("https_endpoint", kinds.text),
                ws_endpoint=table.optional("ws_endpoint", kinds.text),
                wss_endpoint=table.optional("wss_endpoint", kinds.text),
            )
        )
    return tuple(found)


def _is_token(password: Secret) -> bool:
    """Whether a header can hold it as it is."""
    return password.reveal().isascii() and password.reveal().isprintable()


@cache
def known_keys() -> frozenset[str]:
    """Every key that may stand in a file, dotted, without the indexes of arrays.

    Found by reading documents in which each section that can be there once is there.
    """
    known: set[str] = set()
    documents: tuple[dict[str, Any], ...] = (
        {"apim": {"gateway": {"environment": [{}]}}},
        {"database": {"apim_db": {}}, "gatesync": {"trusted_keys": [{}]}},
    )
    for document in documents:
        reader = Reader(document, {}, Placeholders(document, {}))
        read_settings(reader, Path(), "node")
        known |= reader.known
    return frozenset(known)
