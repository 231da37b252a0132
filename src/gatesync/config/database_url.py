"""A database's URL, as Java or as SQLAlchemy writes it, taken apart. Nothing is looked up.

No message of this module repeats a part of the URL that could be a part of a password.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus

import msgspec

from gatesync.config.addresses import PORT_MAX, is_ipv6
from gatesync.config.problems import Invalid
from gatesync.secret import Secret, names_a_secret
from gatesync.stores.sql_source import DatabaseHost, Dialect

__all__ = [
    "DIALECTS",
    "UNKNOWN",
    "UNSERVED",
    "DatabaseUrl",
    "Parameter",
    "kind_of",
    "parse_database_url",
]

DIALECTS: Mapping[str, Dialect] = {
    "sqlite": Dialect.SQLITE,
    "postgresql": Dialect.POSTGRESQL,
    "postgres": Dialect.POSTGRESQL,
    "postgre": Dialect.POSTGRESQL,
    "mysql": Dialect.MYSQL,
    "mariadb": Dialect.MYSQL,
}
# What WSO2 runs on and gatesync does not: the kinds, and what their URLs begin with.
UNSERVED: Mapping[str, str] = {
    "mssql": "mssql",
    "sqlserver": "mssql",
    "jtds": "mssql",
    "oracle": "oracle",
    "db2": "db2",
    "h2": "h2",
}
UNKNOWN = "unknown"
_OUR_DRIVERS = {
    Dialect.SQLITE: "pysqlite",
    Dialect.POSTGRESQL: "psycopg",
    Dialect.MYSQL: "pymysql",
}
_PORTS = {Dialect.POSTGRESQL: 5432, Dialect.MYSQL: 3306}
_FORMS = {
    Dialect.SQLITE: "jdbc:sqlite:PATH",
    Dialect.POSTGRESQL: "jdbc:postgresql://HOST:PORT/DATABASE",
    Dialect.MYSQL: "jdbc:mysql://HOST:PORT/DATABASE",
}
_CREDENTIALS = {"user", "username", "password", "passwd"}
# Tried in order: that is what several hosts mean here, too.
_IN_ORDER = {"failover", "sequential"}
_SCHEME = re.compile(r"(?P<java>jdbc:)?(?P<name>\w+)(?:\+(?P<driver>\w+))?:", re.ASCII)
_MODE = re.compile(r"(?P<mode>[\w-]+):(?=//)", re.ASCII)
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]*))(?::(?P<port>\d{1,5}))?", re.A
)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter. `quotable` is false where a password may have run over into its name."""

    name: str
    value: Secret
    quotable: bool = True


class DatabaseUrl(msgspec.Struct, frozen=True):
    """The parts of a URL. `hosts` is empty where it names none and Java's form does not demand one.

    `product` is the name in the URL: `mariadb` and `mysql` are one dialect, and differ in what
    their parameters mean.
    """

    dialect: Dialect
    product: str
    database: str
    hosts: tuple[DatabaseHost, ...] = ()
    username: str | None = None
    password: Secret | None = None
    parameters: tuple[Parameter, ...] = ()


def kind_of(url: str) -> str:
    """The kind of database that a URL is for, such as `mysql`; `UNKNOWN` where it does not say."""
    match = _SCHEME.match(url)
    name = match["name"].lower() if match else ""
    return UNSERVED.get(name) or (name if name in DIALECTS else UNKNOWN)


