"""The script that creates the store's tables, for whoever does not let programs do that.

It is compiled from the definitions that the store itself uses (`schema`); `dbscripts/` holds what
came of it. No server is asked.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from sqlalchemy import Dialect, Table
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SetColumnComment

from gatesync.stores import schema
from gatesync.stores.store import StoreError

__all__ = ["SCRIPTS", "creation_script"]


class _Script(msgspec.Struct, frozen=True):
    """For which database a script is. `doubts` are told in its head."""

    product: str
    driver: str
    doubts: tuple[str, ...] = ()


_UNTESTED: Final = "NOT TESTED: gatesync has never run on it, and does not open it."

SCRIPTS: Final = {
    "postgresql": _Script("PostgreSQL", "postgresql+psycopg"),
    "mysql": _Script("MySQL 8", "mysql+pymysql"),
    "mariadb": _Script("MariaDB", "mariadb+pymysql"),
    "sqlite": _Script("SQLite", "sqlite"),
    "mssql": _Script(
        "Microsoft SQL Server 2019",
        "mssql+pyodbc",
        (_UNTESTED, "It takes names that differ only in spaces at the end for one."),
    ),
    "oracle": _Script(
        "Oracle", "oracle+oracledb", (_UNTESTED, "It takes an empty text for no text at all.")
    ),
}


def creation_script(dialect: str) -> str:
    """The script for one of `SCRIPTS`.

    Raises:
        StoreError: there is none for this database.
    """
    script = SCRIPTS.get(dialect.lower())
    if script is None:
        raise StoreError(f"there is no script for {dialect!r}; there are {', '.join(SCRIPTS)}")
    head = [
        f"gatesync's tables, format {schema.SCHEMA_FORMAT}, for {script.product}",
        f"made by: gatesync db script --dialect {dialect.lower()}",
        *script.doubts,
    ]
    statements = _statements(script.driver)
    return "".join(f"-- {line}\n" for line in head) + "".join(f"\n{each};\n" for each in statements)


def _statements(driver: str) -> list[str]:
    # Else SQL Server's types would be IMAGE and TEXT, which it has given up.
    options = {"deprecate_large_types": True} if driver.startswith("mssql") else {}
    dialect = URL.create(driver).get_dialect()(**options)
    statements = [each for table in schema.metadata.sorted_tables for each in _of(table, dialect)]
    return [_tidy(str(each.compile(dialect=dialect))) for each in statements]


def _of(table: Table, dialect: Dialect) -> Iterator[ExecutableDDLElement]:
    yield CreateTable(table)
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        yield CreateIndex(index)
    if dialect.name in {"postgresql", "oracle"}:  # MySQL's stand within; SQL Server has a procedure
        yield from (SetColumnComment(column) for column in table.columns if column.comment)


def _tidy(statement: str) -> str:
    lines = statement.replace("\t", "    ").splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())
