"""Nothing travels unencrypted beyond this machine unless that is written down."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from gatesync.config.addresses import is_loopback
from gatesync.config.positions import KeyPath
from gatesync.config.settings import Settings

__all__ = ["is_plain", "plaintext_beyond_loopback"]

_OR_ALLOW = "or set allow_plaintext = true in [gatesync] to accept that anyone on the way can read"


def plaintext_beyond_loopback(
    settings: Settings, *, encrypted: bool = False
) -> Iterator[tuple[KeyPath, str]]:
    """Each key by which tokens and artifacts would leave this machine in the clear, and why.

    Nothing, where `allow_plaintext` is set; no server, where `encrypted` says that each of them
    has a certificate, or the settings do.
    """
    if settings.allow_plaintext:
        return
    for role, address in (
        ("publisher", settings.publisher.listen),
        ("gateway", settings.gateway.listen),
        ("traffic_manager", settings.traffic_manager.listen),
    ):
        if not address.loopback and not (encrypted or settings.tls.server):
            yield (
                ("gatesync", role, "listen"),
                f"listens beyond this machine without TLS, at {address}; name certificate and key "
                f"in [gatesync.tls], or listen on 127.0.0.1, {_OR_ALLOW}",
            )
    if settings.gateway.contents_url and is_plain(settings.gateway.contents_url):
        yield (
            ("gatesync", "gateway", "contents_url"),
            f"is plain http beyond this machine; use https://, {_OR_ALLOW}",
        )
    git = settings.git.source
    if git is not None and is_plain(git.url.reveal()):
        yield (
            ("apim", "sync_runtime_artifacts", "git", "url"),
            f"is plain http beyond this machine; use https:// or ssh://, {_OR_ALLOW}",
        )
    hub = settings.event_hub
    if is_plain(hub.service_url):
        yield (
            ("apim", "event_hub", "service_url"),
            f"is plain http beyond this machine; use https://, {_OR_ALLOW}",
        )
    if any(is_plain(url) for url in hub.event_listening_endpoints):
        yield (
            ("apim", "event_hub", "event_listening_endpoints"),
            f"has a nats:// endpoint beyond this machine; use tls://, {_OR_ALLOW}",
        )
    for index, environment in enumerate(settings.environments):
        if environment.service_url and is_plain(environment.service_url):
            yield (
                ("apim", "gateway", "environment", index, "service_url"),
                f"is plain http beyond this machine; use https://, {_OR_ALLOW}",
            )


def is_plain(url: str) -> bool:
    """Whether what is sent to this URL leaves the machine unencrypted."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "nats"} and not is_loopback(parts.hostname or "")
