"""What a NATS client shows when it connects: read from its files anew for each attempt.

    login = read_login(access)      # BrokerAccess → Login; raises AccessError, naming the file

An nkey is an Ed25519 key: its seed never leaves this process, the broker gets a signature of the
number that it sent (`Login.sign`). A node's is made of its token; a credentials file holds such a
seed, and a JWT that says whose it is and until when.
"""

import base64
import re
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gatesync.events.access import BrokerAccess
from gatesync.events.hub import HubError
from gatesync.events.nkeys import NkeyError, key_of_seed, key_of_token

__all__ = ["AccessError", "Login", "read_login", "sign_with"]

FILE_MAX_BYTES: Final = 64 * 1024
_PART: Final = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+(\S+)\s+-{3,}END \1-{3,}")


class AccessError(HubError):
    """A file that is needed to connect cannot be used. `key` is the field of `BrokerAccess`."""

    def __init__(self, message: str, key: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.key = key
        self.expired = expired


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one attempt to connect needs to know of its client. Shown by no `repr`."""

    token: str | None = None
    nkey: str | None = None  # the public one
    jwt: str | None = None
    sign: Callable[[str], bytes] | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    encrypts: bool = False

    def __repr__(self) -> str:
        return "Login(***)"


class _Claims(msgspec.Struct):
    exp: int = 0


def read_login(access: BrokerAccess, wall_clock: Callable[[], float] = time.time) -> Login:
    """Read the files of an access.

    Raises:
        AccessError: one is missing, open to others, of another kind than it should be, or a user
            in it has expired; or the node's token is none.
    """
    token = access.token.reveal() if access.token is not None else None
    nkey = jwt = sign = None
    if access.nkey_file is not None:
        text = _private(access.nkey_file, "nkey_file")
        nkey, sign = sign_with(text, access.nkey_file, "nkey_file")
    if access.creds_file is not None:
        jwt, seed = _credentials(access.creds_file, wall_clock())
        _, sign = sign_with(seed, access.creds_file, "creds_file")
    if access.node_token is not None:
        nkey, sign = _node_login(access.node_token)
    return Login(
        token=token,
        nkey=nkey,
        jwt=jwt,
        sign=sign,
        tls=_tls(access) if access.encrypts else None,
        server_name=access.tls_server_name,
        encrypts=access.encrypts,
    )


def sign_with(seed: str, path: Path, key: str) -> tuple[str, Callable[[str], bytes]]:
    """The public nkey of a user's seed, and what signs with it. Raises `AccessError`."""
    try:
        found = key_of_seed(seed)
    except NkeyError as error:
        raise AccessError(f"{path}: {error}", key) from None
    return found.public, found.sign


def _node_login(token: Callable[[], str]) -> tuple[str, Callable[[str], bytes]]:
    try:
        found = key_of_token(token())
    except NkeyError as error:
        raise AccessError(f"this node's token: {error}", "node_token") from None
    return found.public, found.sign


def _credentials(path: Path, now: float) -> tuple[str, str]:
    """The JWT and the seed of a credentials file."""
    parts = dict(_PART.findall(_private(path, "creds_file")))
    jwt, seed = parts.get("NATS USER JWT"), parts.get("USER NKEY SEED")
    if jwt is None or seed is None:
        raise AccessError(
            f"{path}: is no credentials file of a user: it lacks the JWT or the seed; "
            "nsc generate creds makes one",
            "creds_file",
        )
    try:
        body = jwt.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=="), type=_Claims)
    except (IndexError, ValueError, msgspec.DecodeError):
        raise AccessError(f"{path}: its JWT is broken; copy the file anew", "creds_file") from None
    if claims.exp and claims.exp <= now:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(claims.exp))
        raise AccessError(
            f"{path}: its user expired at {when}; put a new credentials file there",
            "creds_file",
            expired=True,
        )
    return jwt, seed


def _tls(access: BrokerAccess) -> ssl.SSLContext:
    ca, cert, key = access.tls_ca, access.tls_cert, access.tls_key
    if ca is not None:
        _readable(ca, "tls_ca")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, ValueError):
        raise AccessError(f"{ca}: holds no certificate in PEM form", "tls_ca") from None
    if cert is not None and key is not None:
        _readable(cert, "tls_cert")
        _private(key, "tls_key")
        try:
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "it is not in PEM form"
            raise AccessError(
                f"{key}: is no key of the certificate {cert}, or wants a passphrase ({reason})",
                "tls_key",
            ) from None
    return context


def _no_passphrase() -> str:
    return ""  # without it OpenSSL would ask at the terminal


def _private(path: Path, key: str) -> str:
    """The text of a file that nobody but its owner may touch."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise AccessError(f"{path}: cannot be read: {error.strerror}", key) from None
    if mode & 0o077:
        raise AccessError(
            f"{path}: others can access it (mode {mode:04o}); run chmod 600 on it", key
        )
    return _readable(path, key)


def _readable(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise AccessError(f"{path}: cannot be read: {error.strerror}", key) from None
    if len(content) > FILE_MAX_BYTES and key != "tls_ca":
        raise AccessError(f"{path}: is larger than 64 KiB; it is another file", key)
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise AccessError(f"{path}: is not text", key) from None
