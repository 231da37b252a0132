"""The settings that the roles are started with: immutable values, every one of them resolved.

Durations end in `_ms` (milliseconds, as WSO2 counts), sizes in `_bytes`. Paths are absolute.
Listening addresses have `server.offset` added. What each key means is in docs/configuration.md.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from gatesync.artifacts.signatures import TrustedKey
from gatesync.config.addresses import Address
from gatesync.config.envoy import EnvoySettings
from gatesync.config.git import GitSettings
from gatesync.config.problems import ConfigProblem
from gatesync.config.share import ShareSettings
from gatesync.config.signing import SigningSettings
from gatesync.config.tls import TlsSettings
from gatesync.events.access import BrokerAccess
from gatesync.secret import Secret, SecretUrl
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_source import SqlSource

__all__ = [
    "AuditMode",
    "DatabaseSettings",
    "EndpointType",
    "EnvironmentSettings",
    "EnvoySettings",
    "EventHubSettings",
    "GatewaySettings",
    "GitSettings",
    "LocalDrift",
    "LogFormat",
    "LogLevel",
    "PublisherSettings",
    "RetrievalMode",
    "ServerSettings",
    "Settings",
    "SigningSettings",
    "SkipList",
    "TenantLoading",
    "TrafficManagerSettings",
    "WhenStale",
]


class AuditMode(StrEnum):
    """Whether changes are written down, and whether they are refused where that cannot be done."""

    ON = "on"
    REQUIRED = "required"
    OFF = "off"


class RetrievalMode(StrEnum):
    """Whether a starting gateway waits for its artifacts (sync) or serves at once (async)."""

    SYNC = "sync"
    ASYNC = "async"


class WhenStale(StrEnum):
    """What readiness says of a node that was not proved to be in step for too long."""

    SERVE = "serve"
    DEGRADE = "degrade"
    DRAIN = "drain"


class EndpointType(StrEnum):
    """Which endpoints a gateway is for; an API that has only the other's is skipped there."""

    HYBRID = "hybrid"
    PRODUCTION = "production"
    SANDBOX = "sandbox"


class LocalDrift(StrEnum):
    """What becomes of a saved file that people changed: written again, or only reported."""

    RESTORE = "restore"
    REPORT = "report"


class LogFormat(StrEnum):
    """How log lines look: for people or for machines."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What this process is among others: its id, and how far its ports are shifted."""

    node_id: str
    offset: int


class PublisherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The publisher. Each label keeps `retention_revisions` of history, and all that is young."""

    listen: Address
    artifact_saver: str
    publish_directly_to_gateway: bool
    retention_revisions: int
    retention_age_ms: int
    forget_nodes_after_ms: int
    full_pulls_at_once: int
    request_max_bytes: int
    audit: AuditMode
    requests_per_second: int


class SkipList(msgspec.Struct, frozen=True, kw_only=True):
    """File names that a gateway never touches on disk."""

    apis: tuple[str, ...]
    endpoints: tuple[str, ...]
    sequences: tuple[str, ...]
    local_entries: tuple[str, ...]


class TenantLoading(msgspec.Struct, frozen=True, kw_only=True):
    """Which tenants a gateway loads, when `enable` is set; `*` is all."""

    enable: bool
    tenants: tuple[str, ...]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway node. `save_artifacts_locally` is None when the key is absent.

    `home` is the folder of its installation, which has `repository` in it where a pack is laid.
    At most one of `token` and `token_file` is given; `read_secret_file` reads the latter.
    Without `trusted_keys` no signatures are asked for.
    """

    enable: bool
    listen: Address
    home: Path
    gateway_labels: tuple[str, ...]
    artifact_retriever: str
    deployment_retry_duration_ms: int
    data_retrieval_mode: RetrievalMode
    save_artifacts_locally: bool | None
    event_waiting_time_ms: int
    max_retry_count: int
    start_from_cache: bool
    max_staleness_ms: int
    when_stale: WhenStale
    engine: str
    type: EndpointType
    local_drift: LocalDrift
    local_drift_interval_ms: int
    contents_url: str | None
    skip_list: SkipList
    tenant_loading: TenantLoading
    admin_token: Secret | None
    push_token: Secret | None
    trusted_keys: tuple[TrustedKey, ...]
    token: Secret | None
    token_file: Path | None


class TrafficManagerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded broker; `binary` is one's own nats-server.

    With a `token_file` the publisher is asked who may connect, else the tokens beside it count.
    """

    listen: Address
    binary: Path | None
    token_file: Path | None


class EventHubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How gateways and publishers meet. `service_url` names a publisher and has no `/` at its end.

    `event_listening_endpoints` holds `nats://` and `tls://` URLs only; when it is empty the
    publisher is asked for the broker. `credentials_file` is the traffic manager's. `access` is
    how else to log in, and TLS.
    """

    enable: bool
    service_url: str
    event_listening_endpoints: tuple[str, ...]
    username: str | None
    password: Secret | None
    credentials_file: Path | None
    access: BrokerAccess
    adapter: str


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where artifacts rest: what the file says, and what comes of it.

    `key` is the table that the values come from: `database.sync_runtime_artifacts_db` or
    `database.apim_db`. `source` is what the store opens, `read_source` a replica that may be
    read from. Without a `source`, `refusal` says why it cannot be opened.
    """

    key: str
    type: str
    url: SecretUrl | None
    username: str | None
    password: Secret | None
    driver: str | None
    pool_options: Mapping[str, str | int | float | bool | Secret]
    read_url: SecretUrl | None
    source: SqlSource | None
    read_source: SqlSource | None
    options: SqlOptions
    refusal: ConfigProblem | None


class EnvironmentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that the publisher can push to directly. `labels` is its name unless given.

    With a `username` the push is authenticated as that user; a `password` alone is a token.
    """

    name: str
    type: EndpointType
    labels: tuple[str, ...]
    service_url: str | None
    username: str | None
    password: Secret | None
    description: str
    http_endpoint: str | None
    https_endpoint: str | None
    ws_endpoint: str | None
    wss_endpoint: str | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a process needs to know before it starts."""

    server: ServerSettings
    data: Path
    heartbeat_interval_ms: int
    log_format: LogFormat
    log_level: LogLevel
    allow_plaintext: bool
    tls: TlsSettings
    signing: SigningSettings
    publisher: PublisherSettings
    gateway: GatewaySettings
    envoy: EnvoySettings
    traffic_manager: TrafficManagerSettings
    event_hub: EventHubSettings
    database: DatabaseSettings
    git: GitSettings
    share: ShareSettings
    environments: tuple[EnvironmentSettings, ...]
