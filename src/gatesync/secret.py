"""Values that must never be shown: passwords, tokens, and URLs that hold one."""

import hmac
import re
from typing import NoReturn
from urllib.parse import unquote

__all__ = ["MASK", "Secret", "SecretUrl", "masked", "names_a_secret"]

MASK = "***"
_SECRET_NAME = re.compile(r"passw|pwd|secret|token|credential|connectionproperties", re.IGNORECASE)
_PARAMETER = re.compile(r"[?&;](?:amp;)?([^=&;?]*)=")
_BEFORE_USER = re.compile(r"//|jdbc:(?:\w+:thin:|[\w+-]+:(?!//|[\w-]+://))")


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
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied; pass the object itself")


class SecretUrl(Secret):
    """A URL that may hold a password; it prints without user information and passwords."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = masked(self._text)
        return MASK if shown == self._text and "@" in shown else shown

    __str__ = __repr__


def masked(text: str) -> str:
    """A text that may be a URL, without its user information and its passwords.

    A password may hold any character, those that separate a URL's parts too. So everything up
    to the last `@` goes, and everything from the first parameter that is called a password on.
    """
    parameters = _PARAMETER.finditer(text)
    secret = next((each for each in parameters if names_a_secret(unquote(each[1]))), None)
    shown, rest = (text, "") if secret is None else (text[: secret.end()], text[secret.end() :])
    before_user = _BEFORE_USER.search(text)
    begins = before_user.end() if before_user else 0
    if begins and "@" in rest:
        return f"{text[:begins]}{MASK}"
    if begins and "@" in shown[begins:]:
        shown = f"{text[:begins]}{MASK}@{shown.rpartition('@')[2]}"
    return shown if secret is None else shown + MASK


def names_a_secret(name: str) -> bool:
    """Whether something of this name (a key, an environment variable) is best not shown."""
    return bool(_SECRET_NAME.search(name))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # an environment variable may hold any byte
