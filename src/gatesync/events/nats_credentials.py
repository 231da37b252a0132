"""How publishers log in at the embedded broker: made once, in a file only its owner can read."""

import secrets
import stat
from pathlib import Path
from typing import Final

import msgspec

from gatesync.private_file import write_private_file

__all__ = [
    "BrokerCredentials",
    "BrokerError",
    "BrokerUser",
    "credentials_path",
    "ensure_credentials",
    "read_credentials",
    "read_credentials_file",
]

FILE_NAME: Final = "broker-credentials.json"


class BrokerError(Exception):
    """The embedded broker cannot be set up or run; says what to do about it."""


class BrokerUser(msgspec.Struct, frozen=True):
    """A name and a password at the broker. The password is not shown."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"BrokerUser({self.user!r})"


class BrokerCredentials(msgspec.Struct, frozen=True):
    """Who publishers are at the broker. Nodes have a key each, made of their tokens.

    Files made earlier name a password that all gateways shared, too; the broker knows it no more.
    """

    publisher: BrokerUser


def credentials_path(data: Path) -> Path:
    """Where the credentials are kept in a data folder."""
    return data / FILE_NAME


def read_credentials(data: Path) -> BrokerCredentials:
    """The credentials of the broker whose data folder this is.

    Raises:
        BrokerError: there are none yet, or the file cannot be read.
    """
    return read_credentials_file(credentials_path(data))


def read_credentials_file(path: Path) -> BrokerCredentials:
    """The credentials in a file, wherever it is; raises as `read_credentials` does."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except FileNotFoundError:
        raise BrokerError(f"{path} is missing; the broker makes it when it first starts") from None
    except OSError as error:
        raise BrokerError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise BrokerError(f"{path}: others can access it (mode {mode:04o}); run chmod 600 on it")
    try:
        return msgspec.json.decode(content, type=BrokerCredentials)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokerError(
            f"{path} is broken ({error}); put the file back, "
            "or delete it and restart the broker and all that use it"
        ) from None


def ensure_credentials(data: Path) -> BrokerCredentials:
    """The credentials, made now if there are none. Raises `BrokerError` as reading does."""
    path = credentials_path(data)
    if not path.exists():
        # 256 random bits: nothing that a slow hash would protect.
        made = BrokerCredentials(BrokerUser("publisher", secrets.token_urlsafe(32)))
        write_private_file(path, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return read_credentials(data)
