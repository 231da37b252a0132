"""From a URL to a database that is ready: engines, tables, and the history's epoch."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, func, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gatesync.stores import schema
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_servers import mysql_engines, postgresql_engines
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.sql_sqlite import sqlite_engines, sqlite_reading_engine
from gatesync.stores.sql_url import sql_url
from gatesync.stores.store import StoreError

__all__ = ["make_engines", "make_reading_engine", "prepare", "read_epoch", "shown"]

_FORMS: Final = "sqlite:///PATH, postgresql://USER:PASSWORD@HOST/DATABASE or mysql://USER:PASSWORD@HOST/DATABASE"
TAKING_OVER: Final = 0
"""The format of a store that `sql_takeover` has begun and not ended."""

_LOCK_NUMBER: Final = 0x67617465_73796E63  # "gatesync", for PostgreSQL's advisory locks
_LOCK_SECONDS: Final = 20
_MAKERS: Final = {
    "sqlite": sqlite_engines,
    "postgresql": postgresql_engines,
    "mysql": mysql_engines,
    "mariadb": mysql_engines,
}


def make_engines(url: str | URL | SqlSource, options: SqlOptions) -> tuple[Engine, Engine]:
    """The engine that writes and the one that reads. A driver that a URL names is not heeded.

    Raises:
        StoreError: the URL cannot be used, its driver is not installed, or there is no answer.
    """
    source = url if isinstance(url, SqlSource) else None
    parsed = _parsed(url)
    where = shown(parsed)
    backend = parsed.get_backend_name()
    if backend not in _MAKERS:
        raise StoreError(f"database {where}: {backend} is not supported; write {_FORMS}")
    try:
        return _MAKERS[backend](parsed, options, source)
    except ModuleNotFoundError as error:
        extra = "postgresql" if backend == "postgresql" else "mysql"
        raise StoreError(
            f"database {where}: the driver {error.name} is missing; "
            f"install it with: pip install 'gatesync[{extra}]'"
        ) from error
    except (SQLAlchemyError, TypeError) as error:
        raise StoreError(f"database {where}: {getattr(error, 'orig', None) or error}") from error


def make_reading_engine(url: str | URL | SqlSource, options: SqlOptions) -> Engine:
    """The engine of who only reads: no file is created, and no session of it can write.

    Raises:
        StoreError: as `make_engines`.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_reading_engine(parsed, options)
    if isinstance(url, SqlSource) and url.libpq.get("target_session_attrs") == "read-write":
        # Of several hosts still the primary, to a user, too, who may only read.
        url = replace(url, libpq={**url.libpq, "target_session_attrs": "primary"})
    _, reading = make_engines(url, options)  # what writes connects when it is used, which is never
    return reading


def shown(url: URL) -> str:
    """The URL for people: no password, and no options, which may hold another."""
    return url.set(query={}).render_as_string(hide_password=True)


def prepare(connection: Connection, where: str) -> str:
    """Create what is missing; answer with the epoch. Processes that do so at once take turns.

    Raises:
        StoreError: the tables were made by another version, or by WSO2.
    """
    epoch = read_epoch(connection, where)
    if epoch is not None:
        return epoch
    with alone(connection):
        epoch = read_epoch(connection, where)
        if epoch is None:
            epoch = _create(connection, where)
    return epoch


def read_epoch(connection: Connection, where: str, *, made: bool = False) -> str | None:
    """The epoch of a database that is whole; None for one that is not yet.

    Args:
        connection: to the database.
        where: what it is called in errors.
        made: its tables were there a moment ago: it is not asked for them first.

    Raises:
        StoreError: the tables were made by another version.
    """
    if not made and not inspect(connection).has_table(_as_listed(connection, schema.stores.name)):
        return None
    row = connection.execute(select(schema.stores)).first()
    if row is None:
        return None
    if row.SCHEMA_FORMAT == TAKING_OVER:
        raise StoreError(
            f"database {where} is being taken over from WSO2; end that with: gatesync db upgrade"
        )
    if row.SCHEMA_FORMAT in schema.UPGRADABLE:
        raise StoreError(
            f"database {where} has tables of format {row.SCHEMA_FORMAT}; this version reads "
            f"format {schema.SCHEMA_FORMAT}: end all publishers, then run: gatesync db upgrade"
        )
    if row.SCHEMA_FORMAT != schema.SCHEMA_FORMAT:
        raise StoreError(
            f"database {where} has tables of format {row.SCHEMA_FORMAT}; this version reads "
            f"format {schema.SCHEMA_FORMAT}: use the version of gatesync that wrote it"
        )
    return str(row.EPOCH)


def _parsed(url: str | URL | SqlSource) -> URL:
    try:
        return sql_url(url) if isinstance(url, SqlSource) else make_url(url)
    except ArgumentError:
        raise StoreError(f"the database URL cannot be read; write {_FORMS}") from None


def _create(connection: Connection, where: str) -> str:
    there = {name.lower() for name in inspect(connection).get_table_names()}
    if schema.artifacts.name.lower() in there:
        name = _as_listed(connection, schema.artifacts.name)
        columns = {each["name"].upper() for each in inspect(connection).get_columns(name)}
        if schema.artifacts.c.DIGEST.name not in columns:
            raise StoreError(
                f"database {where} has tables that WSO2's script made; "
                "take them over with: gatesync db upgrade"
            )
    create_missing(connection)
    epoch = str(uuid.uuid4())
    connection.execute(
        insert(schema.stores).values(ID=1, EPOCH=epoch, SCHEMA_FORMAT=schema.SCHEMA_FORMAT)
    )
    return epoch


def create_missing(connection: Connection) -> None:
    """Create the tables and indexes that are not there.

    MySQL commits each statement, so that whoever ended early may have left a table without.
    """
    there = {name.lower() for name in inspect(connection).get_table_names()}
    for table in schema.metadata.sorted_tables:
        if table.name.lower() not in there:
            table.create(connection, checkfirst=False)
            continue
        indexes = inspect(connection).get_indexes(_as_listed(connection, table.name))
        known = {str(each["name"]).lower() for each in indexes}
        for index in table.indexes:
            if str(index.name).lower() not in known:
                index.create(connection)


def _as_listed(connection: Connection, name: str) -> str:
    """A table's name as the database lists it: PostgreSQL folds what is not quoted."""
    return name.lower() if connection.dialect.name == "postgresql" else name


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Nobody else creates tables in this database meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        yield
    elif connection.dialect.name in {"mysql", "mariadb"}:
        name = func.concat("gatesync ", func.sha1(func.database()))
        if connection.scalar(select(func.get_lock(name, _LOCK_SECONDS))) != 1:
            raise StoreError("another process has been creating tables for too long; try again")
        try:
            yield
        finally:
            connection.execute(select(func.release_lock(name)))
    else:
        yield  # SQLite has one writer anyway
