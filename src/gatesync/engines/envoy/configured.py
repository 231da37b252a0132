"""The translation's options, from a gateway's settings and the files that they name."""

import json
import ssl
from pathlib import Path
from typing import Any, Final

from gatesync.engines.engine import EngineError
from gatesync.engines.envoy.options import Issuer, Options, ServerTls

__all__ = ["options_of"]

# Where systems keep whom they trust, for when Python was built without knowing it.
_TRUSTED: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def options_of(settings: Any) -> Options:
    """What is the same for all artifacts of a gateway with these settings.

    Raises:
        EngineError: the issuer's keys cannot be read.
    """
    envoy, apis = settings.envoy, settings.envoy.apis
    tls = ServerTls(str(apis.certificate), str(apis.private_key)) if apis.certificate else None
    issuer = None
    if apis.issuer and apis.jwks:
        issuer = Issuer(issuer=apis.issuer, jwks=_jwks(apis.jwks), audiences=apis.audiences)
    return Options(
        host=envoy.listen.host,
        port=envoy.listen.port,
        tls=tls,
        type=str(settings.gateway.type),
        issuer=issuer,
        allow_unauthenticated=apis.allow_unauthenticated,
        upstream_ca=str(apis.upstream_ca or _system_trusts()),
        connect_timeout_ms=apis.connect_timeout_ms,
        request_timeout_ms=apis.request_timeout_ms,
    )


def _jwks(path: Path) -> str:
    key = "gatesync.envoy.jwks"
    try:
        text = path.read_text()
        keys = json.loads(text)["keys"]
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{key}: {path} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError):
        keys = None
    if not isinstance(keys, list) or not keys:
        raise EngineError(f'{key}: {path} is no JSON Web Key Set, {{"keys": [...]}}')
    return text


def _system_trusts() -> str:
    paths = (ssl.get_default_verify_paths().cafile, *_TRUSTED)
    return next((path for path in paths if path and Path(path).is_file()), _TRUSTED[0])
