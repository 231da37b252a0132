"""Many rows at once, by the quickest way that each database has.

PostgreSQL takes arrays: one a column to insert, one to ask for many values, so that a statement
has the same text however many there are. The others take a list of rows, and IN lists.
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
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

__all__ = [
    "IN_VALUES",
    "Among",
    "insert_rows",
    "insertion",
    "insertion_parameters",
    "pack_keys",
    "unpack_keys",
]

IN_VALUES: Final = 500  # values in one IN list: some drivers stop at 999 parameters

_ARRAY_BYTES: Final = 64 * 1024 * 1024  # of one statement: PostgreSQL stops at 1 GiB
_KEY_BYTES: Final = 32


class Among:
    """A query for the rows whose column is among some values. Built once, asked often.

    PostgreSQL is made to look up one value after the other. Before it has statistics of a young
    table it expects little of each label, and would rather read all of a label every time.
    """

    def __init__(
        self, query: Select[Any], column: ColumnElement[str], *, locking: bool = False
    ) -> None:
        self._is_locking = locking  # rows in a certain order: one value after the other has none
        self._list = query.where(column.in_(bindparam("values", expanding=True)))
        wanted = (
            func.unnest(bindparam("values", type_=ARRAY(String)))
            .table_valued("value")
            .render_derived()
        )
        # OFFSET keeps the planner from turning the loop into one scan of all.
        one = query.where(column == wanted.c.value).offset(literal_column("0")).lateral()
        self._array = select(one).select_from(wanted.join(one, true()))

        self._texts: dict[tuple[str, int], tuple[str, list[str] | None]] = {}
        self._make = _row_maker([column.name for column in query.selected_columns])

    def statement(
        self, dialect: Dialect, values: Sequence[str], parameters: Mapping[str, Any]
    ) -> tuple[str, Any, Callable[[Iterable[Any]], Any]]:
        """The query in the driver's own words, its parameters, and what makes a row of a tuple.

        For some values, that is no more than `IN_VALUES`.
        """
        if dialect.name == "postgresql" and not self._is_locking:
            given = {**parameters, "values": list(values)}
            return self._text(dialect, self._array, 0, given)[0], given, self._make
        # Filled up, so that few texts are made. What is asked for twice is found once.
        count = 1 << (len(values) - 1).bit_length()
        padded = [*values, *([values[-1]] * (count - len(values)))]
        text, names = self._text(dialect, self._list, count, {**parameters, "values": padded})
        given = {f"values_{number}": value for number, value in enumerate(padded, 1)}
        given.update(parameters)
        return text, given if names is None else [given[name] for name in names], self._make

    def _text(
        self, dialect: Dialect, query: Select[Any], count: int, given: Mapping[str, Any]
    ) -> tuple[str, list[str] | None]:
        """And the names of the parameters in their order, where it is by their order."""
        key = dialect.name, count
        if key not in self._texts:
            compiled: Any = query.params(given).compile(
                dialect=dialect, compile_kwargs={"render_postcompile": True}
            )
            self._texts[key] = str(compiled), compiled.positiontup
        return self._texts[key]

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


def _row_maker(names: Sequence[str]) -> Callable[[Iterable[Any]], Any]:
    """What makes of a tuple an object with these attributes, as SQLAlchemy's rows have them."""
    make: Any = namedtuple
    maker: Callable[[Iterable[Any]], Any] = make("Row", names)._make
    return maker


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
    if rows:
        statement = insertion(table, tuple(rows[0]), connection.dialect)
        for parameters in insertion_parameters(rows, connection.dialect):
            connection.exec_driver_sql(statement, parameters)


def insertion(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    """The driver's own statement: SQLAlchemy prepares a row longer than SQLite writes it."""
    if dialect.name == "postgresql":
        return _insert_arrays(table, names)
    return _insert_values(table, names, dialect.paramstyle)


def insertion_parameters(rows: Sequence[dict[str, Any]], dialect: Dialect) -> Iterator[Any]:
    """What goes with `insertion`, for each time that it is to be executed.

    PostgreSQL gets an array a column, the others the rows.
    """
    if dialect.name != "postgresql":
        yield list(map(itemgetter(*rows[0]), rows))
        return
    for some in _slices(rows):
        yield {name: [row[name] for row in some] for name in some[0]}


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
