"""deployment.toml becomes settings: WSO2's keys and ours, checked, with every default filled in.

`load` is the way in. `check` and `describe` are what `config check` and `config show` print.
"""

from gatesync.config.adapters import adapter_names, load_adapter
from gatesync.config.addresses import Address, is_loopback, parse_address
from gatesync.config.describe import Described, as_toml, describe
from gatesync.config.loading import Checked, Loaded, check, load
from gatesync.config.problems import ConfigError, ConfigProblem, ConfigWarning
from gatesync.config.secret import Secret, encode_masked, read_secret_file
from gatesync.config.sections import known_keys
from gatesync.config.settings import (
    DatabaseSettings,
    EnvironmentSettings,
    EventHubSettings,
    GatewaySettings,
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

__all__ = [
    "Address",
    "Checked",
    "ConfigError",
    "ConfigProblem",
    "ConfigWarning",
    "DatabaseSettings",
    "Described",
    "EnvironmentSettings",
    "EventHubSettings",
    "GatewaySettings",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "PublisherSettings",
    "RetrievalMode",
    "Secret",
    "ServerSettings",
    "Settings",
    "SkipList",
    "TenantLoading",
    "TrafficManagerSettings",
    "WhenStale",
    "adapter_names",
    "as_toml",
    "check",
    "describe",
    "encode_masked",
    "is_loopback",
    "known_keys",
    "load",
    "load_adapter",
    "parse_address",
    "read_secret_file",
]
