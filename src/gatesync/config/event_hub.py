"""The event hub's keys: where the broker is, who one is there, and TLS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gatesync.config import kinds
from gatesync.config.reader import Reader, Section
from gatesync.config.settings import EventHubSettings
from gatesync.events.access import BrokerAccess

__all__ = ["read_event_hub"]

PING_LEAST_MS: Final = 1_000  # a busy machine may need as long to answer
_NATS_SCHEMES: Final = ("nats", "tls")
_TLS_KEYS: Final = ("tls_ca", "tls_cert", "tls_key", "tls_server_name")


def read_event_hub(
    reader: Reader, publisher: str, folder: Path, heartbeat_ms: int
) -> EventHubSettings:
    """The event hub as a document gives it; `publisher` is the URL of the one in this file."""
    wso2 = reader.section("apim.event_hub")
    ours = reader.section("gatesync.event_hub")
    endpoints = wso2.read("event_listening_endpoints", kinds.endpoints, [])
    spoken = tuple(url for url in endpoints if urlsplit(url).scheme in _NATS_SCHEMES)
    if spoken != endpoints:
        wso2.warn(
            "event_listening_endpoints",
            "names WSO2's AMQP broker, which gatesync does not speak; those endpoints are not "
            "used. gatesync's traffic manager speaks NATS: write nats://HOST:PORT or "
            "tls://HOST:PORT, or leave the key out and the publisher is asked",
        )
    found = EventHubSettings(
        enable=wso2.read("enable", kinds.boolean, True),
        service_url=wso2.derived(
            "service_url", kinds.http_url, publisher, "from gatesync.publisher.listen"
        ),
        event_listening_endpoints=spoken,
        username=wso2.optional("username", kinds.text),
        password=wso2.optional("password", kinds.secret),
        credentials_file=ours.optional("credentials_file", kinds.path_in(folder)),
        access=_access(ours, folder, heartbeat_ms),
        adapter=ours.read("adapter", kinds.text, "nats"),
    )
    _refuse_two_logins(ours, found)
    _refuse_half_of_tls(ours, found.access, spoken)
    return found


def _access(ours: Section, folder: Path, heartbeat_ms: int) -> BrokerAccess:
    path = kinds.path_in(folder)
    ping_ms = ours.derived(
        "ping_interval",
        kinds.milliseconds(100),
        max(heartbeat_ms, PING_LEAST_MS),
        "from gatesync.heartbeat_interval",
    )
    return BrokerAccess(
        token=ours.optional("token", kinds.secret),
        nkey_file=ours.optional("nkey_file", path),
        creds_file=ours.optional("creds_file", path),
        tls_ca=ours.optional("tls_ca", path),
        tls_cert=ours.optional("tls_cert", path),
        tls_key=ours.optional("tls_key", path),
        tls_server_name=ours.optional("tls_server_name", kinds.text),
        ping_seconds=ping_ms / 1000,
    )


def _refuse_two_logins(ours: Section, hub: EventHubSettings) -> None:
    """Which of two would count is nothing to guess at."""
    logins = {
        "apim.event_hub.username": hub.username,
        "credentials_file": hub.credentials_file,
        "token": hub.access.token,
        "nkey_file": hub.access.nkey_file,
        "creds_file": hub.access.creds_file,
    }
    given = [name for name, value in logins.items() if value is not None]
    for name in given[1:]:
        ours.problem(name, f"cannot stand beside {given[0]}; keep one login for the broker")


def _refuse_half_of_tls(ours: Section, access: BrokerAccess, endpoints: Sequence[str]) -> None:
    if (access.tls_cert is None) != (access.tls_key is None):
        given, missing = ("cert", "key") if access.tls_cert is not None else ("key", "cert")
        ours.problem(f"tls_{given}", f"needs tls_{missing} beside it: a certificate and its key")
    plain = [url for url in endpoints if not url.startswith("tls:")]
    for name in _TLS_KEYS:
        if plain and getattr(access, name) is not None:
            ours.problem(name, f"is for TLS, and {plain[0]} is without; write tls:// there")
