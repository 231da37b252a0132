"""The keys of [gatesync.envoy] that decide how APIs are served, and not how Envoy is run."""

from pathlib import Path

import msgspec

from gatesync.config import kinds
from gatesync.config.reader import Section

__all__ = ["EnvoyApiSettings", "read_envoy_apis"]


class EnvoyApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call, and how upstreams are called.

    `issuer` and `jwks` stand together, and so do `certificate` and `private_key`. `upstream_ca`
    is None for those whom the system trusts.
    """

    issuer: str | None
    jwks: Path | None
    audiences: tuple[str, ...]
    allow_unauthenticated: bool
    certificate: Path | None
    private_key: Path | None
    upstream_ca: Path | None
    connect_timeout_ms: int
    request_timeout_ms: int


def read_envoy_apis(ours: Section, folder: Path) -> EnvoyApiSettings:
    """These keys of the section; faults are left with it."""
    found = EnvoyApiSettings(
        issuer=ours.optional("issuer", kinds.text),
        jwks=ours.optional("jwks", kinds.path_in(folder)),
        audiences=ours.read("audiences", kinds.texts, []),
        allow_unauthenticated=ours.read("allow_unauthenticated", kinds.boolean, False),
        certificate=ours.optional("certificate", kinds.path_in(folder)),
        private_key=ours.optional("private_key", kinds.path_in(folder)),
        upstream_ca=ours.optional("upstream_ca", kinds.path_in(folder)),
        connect_timeout_ms=ours.read("connect_timeout", kinds.milliseconds(1), 5_000),
        request_timeout_ms=ours.read("request_timeout", kinds.milliseconds(1), 60_000),
    )
    if (found.issuer is None) != (found.jwks is None):
        given, missing = ("issuer", "jwks") if found.issuer else ("jwks", "issuer")
        ours.problem(given, f"needs {missing} beside it: who signs tokens, and with which keys")
    if (found.certificate is None) != (found.private_key is None):
        given = "certificate" if found.certificate else "private_key"
        ours.problem(given, "needs both certificate and private_key")
    if found.issuer and found.allow_unauthenticated:
        reason = "says nothing where there is an issuer, whose tokens are asked for; drop one"
        ours.problem("allow_unauthenticated", reason)
    return found
