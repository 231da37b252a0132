"""Secrets of a configuration: from a file, and encoded so that they do not show."""

import stat
from pathlib import Path
from typing import Any

from gatesync.config.problems import ConfigError, ConfigProblem, Invalid
from gatesync.secret import MASK, Secret, SecretUrl, masked, names_a_secret

__all__ = [
    "MASK",
    "Secret",
    "SecretUrl",
    "encode_masked",
    "masked",
    "names_a_secret",
    "read_secret_file",
    "secret_in_file",
]

_FILE_MAX_BYTES = 64 * 1024


def encode_masked(value: Any) -> str:
    """An `enc_hook` for msgspec: secrets as `***`, paths and addresses as their text."""
    return str(value)


def read_secret_file(path: Path, key: str = "") -> Secret:
    """The secret that a file holds, without surrounding white space.

    Raises `ConfigError`, naming the file and `key`, when it is missing, empty, larger than
    64 KiB or accessible to anyone but its owner.
    """
    try:
        return Secret(secret_in_file(path))
    except Invalid as error:
        raise ConfigError([ConfigProblem(str(error), key)]) from None


def secret_in_file(path: Path) -> str:
    """As `read_secret_file`, as a text; raises `Invalid`, naming the file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise Invalid(f"{path}: others can access it (mode {mode:04o}); run chmod 600 on it")
    if len(content) > _FILE_MAX_BYTES:
        raise Invalid(f"{path}: is larger than 64 KiB; it should hold nothing but the secret")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise Invalid(f"{path}: is not UTF-8 text") from None
    if not text:
        raise Invalid(f"{path}: is empty; it should hold the secret")
    return text
