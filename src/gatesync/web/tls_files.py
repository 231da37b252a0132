"""Which PEM files a server or a client has; `gatesync.web.tls` reads them."""

from pathlib import Path

import msgspec

__all__ = ["ClientTls", "ServerTls"]


class ServerTls(msgspec.Struct, frozen=True, kw_only=True):
    """A server's files. With `client_ca` only clients with a certificate of it are let in."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ClientTls(msgspec.Struct, frozen=True, kw_only=True):
    """A client's files: whom it trusts (the system's authorities without `ca`), and who it is."""

    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
