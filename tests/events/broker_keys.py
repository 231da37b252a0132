"""What an administrator makes for a broker with nsc and openssl: keys, JWTs, certificates."""

import base64
import binascii
import datetime
import hashlib
import ipaddress
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


class Nkey:
    """A key of NATS: Ed25519, and how NATS writes it."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self._private = Ed25519PrivateKey.from_private_bytes(secrets.token_bytes(32))

    @property
    def public(self) -> str:
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return _encoded(bytes([self.kind]) + raw)

    @property
    def seed(self) -> str:
        raw = self._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return _encoded(bytes([SEED | self.kind >> 5, (self.kind & 31) << 3]) + raw)

    def jwt(self, subject: "Nkey", name: str, nats: dict[str, Any], expires: int = 0) -> str:
        """A claim about another key, signed by this one."""
        claims = {"iat": 0, "iss": self.public, "name": name, "sub": subject.public}
        claims |= {"nats": nats | {"version": 2}}
        if expires:
            claims["exp"] = expires
        digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
        said = f"{_json({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_json(claims)}"
        return f"{said}.{_base64(self._private.sign(said.encode()))}"


class Operator:
    """An operator with one account, as a nats-server without a database of accounts knows it."""

    def __init__(self) -> None:
        self._operator, self._account = Nkey(OPERATOR), Nkey(ACCOUNT)
        self._system = Nkey(ACCOUNT)
        everything = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
        ) | {"wildcards": True}
        body = {"type": "account", "limits": everything, "default_permissions": {}}
        accounts = {"A": self._account, "SYS": self._system}
        preload = "\n".join(
            f"{key.public}: {self._operator.jwt(key, name, body)}" for name, key in accounts.items()
        )
        itself = {"type": "operator", "system_account": self._system.public}
        self.config = (
            f"operator: {self._operator.jwt(self._operator, 'O', itself)}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def credentials(self, expires: int = 0) -> str:
        """A user's credentials file."""
        user = Nkey(USER)
        body = {"type": "user", "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
        jwt = self._account.jwt(user, "gateway", body, expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


class Authority:
    """A certificate authority, and what it signs, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.file = self._write("ca.pem", self._sign(self._name, self._key, None))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate and its key, good for these hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        cert = self._write(f"{name}.pem", self._sign(subject, key, hosts))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.folder / f"{name}.key"
        path.write_bytes(pem)
        path.chmod(0o600)
        return cert, path

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...] | None
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
        )
        if hosts:
            names = [_alternative(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _encoded(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _json(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
