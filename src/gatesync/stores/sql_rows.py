"""Many rows at once, by the quickest way that each database has.

PostgreSQL takes arrays: one a column to insert, one to ask for many values, so that a statement
has the same text however many there are. The others take a list of rows, and IN lists.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

__all__ = ["IN_VALUES", "Among", "insert_rows", "pack_keys", "unpack_keys"]

IN_VALUES: Final = 500  # values in one IN list: some drivers stop at 999 parameters

_ARRAY_BYTES: Final = 64 * 1024 * 1024  # of one statement: PostgreSQL stops at 1 GiB
_KEY_BYTES: Final = 32


class Among:
    """A query for the rows whose column is among some values. Built once, asked often.

    PostgreSQL is made to look up one value after the other. Before it has statistics of a young
    table it expects little of each label, and would rather read all of a label every time.
    """

    def __init__(self, query: Select[Any], column: ColumnElement[str]) -> None:
        self._list = query.where(column.in_(bindparam("values", expanding=True)))
        wanted = (
            func.unnest(bindparam("values", type_=ARRAY(String)))
            .table_valued("value")
            .render_derived()
        )
        # OFFSET keeps the planner from turning the loop into one scan of all.
        one = query.where(column == wanted.c.value).offset(literal_column("0")).lateral()
        self._array = select(one).select_from(wanted.join(one, true()))

    def rows(
        self, connection: Connection, values: Collection[str], **parameters: Any
    ) -> Iterator[Row[Any]]:
        """Ask, in slices. `parameters` are the query's own."""
        ordered = sorted(values)
        for start in range(0, len(ordered), IN_VALUES):
            some = ordered[start : start + IN_VALUES]
            is_postgresql = connection.dialect.name == "postgresql"
            query = self._array if is_postgresql else self._list
            yield from connection.execute(query, {**parameters, "values": some})


def pack_keys(keys: Collection[str]) -> bytes:
    """Claim keys, which are SHA-256 in hex, as one value of a row."""
    return bytes.fromhex("".join(sorted(keys)))


def unpack_keys(packed: bytes) -> frozenset[str]:
    """The claim keys in a value that `pack_keys` made."""
    text = packed.hex()
    return frozenset(
        text[start : start + 2 * _KEY_BYTES] for start in range(0, len(text), 2 * _KEY_BYTES)
    )


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        # The driver's own way: SQLAlchemy takes longer to prepare a row than SQLite to write it.
        names = tuple(rows[0])
        values = list(map(itemgetter(*names), rows))
        statement = _insert_values(table, names, connection.dialect.paramstyle)
        connection.exec_driver_sql(statement, values)
        return
    statement = _insert_arrays(table, tuple(rows[0]))
    for some in _slices(rows):
        arrays = {name: [row[name] for row in some] for name in some[0]}
        connection.exec_driver_sql(statement, arrays)


@cache
def _insert_values(table: Table, names: tuple[str, ...], style: str) -> str:
    marks = ", ".join(["?" if style == "qmark" else "%s"] * len(names))
    # Names of ours alone, no values.
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608


@cache
def _insert_arrays(table: Table, names: tuple[str, ...]) -> str:
    # Binary (b): as text, an array of contents costs three times as much.
    arrays = ", ".join(f"%({name})b::{_array_type(table, name)}" for name in names)
    columns = ", ".join(names)
    # Names of ours alone, no values.
    return f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({arrays})"  # noqa: S608


def _array_type(table: Table, name: str) -> str:
    kind = table.c[name].type
    if isinstance(kind, LargeBinary):
        return "bytea[]"
    return "bigint[]" if isinstance(kind, BigInteger | Integer) else "text[]"


def _slices(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """In the order given, so that no slice has too many bytes for one statement."""
    slices: list[list[dict[str, Any]]] = [[]]
    size = 0
    for row in rows:
        size += len(row.get("ARTIFACT", b""))
        if slices[-1] and size > _ARRAY_BYTES:
            slices.append([])
            size = len(row["ARTIFACT"])
        slices[-1].append(row)
    return slices
