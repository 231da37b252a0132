"""`gatesync up --tls`: an authority of this folder's own, to try TLS without anybody's help.

Everything is in `<data>/tls`: the authority's certificate (`ca.pem`, which others may be given),
its key, and one certificate for this machine, made anew at a start when it ends within a month
or is not for the addresses that are listened at.
"""

import datetime
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gatesync.config import ConfigError, Settings
from gatesync.config.problems import ConfigProblem
from gatesync.config.tls import TlsSettings
from gatesync.private_file import write_private_file
from gatesync.web.tls import ClientTls, ServerTls

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["with_local_authority"]

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397  # longer ones are refused by some clients
RENEW_DAYS: Final = 30
HERE: Final = ("localhost", "127.0.0.1", "::1")


def with_local_authority(settings: Settings) -> Settings:
    """The settings with certificates of the folder's own authority; made where they are missing.

    Raises:
        ConfigError: [gatesync.tls] names certificates already, or `cryptography` is missing.
        OSError: a file cannot be read or written; names it.
    """
    if settings.tls != TlsSettings():
        reason = "names certificates already; start without --tls, and they are used"
        raise ConfigError([ConfigProblem(reason, "gatesync.tls")])
    listens = (
        settings.publisher.listen,
        settings.gateway.listen,
        settings.traffic_manager.listen,
    )
    hosts = {*HERE, socket.gethostname(), *(each.host for each in listens if not each.anywhere)}
    folder = settings.data / "tls"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        _issue(folder, sorted(hosts))
    except ValueError as error:
        reason = f"{folder} holds what is no key or certificate ({error}); remove the folder"
        raise ConfigError([ConfigProblem(reason)]) from None
    tls = TlsSettings(
        server=ServerTls(certificate=folder / "server.pem", key=folder / "server.key"),
        client=ClientTls(ca=folder / "ca.pem"),
    )
    return msgspec.structs.replace(settings, tls=tls)


def _issue(folder: Path, hosts: Iterable[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def private(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def begun(name: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def _name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    names = [_alternative(host) for host in hosts]
    ca_file, ca_key_file = folder / "ca.pem", folder / "ca.key"
    if not (ca_file.exists() and ca_key_file.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        built = begun("gatesync local authority", key, AUTHORITY_DAYS)
        built = built.issuer_name(_name("gatesync local authority"))
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_signs_certificates(), critical=True)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = built.add_extension(own, critical=False).sign(key, hashes.SHA256())
        write_private_file(ca_key_file, private(key))
        write_private_file(ca_file, made.public_bytes(serialization.Encoding.PEM))
    authority = x509.load_pem_x509_certificate(ca_file.read_bytes())
    signing = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise ValueError("ca.key is of another kind")  # noqa: TRY004 - a file's content
    certificate, key_file = folder / "server.pem", folder / "server.key"
    if certificate.exists() and key_file.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        found = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        lasting = known.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
        if lasting and list(found) == names and known.issuer == authority.subject:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    built = begun(socket.gethostname()[:64], key, SERVER_DAYS).issuer_name(authority.subject)
    built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = built.add_extension(issuer, critical=False).sign(signing, hashes.SHA256())
    write_private_file(key_file, private(key))
    write_private_file(certificate, made.public_bytes(serialization.Encoding.PEM))


def _signs_certificates() -> "x509.KeyUsage":
    from cryptography import x509

    allowed = {"digital_signature", "key_cert_sign", "crl_sign"}
    kinds = (
        *sorted(allowed),
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{kind: kind in allowed for kind in kinds})


def _alternative(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
