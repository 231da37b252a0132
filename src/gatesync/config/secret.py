"""Values that must never be shown: passwords and tokens."""

import hmac
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from gatesync.config.problems import ConfigError, ConfigProblem

__all__ = [
    "MASK",
    "Secret",
    "SecretUrl",
    "encode_masked",
    "masked",
    "names_a_secret",
    "read_secret_file",
]

MASK = "***"
_SECRET_NAME = re.compile(r"passw|pwd|secret|token|credential|connectionproperties", re.IGNORECASE)
_USERINFO = re.compile(r"(//|:thin:).*@")  # greedy: a password may hold any character
_QUERY_PASSWORD = re.compile(
    r"([?&;](?:amp;)?[^=&;]*(?:passw|pwd|secret|token)[^=&;]*=)[^&;]*", re.I
)
_FILE_MAX_BYTES = 64 * 1024


class Secret:
    """A text that prints as `***` wherever it is shown; `reveal()` gives it.

    It is no `str` on purpose: neither a type checker nor an encoder takes it for one, so that
    it cannot be logged, formatted or sent by mistake.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied; pass the object itself")


class SecretUrl(Secret):
    """A URL that may hold a password; it prints without user information and passwords."""

    __slots__ = ()

    def __repr__(self) -> str:
        return masked(self._text)

    __str__ = __repr__


def encode_masked(value: Any) -> str:
    """An `enc_hook` for msgspec: secrets as `***`, paths and addresses as their text."""
    return str(value)


def masked(text: str) -> str:
    """The text without a URL's user information and without passwords in its query."""
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1{MASK}@", text))


def names_a_secret(name: str) -> bool:
    """Whether something of this name (a key, an environment variable) is best not shown."""
    return bool(_SECRET_NAME.search(name))


def read_secret_file(path: Path, key: str = "") -> Secret:
    """The secret that a file holds, without surrounding white space.

    Raises `ConfigError`, naming the file and `key`, when it is missing, empty, larger than
    64 KiB or accessible to anyone but its owner.
    """

    def refused(message: str) -> ConfigError:
        return ConfigError([ConfigProblem(f"{path}: {message}", key)])

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise refused(f"others can access it (mode {mode:04o}); run chmod 600 on it")
    if len(content) > _FILE_MAX_BYTES:
        raise refused("is larger than 64 KiB; it should hold nothing but the secret")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise refused("is not UTF-8 text") from None
    if not text:
        raise refused("is empty; it should hold the secret")
    return Secret(text)
