"""Tables of an older format are brought to this version's: what is new is added, nothing is taken.

    format 4 → 5    GS_ATTESTATION, GS_ISSUED_HEADS, and a confirmation's signature in GS_HEAD
    format 5 → 6    GS_LEASE

Each step looks at what is there, so that one that a crash ended is ended by the next run.
"""

import asyncio
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, inspect, select, text, update
from sqlalchemy.schema import CreateTable

from gatesync.stores import schema
from gatesync.stores.sql_opening import alone, create_missing, make_engines, shown
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_running import Lane
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.sql_wso2 import table_names

__all__ = ["add_missing_columns", "upgrade_tables"]

DEADLINE_SECONDS: Final = 300.0  # a server may have to write a table anew


async def upgrade_tables(url: str | SqlSource, options: SqlOptions) -> int | None:
    """Bring the tables to this version's format; answer with the one they had, if that was older.

    Publishers of the older version are to be ended first: they would sign nothing.

    Raises:
        StoreError: the database failed.
    """
    options = msgspec.structs.replace(options, deadline=max(options.deadline, DEADLINE_SECONDS))
    writing, reading = await asyncio.to_thread(make_engines, url, options)
    reading.dispose()
    where = shown(writing.url)
    lane = Lane(writing, threads=1, name="upgrade", where=where, deadline=options.deadline)
    try:
        return await lane.run(_upgrade)
    finally:
        await lane.close()


def _upgrade(connection: Connection) -> int | None:
    with alone(connection):
        if schema.stores.name.lower() not in table_names(connection):
            return None
        row = connection.execute(select(schema.stores).with_for_update()).first()
        if row is None or row.SCHEMA_FORMAT not in schema.UPGRADABLE:
            return None
        create_missing(connection)
        add_missing_columns(connection)
        now = update(schema.stores).where(schema.stores.c.ID == 1)
        connection.execute(now.values(SCHEMA_FORMAT=schema.SCHEMA_FORMAT))
        return int(row.SCHEMA_FORMAT)


def add_missing_columns(connection: Connection) -> None:
    """Add the columns that tables of an older format lack; they are empty in each row."""
    names = table_names(connection)
    for table in schema.metadata.sorted_tables:
        found = inspect(connection).get_columns(names[table.name.lower()])
        there = {str(each["name"]).lower() for each in found}
        compiler: Any = connection.dialect.ddl_compiler(connection.dialect, CreateTable(table))
        for column in table.columns:
            if column.nullable and column.name.lower() not in there:
                said = compiler.get_column_specification(column)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {said}"))
