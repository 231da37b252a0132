"""A database's description becomes what SQLAlchemy and the driver are given.

The password goes to the driver alone: no URL of SQLAlchemy's, which it shows in its messages,
ever holds it.
"""

import ssl
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine import Dialect as SqlDialect

from gatesync.stores.sql_source import DatabaseHost, Dialect, SqlSource, Tls, TlsMode
from gatesync.stores.store import StoreError

__all__ = ["connect_arguments", "sql_url", "try_hosts_in_order"]

_DRIVERS: Final = {
    Dialect.SQLITE: "sqlite",
    Dialect.POSTGRESQL: "postgresql+psycopg",
    Dialect.MYSQL: "mysql+pymysql",
}


def sql_url(source: SqlSource) -> URL:
    """The URL for `sqlalchemy.create_engine`, without a password and without options.

    It names the first host; `connect_arguments` has the others, and everything else.
    """
    first = source.hosts[0] if source.hosts else None
    return URL.create(
        _DRIVERS[source.dialect],
        username=source.username,
        host=first.name if first else None,
        port=first.port if first else None,
        database=source.database,
    )


def connect_arguments(source: SqlSource) -> dict[str, Any]:
    """What the driver is told beside the URL: `connect_args` of `create_engine`.

    Raises `StoreError` when a certificate or key for MySQL cannot be read; PostgreSQL's library
    reads its own when it connects.
    """
    if source.dialect is Dialect.POSTGRESQL:
        return _psycopg(source)
    if source.dialect is Dialect.MYSQL:
        return _pymysql(source)
    return {}


def try_hosts_in_order(engine: Engine, hosts: Sequence[DatabaseHost]) -> None:
    """Make an engine whose driver knows one host try several (PostgreSQL's does it itself).

    The next host is tried when one cannot be connected to, for whatever reason that it gives;
    the last one's reason is what is raised. With fewer than two there is nothing to do.
    """
    if len(hosts) < 2:
        return

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: SqlDialect, _record: Any, arguments: list[Any], named: dict[str, Any]
    ) -> Any:
        for host in hosts[:-1]:
            try:
                return dialect.connect(*arguments, **named | _at(host))
            except dialect.loaded_dbapi.OperationalError:
                continue
        return dialect.connect(*arguments, **named | _at(hosts[-1]))


def _at(host: DatabaseHost) -> dict[str, Any]:
    return {"host": host.name, "port": host.port}


def _psycopg(source: SqlSource) -> dict[str, Any]:
    tls = source.tls
    given: dict[str, Any] = {
        "connect_timeout": source.connect_seconds,
        "application_name": source.application,
        "sslmode": tls.mode.value,
        **source.libpq,
    }
    if source.hosts:
        given["host"] = ",".join(host.name for host in source.hosts)
        given["port"] = ",".join(str(host.port) for host in source.hosts)
    elif source.socket:
        given["host"] = source.socket
    files = {"sslrootcert": tls.authorities, "sslcert": tls.certificate, "sslkey": tls.key}
    given |= {name: file for name, file in files.items() if file is not None}
    if tls.key_password is not None:
        given["sslpassword"] = tls.key_password.reveal()
    if source.password is not None:
        given["password"] = source.password.reveal()
    if source.network_seconds is not None:
        given["tcp_user_timeout"] = source.network_seconds * 1000
    if source.search_path:
        path = source.search_path.replace("\\", "\\\\").replace(" ", "\\ ")
        given["options"] = f"{source.libpq.get('options', '')} -csearch_path={path}".strip()
    return given


def _pymysql(source: SqlSource) -> dict[str, Any]:
    given: dict[str, Any] = {
        "connect_timeout": source.connect_seconds,
        "program_name": source.application,
        "charset": "utf8mb4",
    }
    if source.socket:
        given["unix_socket"] = source.socket
    if source.password is not None:
        # As bytes: PyMySQL would take a text as Latin-1, and MySQL reads UTF-8.
        given["password"] = source.password.reveal().encode()
    if source.network_seconds is not None:
        given["read_timeout"] = given["write_timeout"] = source.network_seconds
    if source.tls.mode is TlsMode.DISABLE:
        given["ssl_disabled"] = True
    elif source.tls.mode is not TlsMode.PREFER or source.tls.certificate:
        given["ssl"] = _tls_context(source.tls)
    return given


def _tls_context(tls: Tls) -> ssl.SSLContext:
    # Not PyMySQL's own options: without an authority's file they do not look at the host's name,
    # whatever is asked of them.
    try:
        context = ssl.create_default_context(cafile=tls.authorities)
    except OSError as error:
        raise StoreError(
            f"the certificates in {tls.authorities} cannot be read: {_why(error)}"
        ) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # MySQL's own certificates are not strict
    context.check_hostname = tls.mode is TlsMode.VERIFY_FULL
    verified = tls.mode in {TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL}
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    if tls.certificate:
        password = tls.key_password.reveal() if tls.key_password else ""
        try:
            # Never None: OpenSSL would ask for the password on the terminal.
            context.load_cert_chain(tls.certificate, tls.key, lambda: password)
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (tls.certificate, tls.key)))
            raise StoreError(f"{files} cannot be used: {_why(error)}") from None
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is no PEM file, or not what its name says, or its password is another"
    return getattr(error, "strerror", None) or "it is not valid"
