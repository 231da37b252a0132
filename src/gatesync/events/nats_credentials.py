"""The embedded broker's two users: made once, kept in a file that only its owner can read."""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "BrokerCredentials",
    "BrokerError",
    "BrokerUser",
    "credentials_path",
    "ensure_credentials",
    "read_credentials",
    "write_private",
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
    """Who publishers and gateways are at the broker."""

    publisher: BrokerUser
    gateway: BrokerUser


def credentials_path(data: Path) -> Path:
    """Where the credentials are kept in a data folder."""
    return data / FILE_NAME


def read_credentials(data: Path) -> BrokerCredentials:
    """The credentials of the broker whose data folder this is.

    Raises:
        BrokerError: there are none yet, or the file cannot be read.
    """
    path = credentials_path(data)
    try:
        return msgspec.json.decode(path.read_bytes(), type=BrokerCredentials)
    except FileNotFoundError:
        raise BrokerError(f"{path} is missing; the broker makes it when it first starts") from None
    except OSError as error:
        raise BrokerError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokerError(
            f"{path} is broken ({error}); put the file back, "
            "or delete it and restart the broker and all that use it"
        ) from None


def ensure_credentials(data: Path) -> BrokerCredentials:
    """The credentials, made now if there are none. Raises `BrokerError` as reading does."""
    path = credentials_path(data)
    if not path.exists():
        # 256 random bits each: nothing that a slow hash would protect.
        made = BrokerCredentials(
            publisher=BrokerUser("publisher", secrets.token_urlsafe(32)),
            gateway=BrokerUser("gateway", secrets.token_urlsafe(32)),
        )
        write_private(path, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return read_credentials(data)


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
