"""The keys of [gatesync.tls]: certificates of this node's servers, and of its clients."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from gatesync.config import kinds
from gatesync.config.reader import Reader
from gatesync.events.access import BrokerAccess
from gatesync.web.tls_files import ClientTls, ServerTls

__all__ = ["TlsSettings", "broker_access", "read_tls"]


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """TLS of this node: `server` is None where its servers speak plain HTTP and NATS.

    `client` is None where nothing is given: then the system's authorities are trusted.
    """

    server: ServerTls | None = None
    client: ClientTls | None = None

    @property
    def scheme(self) -> str:
        """Of this node's HTTP servers."""
        return "http" if self.server is None else "https"

    @property
    def broker_scheme(self) -> str:
        """Of this node's embedded broker."""
        return "nats" if self.server is None else "tls"


def read_tls(reader: Reader, folder: Path) -> TlsSettings:
    """The section as a document gives it; pairs of which one is missing are faults."""
    ours, path = reader.section("gatesync.tls"), kinds.path_in(folder)
    certificate, key = ours.optional("certificate", path), ours.optional("key", path)
    client_ca = ours.optional("client_ca", path)
    client = ClientTls(
        ca=ours.optional("ca", path),
        client_certificate=ours.optional("client_certificate", path),
        client_key=ours.optional("client_key", path),
    )
    pairs = (
        ("certificate", certificate, "key", key),
        ("client_certificate", client.client_certificate, "client_key", client.client_key),
    )
    for name, given, other, beside in pairs:
        if (given is None) != (beside is None):
            has, lacks = (name, other) if given is not None else (other, name)
            ours.problem(has, f"needs {lacks} beside it: a certificate and its key")
    if client_ca is not None and certificate is None:
        ours.problem("client_ca", "is whom this node's servers let in; they need a certificate")
    return TlsSettings(
        server=ServerTls(certificate=certificate, key=key, client_ca=client_ca)
        if certificate is not None and key is not None
        else None,
        client=client if client != ClientTls() else None,
    )


def broker_access(access: BrokerAccess, tls: TlsSettings, endpoints: Sequence[str]) -> BrokerAccess:
    """How to reach these endpoints: with the files of [gatesync.tls], unless others are given.

    Where one endpoint is without TLS they are not used, as with them it is insisted on.
    """
    encrypted = bool(endpoints) and all(url.startswith("tls:") for url in endpoints)
    if access.encrypts or not encrypted or tls.client is None:
        return access
    return msgspec.structs.replace(
        access,
        tls_ca=tls.client.ca,
        tls_cert=tls.client.client_certificate,
        tls_key=tls.client.client_key,
    )
