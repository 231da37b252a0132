"""PostgreSQL, MySQL and MariaDB: how a connection to each is made.

Writing is READ COMMITTED: whoever got the lock sees what the one before committed. Reading is a
snapshot, so that a head, its floor and its rows are of one moment.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL

from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_source import DatabaseHost, SqlSource
from gatesync.stores.sql_url import connect_arguments, try_hosts_in_order

__all__ = ["mysql_engines", "postgresql_engines"]

# A lock must not outlast the publisher that took it: the server throws out one that is frozen
# within a transaction when its deadline has passed.
_POSTGRESQL_LIMITS: Final = (
    "SELECT set_config('statement_timeout', %(ms)s, false),"
    " set_config('lock_timeout', %(ms)s, false),"
    " set_config('idle_in_transaction_session_timeout', %(ms)s, false),"
    " set_config('timezone', 'UTC', false)"
)
# A prepared statement keeps the plan that was right when its table was empty.
_POSTGRESQL_PLANS: Final = "SELECT set_config('plan_cache_mode', 'force_custom_plan', false)"
# Of a label that was filled a moment ago PostgreSQL knows no size, and takes it for a small one: it
# would collect all of it, and sort it, for each page.
_POSTGRESQL_PAGES: Final = "SELECT set_config('enable_bitmapscan', 'off', false)"
_MYSQL_LIMITS: Final = "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = %(s)s"
# Else it counts what is at each value of a list before it reads what is there.
_MYSQL_LOOKUPS: Final = "SET SESSION eq_range_index_dive_limit = 1"
_MARIADB_LIMITS: Final = "SET SESSION idle_transaction_timeout = %(s)s, max_statement_time = %(s)s"
# As PostgreSQL compresses by default, contents cost more than all the rest of a publish. What has
# a server without lz4 keeps its own way.
_POSTGRESQL_COMPRESSION: Final = (
    "SELECT set_config(name, 'lz4', false) FROM pg_settings"
    " WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
)
_MULTI_STATEMENTS: Final = 1 << 16  # as PyMySQL's CLIENT has it, which may not be installed
_READ_ONLY: Final = "SET SESSION TRANSACTION READ ONLY"


def postgresql_engines(
    url: URL, options: SqlOptions, source: SqlSource | None = None
) -> tuple[Engine, Engine]:
    """The engine that writes and the one that reads. `source` has what the URL does not say."""
    url = url.set(drivername="postgresql+psycopg")
    arguments: dict[str, Any] = {
        "client_encoding": "utf8",
        "connect_timeout": str(max(2, math.ceil(options.connect_timeout))),
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    arguments |= connect_arguments(source) if source else {}
    writing = _engine(url, "READ COMMITTED", 1, arguments, options)
    reading = _engine(url, "REPEATABLE READ", options.readers, arguments, options)

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(_POSTGRESQL_LIMITS, {"ms": str(math.ceil(options.deadline * 1000))})
        connection.execute(_POSTGRESQL_PLANS)
        connection.commit()

    def compress(connection: Any, _record: Any) -> None:
        connection.execute(_POSTGRESQL_COMPRESSION)
        connection.commit()

    def only_read(connection: Any, _record: Any) -> None:
        connection.execute(_POSTGRESQL_PAGES)
        connection.commit()
        connection.read_only = True

    for engine in (writing, reading):
        event.listen(engine, "connect", limit)
    event.listen(writing, "connect", compress)
    event.listen(reading, "connect", only_read)
    event.listen(reading, "before_cursor_execute", _in_binary)
    return writing, reading


def _in_binary(
    _connection: Any, cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any
) -> None:
    """Have psycopg ask for binary columns where the options say so."""
    if context is not None and context.execution_options.get("binary"):
        cursor.format = 1  # psycopg.pq.Format.BINARY


def mysql_engines(
    url: URL, options: SqlOptions, source: SqlSource | None = None
) -> tuple[Engine, Engine]:
    """The same. The server is asked which of the two it is: that decides the collations.

    Raises:
        SQLAlchemyError: it cannot be reached.
    """
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "binary_prefix": True,  # bytes are not taken for text in the connection's charset
        "sql_mode": "STRICT_ALL_TABLES",  # what does not fit is refused, never cut off
        "connect_timeout": max(1, math.ceil(options.connect_timeout)),
        "client_flag": _MULTI_STATEMENTS,  # for `sql_trip`
        "read_timeout": options.deadline,
        "write_timeout": options.deadline,
    }
    arguments |= connect_arguments(source) if source else {}
    hosts = source.hosts if source else ()
    # PyMySQL's connect_timeout ends before the handshake: a server that is frozen would be waited
    # for as long as for an answer, and the next host would never get its turn.
    answer_seconds = arguments["read_timeout"]
    arguments["read_timeout"] = min(arguments["connect_timeout"], answer_seconds)
    is_mariadb = _is_mariadb(url, arguments, hosts)
    url = url.set(drivername="mariadb+pymysql" if is_mariadb else "mysql+pymysql")
    writing = _engine(url, "READ COMMITTED", 1, arguments, options)
    reading = _engine(url, "REPEATABLE READ", options.readers, arguments, options)
    for engine in (writing, reading):
        try_hosts_in_order(engine, hosts)
    limits = [_MYSQL_LIMITS, _MARIADB_LIMITS] if is_mariadb else [_MYSQL_LIMITS]

    def limit(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for statement in limits:
                cursor.execute(statement, {"s": math.ceil(options.deadline)})
        connection._read_timeout = answer_seconds

    def look_up(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_MYSQL_LOOKUPS)

    def only_read(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_READ_ONLY)

    for engine in (writing, reading):
        event.listen(engine, "connect", limit)
    event.listen(writing, "connect", look_up)
    event.listen(reading, "connect", only_read)
    return writing, reading


def _is_mariadb(url: URL, arguments: dict[str, Any], hosts: Sequence[DatabaseHost]) -> bool:
    url = url.set(drivername="mysql+pymysql")
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    try_hosts_in_order(engine, hosts)
    with engine.connect():
        return bool(getattr(engine.dialect, "is_mariadb", False))


def _engine(
    url: URL, isolation: Any, connections: int, arguments: dict[str, Any], options: SqlOptions
) -> Engine:
    return create_engine(
        url,
        isolation_level=isolation,
        connect_args=arguments,
        pool_size=connections,
        max_overflow=0,
        pool_recycle=math.ceil(options.recycle_after),
        pool_reset_on_return=None,  # every transaction is ended where it was begun
    )