def parse_database_url(url: str) -> DatabaseUrl:
    """The parts of a URL of a database that gatesync runs on.

    Raises `Invalid`, with what to write instead.
    """
    scheme = _SCHEME.match(url)
    dialect = DIALECTS.get(scheme["name"].lower()) if scheme else None
    if scheme is None or dialect is None:
        raise Invalid(f"must be {', '.join(_FORMS.values())}")
    _check_driver(scheme["driver"], dialect, java=bool(scheme["java"]))
    rest = url[scheme.end() :]
    if dialect is Dialect.SQLITE:
        return DatabaseUrl(dialect, "sqlite", _sqlite_path(rest, java=bool(scheme["java"])))
    if mode := _MODE.match(rest):
        _check_mode(mode["mode"], scheme["name"], dialect)
        rest = rest[mode.end() :]
    # WSO2's documentation copies URLs out of XML.
    before, _, query = rest.replace("&amp;", "&").partition("?")
    if before.startswith("//"):
        authority, _, path = before.removeprefix("//").partition("/")
    else:  # PostgreSQL's Java driver takes jdbc:postgresql:DATABASE
        authority, path = "", before.removeprefix("/")
    if "@" in path:
        raise _separator()
    user, has_user, hosts = authority.rpartition("@")
    name, has_password, password = user.partition(":")
    database = _plain(path, "the database's name")
    if not database:
        raise Invalid(f"names no database; write {_FORMS[dialect]}")
    return DatabaseUrl(
        dialect,
        scheme["name"].lower(),
        database,
        _hosts(hosts, dialect, required=bool(scheme["java"]) or dialect is Dialect.MYSQL),
        _plain(name, "the user's name") if has_user and name else None,
        Secret(_plain(password, "the password")) if has_password else None,
        _parameters(query),
    )


def _check_driver(driver: str | None, dialect: Dialect, *, java: bool) -> None:
    ours = _OUR_DRIVERS[dialect]
    if driver and (java or driver.lower() != ours):
        raise Invalid(
            f"names another driver, +{driver}; gatesync uses +{ours} on {dialect}: write that, "
            "or leave the driver out"
        )


def _check_mode(mode: str, name: str, dialect: Dialect) -> None:
    if mode.lower() not in _IN_ORDER or dialect is not Dialect.MYSQL:
        raise Invalid(
            f"begins with {name}:{mode}:, which gatesync does not do; name the server that takes "
            f"writes in url ({_FORMS[dialect]}; several, HOST1:PORT,HOST2:PORT, are tried in "
            "order), and a replica in read_url"
        )


def _sqlite_path(rest: str, *, java: bool) -> str:
    path = rest if java else rest.removeprefix("///")
    if not java and not rest.startswith("///"):
        raise Invalid("must be sqlite:///PATH; an absolute path has four slashes")
    if not path or path.startswith((":", "file:")) or "\0" in path:
        raise Invalid("must name a file after jdbc:sqlite: (nothing is kept in memory)")
    return path


def _hosts(text: str, dialect: Dialect, *, required: bool) -> tuple[DatabaseHost, ...]:
    if not text and not required:
        return ()
    if "(" in text:
        raise Invalid(f"has hosts in parentheses; write {_FORMS[dialect]}")
    found: list[DatabaseHost] = []
    for position, each in enumerate(text.split(","), start=1):
        match = _HOST.fullmatch(each)
        if match is None or (match["six"] and not is_ipv6(match["six"])):
            raise Invalid(
                f"has a host, number {position}, that is not HOST, HOST:PORT or [IPV6]:PORT; "
                "a / ? # : or @ of a user name or password must be percent-escaped, or use the "
                "keys username and password"
            )
        port = int(match["port"] or _PORTS[dialect])
        if not 1 <= port <= PORT_MAX:
            raise Invalid(f"has a port, number {position}, that is not from 1 to {PORT_MAX}")
        found.append(DatabaseHost(match["six"] or match["name"] or "localhost", port))
    return tuple(found)


def _parameters(query: str) -> tuple[Parameter, ...]:
    found: list[Parameter] = []
    quotable = True
    for each in filter(None, query.split("&")):
        name, _, value = each.partition("=")
        if "@" in name or ("@" in value and name.lower() not in _CREDENTIALS):
            raise _separator()
        found.append(Parameter(name, Secret(_plain(value, "a parameter", plus=True)), quotable))
        # A password with an & in it goes on in what looks like the next parameter.
        quotable = quotable and not names_a_secret(unquote(name))
    return tuple(found)


def _plain(text: str, what: str, *, plus: bool = False) -> str:
    """Without percent-escapes; in parameters a + is a space, as Java's drivers read it."""
    try:
        plain = (unquote_plus if plus else unquote)(text, errors="strict")
    except UnicodeDecodeError:
        raise Invalid(f"has percent-escapes in {what} that are not UTF-8") from None
    if "\0" in plain:
        raise Invalid(f"has a NUL character in {what}")
    return plain


def _separator() -> Invalid:
    return Invalid(
        "has an @ after the hosts; a / ? # or @ of a user name or password must be "
        "percent-escaped (%2F %3F %23 %40), or use the keys username and password"
    )
