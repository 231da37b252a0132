"""Several statements in one trip to the server, past SQLAlchemy and through the driver.

Asked one by one, each statement of a batch waits for the answer to the one before: of a single
publish that was most of the time. PostgreSQL's driver has a pipeline for it; MySQL and MariaDB
take several statements in one text. SQLite is in our process, but a statement costs SQLAlchemy
more than it costs SQLite.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from gatesync.stores.sql_rows import IN_VALUES, Among, insertion, insertion_parameters

__all__ = ["Trip"]

_COM_QUERY: Final = 3
_TEXT_CHARACTERS: Final = 64 * 1024
"""Statements of MySQL's have about as much in all, however many they are. A row that is larger
goes alone."""


class _Statement(msgspec.Struct):
    """`many`: the parameters are a list of rows. `found` is where rows go, made by `row`."""

    text: str
    parameters: Any
    many: bool = False
    row: Any = None
    found: list[Any] | None = None


class Trip:
    """Statements that are sent together, in the order in which they were given.

    What queries answer is in their lists after `run`. After an error nothing further is done,
    and the transaction is to be given up.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._statements: list[_Statement] = []

    def ask(self, query: Among, values: Collection[str], **parameters: Any) -> list[Any]:
        """Ask for the rows of these values; the list is filled by `run`."""
        found: list[Any] = []
        ordered = sorted(values)
        for start in range(0, len(ordered), IN_VALUES):
            some = ordered[start : start + IN_VALUES]
            text, given, row = query.statement(self.connection.dialect, some, parameters)
            self._statements.append(_Statement(text, given, row=row, found=found))
        return found

    def insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that all have the same columns."""
        if rows:
            dialect = self.connection.dialect
            text = insertion(table, tuple(rows[0]), dialect)
            self._statements += [
                _Statement(text, given, many=dialect.name != "postgresql")
                for given in insertion_parameters(rows, dialect)
            ]

    def update(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Set other columns of these rows, which all have the same ones and a primary key."""
        for row in rows:
            text, names = _update(table, tuple(row), self.connection.dialect.paramstyle)
            self._statements.append(_Statement(text, [row[name] for name in names]))

    def run(self) -> None:
        """Send everything, and read every answer.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        statements, self._statements = self._statements, []
        if not statements:
            return
        driver: Any = self.connection.connection.driver_connection
        with _as_sqlalchemy_says_it(self.connection):
            match self.connection.dialect.name:
                case "postgresql":
                    _pipelined(driver, statements)
                case "sqlite":
                    _one_by_one(driver.cursor(), statements)
                case _:
                    _joined(driver, statements)


@cache
def _update(table: Table, names: tuple[str, ...], style: str) -> tuple[str, list[str]]:
    """The statement, and its parameters in their order."""
    mark = "?" if style == "qmark" else "%s"
    keys = [column.name for column in table.primary_key.columns]
    others = [name for name in names if name not in keys]
    setting = ", ".join(f"{name} = {mark}" for name in others)
    where = " AND ".join(f"{name} = {mark}" for name in keys)
    # Names of ours alone, no values.
    return f"UPDATE {table.name} SET {setting} WHERE {where}", [*others, *keys]  # noqa: S608


def _pipelined(driver: Any, statements: Sequence[_Statement]) -> None:
    with driver.pipeline():
        cursors = [driver.execute(each.text, each.parameters) for each in statements]
    for each, cursor in zip(statements, cursors, strict=True):
        if each.found is not None:
            each.found += map(each.row, cursor.fetchall())


def _one_by_one(cursor: Any, statements: Sequence[_Statement]) -> None:
    for each in statements:
        (cursor.executemany if each.many else cursor.execute)(each.text, each.parameters)
        if each.found is not None:
            each.found += map(each.row, cursor.fetchall())
    cursor.close()


def _joined(driver: Any, statements: Sequence[_Statement]) -> None:
    """Send some, and spell out the next while the server works: that takes us as long as it."""
    under_way: list[_Statement] = []
    with driver.cursor() as cursor:
        for text, some in _fitting(_spelled_out(cursor, statements)):
            _read(driver, under_way)
            driver._execute_command(_COM_QUERY, text)
            under_way = some
        _read(driver, under_way)


def _read(driver: Any, statements: Sequence[_Statement]) -> None:
    """Read an answer to each."""
    for each in statements:
        driver.next_result()
        if each.found is not None:
            each.found += map(each.row, driver._result.rows)


def _spelled_out(cursor: Any, statements: Sequence[_Statement]) -> Iterator[tuple[str, _Statement]]:
    """Each statement with its values in it, many rows as one where that is not too long."""
    for each in statements:
        if not each.many:
            yield cursor.mogrify(each.text, each.parameters), each
            continue
        start, marks = each.text.split(" VALUES ")
        rows: list[str] = []
        length = 0
        for values in each.parameters:
            row = cursor.mogrify(marks, values)
            if rows and length + len(row) > _TEXT_CHARACTERS:
                yield f"{start} VALUES {','.join(rows)}", each
                rows, length = [], 0
            rows.append(row)
            length += len(row)
        yield f"{start} VALUES {','.join(rows)}", each


def _fitting(
    texts: Iterator[tuple[str, _Statement]],
) -> Iterator[tuple[str, list[_Statement]]]:
    """Join them while they are short."""
    some: list[str] = []
    statements: list[_Statement] = []
    length = 0
    for text, each in texts:
        if some and length + len(text) > _TEXT_CHARACTERS:
            yield ";".join(some), statements
            some, statements, length = [], [], 0
        some.append(text)
        statements.append(each)
        length += len(text)
    yield ";".join(some), statements


@contextmanager
def _as_sqlalchemy_says_it(connection: Connection) -> Iterator[None]:
    """The driver's errors become SQLAlchemy's; a connection that is lost is so to its pool."""
    dialect = connection.dialect
    driver: Any = dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        speaker: Any = connection.connection.driver_connection
        lost = dialect.is_disconnect(error, speaker, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, driver.Error, connection_invalidated=lost, dialect=dialect
        ) from error
