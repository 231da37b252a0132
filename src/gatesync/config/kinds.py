"""What a key's value may be: one function a kind, from what TOML held to what settings hold.

Each returns the value or raises `Invalid` whose message begins with a verb ("must be ...")
and does not repeat the value, which may be a secret: the reader adds what may be shown.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from gatesync.artifacts.names import check_label, check_node_id
from gatesync.config.addresses import Address, parse_address
from gatesync.config.problems import Invalid
from gatesync.config.secret import Secret, SecretUrl, names_a_secret

__all__ = [
    "DAY_MS",
    "Kind",
    "any_text",
    "boolean",
    "choice",
    "database_url",
    "endpoints",
    "http_url",
    "label",
    "labels",
    "listen",
    "milliseconds",
    "node_id",
    "password",
    "path_in",
    "scalars",
    "secret",
    "text",
    "texts",
    "whole",
    "words",
]

T = TypeVar("T")
C = TypeVar("C", bound=StrEnum)
Kind = Callable[[object], T]

DAY_MS = 24 * 60 * 60 * 1000
_AMQP = {"amqp", "amqps", "ssl", "tcp"}  # how WSO2 writes its own broker's endpoints


def any_text(value: object) -> str:
    """A text, which may be empty."""
    if not isinstance(value, str):
        raise Invalid("must be a text in quotes")
    return value


def text(value: object) -> str:
    """A text that is not empty."""
    if not any_text(value):
        raise Invalid("must not be empty")
    return any_text(value)


def secret(value: object) -> Secret:
    """A text that is never shown."""
    return Secret(text(value))


def password(value: object) -> Secret:
    """A text that is never shown, and may be empty: some databases have such accounts."""
    return Secret(any_text(value))


def boolean(value: object) -> bool:
    """Yes or no: true or false, or the same in quotes, as WSO2's documentation writes it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise Invalid("must be true or false")


def whole(minimum: int, maximum: int, what: str = "a whole number") -> Kind[int]:
    """A whole number within bounds, bare or in quotes."""

    def read(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            value = int(value[:20])
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(f"must be {what}")
        if not minimum <= value <= maximum:
            raise Invalid(f"must be {what} from {minimum} to {maximum}")
        return value

    return read


def milliseconds(minimum: int) -> Kind[int]:
    """A duration in milliseconds, up to a day."""
    return whole(minimum, DAY_MS, "a whole number of milliseconds")


def choice(options: type[C]) -> Kind[C]:
    """One of an enumeration's words, in any case."""

    def read(value: object) -> C:
        try:
            return options(any_text(value).lower())
        except ValueError:
            names = ", ".join(f'"{option.value}"' for option in options)
            raise Invalid(f"must be one of {names}") from None

    return read


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, which may be empty."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid('must be a list of texts, such as ["one", "two"]')
    return tuple(value)


def words(value: object) -> tuple[str, ...]:
    """A list of texts, or one text with commas between them."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return texts(value)


def label(value: object) -> str:
    """One gateway label, kept literally."""
    try:
        return check_label(any_text(value))
    except ValueError as error:
        raise Invalid(f"must be a label: {error}") from None


def labels(value: object) -> tuple[str, ...]:
    """Gateway labels: at least one, each valid, none twice. They are kept literally."""
    found = texts(value)
    if not found:
        raise Invalid('must name at least one label, such as ["Production and Sandbox"]')
    for position, name in enumerate(found, start=1):
        try:
            check_label(name)
        except ValueError as error:
            raise Invalid(f"has a label that is not valid, number {position}: {error}") from None
        if name in found[: position - 1]:
            raise Invalid(f"names a label twice, the second time as number {position}")
    return found


def node_id(value: object) -> str:
    """A node's id, which is a token of broker subjects."""
    try:
        return check_node_id(any_text(value))
    except ValueError:
        raise Invalid(
            "must be 1 to 64 letters, digits, '-' or '_', beginning with a letter or digit"
        ) from None


def path_in(folder: Path) -> Kind[Path]:
    """A path; a relative one is taken from `folder`, and `~` is the home folder."""

    def read(value: object) -> Path:
        given = text(value)
        if "\0" in given:
            raise Invalid("must not hold a NUL character")
        try:
            return folder / Path(given).expanduser()
        except RuntimeError:
            raise Invalid("begins with '~', but there is no such home folder") from None

    return read


def listen(offset: int) -> Kind[Address]:
    """Where a server listens, with the offset added to the port."""

    def read(value: object) -> Address:
        try:
            return parse_address(text(value), offset)
        except ValueError as error:
            raise Invalid(str(error)) from None

    return read


def http_url(value: object) -> str:
    """The base of an http or https URL, without `/` at the end.

    WSO2 writes `https://host:9443/services/`; the `/services` is Carbon's and is left out.
    """
    given = text(value)
    parts = _url(given, {"http", "https"}, "https://HOST:PORT")
    if parts.query or parts.fragment:
        raise Invalid("must have no ? and no #: it is the base that paths are added to")
    base = given.rstrip("/")
    return base.removesuffix("/services") if parts.path.rstrip("/") == "/services" else base


def endpoints(value: object) -> tuple[str, ...]:
    """Broker URLs, a list or a single one: `nats://`, `tls://`, or WSO2's AMQP ones."""
    found = words(value) if isinstance(value, str) else texts(value)
    for url in found:
        parts = _url(url, {"nats", "tls", *_AMQP}, "nats://HOST:PORT or tls://HOST:PORT")
        if parts.scheme in {"nats", "tls"} and (parts.query or parts.fragment):
            raise Invalid("must have no ? and no #: a login has keys of its own")
    return found


def database_url(value: object) -> SecretUrl:
    """A JDBC URL, kept as it is; it may hold a password."""
    return SecretUrl(text(value))


def scalars(value: object) -> Mapping[str, str | int | float | bool | Secret]:
    """A table of plain values, kept as they are, but for those whose names speak of a secret."""
    if not isinstance(value, dict) or not all(
        isinstance(item, str | int | float | bool) for item in value.values()
    ):
        raise Invalid("must be a table of texts, numbers and booleans")
    return {
        name: Secret(str(item)) if names_a_secret(name) else item for name, item in value.items()
    }


def _url(given: str, schemes: set[str], form: str) -> SplitResult:
    """The URL's parts, if it has one of the schemes, a host, and a port that can be."""
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Invalid(f"must be {form}, with a port from 0 to 65535") from None
    if parts.scheme not in schemes or not host or any(char.isspace() for char in given):
        raise Invalid(f"must be {form}")
    if parts.username is not None:
        raise Invalid("must not hold a user name or password; use the keys username, password")
    return parts
