"""Which database the SQL store opens, and how: values, without SQLAlchemy.

`gatesync.config` makes these of deployment.toml, in processes that load no database library;
`gatesync.stores.sql_url` makes of them what SQLAlchemy and the drivers are given.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from gatesync.secret import Secret

__all__ = ["CONNECT_SECONDS", "DatabaseHost", "Dialect", "SqlSource", "Tls", "TlsMode"]

CONNECT_SECONDS = 10  # for each host; what PyMySQL and PostgreSQL's Java driver take, too


class Dialect(StrEnum):
    """A kind of database that the store runs on; MariaDB is `mysql`."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


class TlsMode(StrEnum):
    """How a connection is protected, in PostgreSQL's words."""

    DISABLE = "disable"  # never encrypted
    PREFER = "prefer"  # encrypted where the server can: nobody is kept out by that
    REQUIRE = "require"  # encrypted, with whomever
    VERIFY_CA = "verify-ca"  # and the certificate is by an authority that we trust
    VERIFY_FULL = "verify-full"  # and it is the host's


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files are PEM. Without `authorities` it is whom the driver trusts by default."""

    mode: TlsMode = TlsMode.PREFER
    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: Secret | None = None


class DatabaseHost(msgspec.Struct, frozen=True):
    """A host (a name, an IPv4 or a bare IPv6 address) and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class SqlSource(msgspec.Struct, frozen=True, kw_only=True):
    """A database. Nothing that it prints or encodes to holds a password.

    `hosts` are tried in order; without one it is the Unix socket in the folder or at the path
    `socket`, and where that is empty too, the driver's default. `search_path` is PostgreSQL's,
    and so is `libpq`: further settings of its client library. `network_seconds` bounds how long
    the network may be silent in an answer.
    """

    dialect: Dialect
    database: str
    hosts: tuple[DatabaseHost, ...] = ()
    socket: str = ""
    username: str | None = None
    password: Secret | None = None
    tls: Tls = Tls()
    connect_seconds: int = CONNECT_SECONDS
    network_seconds: int | None = None
    application: str = "gatesync"
    search_path: str = ""
    libpq: Mapping[str, str] = {}

    @classmethod
    def sqlite(cls, path: Path) -> "SqlSource":
        """The SQLite database in a file."""
        return cls(dialect=Dialect.SQLITE, database=str(path))

    def __str__(self) -> str:
        """The database as messages name it, such as `postgresql://db1:5432,db2:5432/apim`."""
        if self.dialect is Dialect.SQLITE:
            return f"sqlite:///{self.database}"
        return f"{self.dialect}://{','.join(map(str, self.hosts)) or self.socket}/{self.database}"
