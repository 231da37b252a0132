"""What a gateway's settings decide: [gatesync.gateway] and [gatesync.envoy]."""

import msgspec

__all__ = ["Issuer", "Options", "ServerTls"]


class Issuer(msgspec.Struct, frozen=True):
    """Who signs the tokens of API calls.

    Args:
        issuer: the `iss` of its tokens.
        jwks: its public keys, as the text of a JSON Web Key Set.
        audiences: of which a token must name one; any will do where there is none here.
        header: where the token stands, after `Bearer `.
        forward: whether the upstream sees it.
    """

    issuer: str
    jwks: str
    audiences: tuple[str, ...] = ()
    header: str = "Authorization"
    forward: bool = False


class ServerTls(msgspec.Struct, frozen=True):
    """The listener's certificate chain and private key, as paths of PEM files that Envoy reads."""

    certificate: str
    private_key: str


class Options(msgspec.Struct, frozen=True):
    """The same for all artifacts of a node.

    Args:
        host: the address that Envoy listens on.
        port: its port.
        tls: None: requests come in the clear.
        type: `production`, `sandbox` or `hybrid`: what AM_KEY_TYPE is in an API's sequences;
            hybrid is served from production endpoints.
        issuer: whose tokens APIs with an authentication handler accept; None: there is none.
        allow_unauthenticated: whether APIs with an authentication handler are served without it
            where there is no issuer; they are refused else.
        upstream_ca: the PEM file with whom Envoy trusts, for https endpoints.
        connect_timeout_ms: how long a connection to an upstream may take to be made.
        request_timeout_ms: how long an upstream may take to answer where its endpoint says
            nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8280
    tls: ServerTls | None = None
    type: str = "hybrid"
    issuer: Issuer | None = None
    allow_unauthenticated: bool = False
    upstream_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    connect_timeout_ms: int = 5_000
    request_timeout_ms: int = 60_000
