"""Several statements in one trip to the server, past SQLAlchemy and through the driver.

Asked one by one, each statement of a batch waits for the answer to the one before: of a single
publish that was most of the time. PostgreSQL's driver has a pipeline for it; MySQL and MariaDB
take several statements in one text. SQLite is in our process, but a statement costs SQLAlchemy
more than it costs SQLite.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from gatesync.stores.sql_rows import IN_VALUES, Among, insertion, insertion_parameters

__all__ = ["Trip"]

_COM_QUERY: Final = 3
_TEXT_CHARACTERS: Final = 256 * 1024
"""Statements of MySQL's have about as much in all, however many they are; a row that is larger
goes alone. Of 64 rows of 4 kB, 64 KiB took 226 us each, 256 KiB 198, and all at once 222."""


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
        self.dialect = connection.dialect
        self._connection = connection
        self._statements: list[_Statement] = []
        self._pipeline: ExitStack | None = None  # PostgreSQL's, while answers are to come
        self._under_way: list[tuple[_Statement, Any]] = []  # with PostgreSQL's cursors

    @property
    def connection(self) -> Connection:
        """For a statement by itself: reads the answers to what was sent first."""
        self._settle()
        return self._connection

    def ask(self, query: Among, values: Collection[str], **parameters: Any) -> list[Any]:
        """Ask for the rows of these values; the list is filled by `run`."""
        found: list[Any] = []
        ordered = sorted(values)
        for start in range(0, len(ordered), IN_VALUES):
            some = ordered[start : start + IN_VALUES]
            text, given, row = query.statement(self.dialect, some, parameters)
            self._statements.append(_Statement(text, given, row=row, found=found))
        return found

    def insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows that all have the same columns."""
        if rows:
            dialect = self.dialect
            text = insertion(table, tuple(rows[0]), dialect)
            self._statements += [
                _Statement(text, given, many=dialect.name != "postgresql")
                for given in insertion_parameters(rows, dialect)
            ]

    def update(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Set other columns of these rows, which all have the same ones and a primary key."""
        for row in rows:
            text, names = _update(table, tuple(row), self.dialect.paramstyle)
            self._statements.append(_Statement(text, [row[name] for name in names]))

    def start(self) -> None:
        """Send what was given so far, and let the server work at it: SQLite has none.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        if self._statements and self.dialect.name != "sqlite":
            statements, self._statements = self._statements, []
            with self._speaking() as driver:
                if self.dialect.name == "postgresql":
                    self._pipe(driver, statements)
                else:
                    self._join(driver, statements)

    def run(self) -> None:
        """Send everything, and read every answer.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        self.start()
        self._settle()
        statements, self._statements = self._statements, []
        if statements:
            with self._speaking() as driver:
                _one_by_one(driver.cursor(), statements)

    def give_up(self) -> None:
        """Whatever was sent is not waited for: whoever used the connection would read answers."""
        if self._under_way:
            self._under_way = []
            self._end_pipeline()
            self._connection.invalidate()

    def _settle(self) -> None:
        if not self._under_way:
            return
        with self._speaking() as driver:
            if self._pipeline is None:
                self._read(driver)
                return
            self._pipeline.close()
            self._pipeline = None
            for each, cursor in self._under_way:
                if each.found is not None:
                    each.found += map(each.row, cursor.fetchall())
            self._under_way = []

    def _pipe(self, driver: Any, statements: Sequence[_Statement]) -> None:
        if self._pipeline is None:
            self._pipeline = ExitStack()
            self._pipeline.enter_context(driver.pipeline())
        for each in statements:
            self._under_way.append((each, driver.execute(each.text, each.parameters)))

    def _join(self, driver: Any, statements: Sequence[_Statement]) -> None:
        """Send some, and spell out the next while the server works: that takes us as long."""
        with driver.cursor() as cursor:
            for text, some in _fitting(_spelled_out(cursor, statements)):
                self._read(driver)
                driver._execute_command(_COM_QUERY, text)
                self._under_way = [(each, None) for each in some]

    def _read(self, driver: Any) -> None:
        """Read MySQL's answers to the text that is under way."""
        for each, _ in self._under_way:
            driver.next_result()
            if each.found is not None:
                each.found += map(each.row, driver._result.rows)
        self._under_way = []

    def _end_pipeline(self) -> None:
        if self._pipeline is not None:
            self._pipeline.__exit__(*sys.exc_info())
            self._pipeline = None

    @contextmanager
    def _speaking(self) -> Iterator[Any]:
        """The driver's errors become SQLAlchemy's; a connection that is lost is so to its pool."""
        connection, dialect = self._connection, self.dialect
        module: Any = dialect.loaded_dbapi
        driver: Any = connection.connection.driver_connection
        try:
            yield driver
        except module.Error as error:
            self._under_way = []  # after an error the server does nothing more of it
            self._end_pipeline()
            lost = dialect.is_disconnect(error, driver, None)
            if lost:
                connection.invalidate(error)
            raise DBAPIError.instance(
                None, None, error, module.Error, connection_invalidated=lost, dialect=dialect
            ) from error
        except BaseException:  # cancelled, too: answers that nobody read must not be the next one's
            self.give_up()
            raise


@cache
def _update(table: Table, names: tuple[str, ...], style: str) -> tuple[str, list[str]]:
    """The statement, and its parameters in their order."""
    mark = "?" if style == "qmark" else "%s"
    keys = [column.name for column in table.primary_key.columns]
    others = [name for name in names if name not in keys]
    setting = ", ".join(f"{name} = {mark}" for name in others)
    where = " AND ".join(f"{name} = {mark}" for name in keys)
    # Names of ours alone, no values.
    return f"UPDATE {table.name} SET {setting} WHERE {where}", [*others, *keys]  # noqa: S608 (own names)


def _one_by_one(cursor: Any, statements: Sequence[_Statement]) -> None:
    for each in statements:
        (cursor.executemany if each.many else cursor.execute)(each.text, each.parameters)
        if each.found is not None:
            each.found += map(each.row, cursor.fetchall())
    cursor.close()


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
