"""Comparing a real database with the store's definitions, and saying what mends it.

Only what is there is read: nothing is created, and no row is looked at but the store's own.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Connection, Dialect, Table, inspect, select, text
from sqlalchemy.schema import CreateIndex, CreateTable

from gatesync.stores import schema
from gatesync.stores.sql_check_server import Finding, server_findings
from gatesync.stores.sql_opening import TAKING_OVER
from gatesync.stores.sql_wso2 import has_wso2_tables, table_names

__all__ = ["Checked", "Finding", "check_database"]

_COLUMNS: Final = text(
    "SELECT lower(table_name) AS its_table, lower(column_name) AS name, lower(data_type) AS type,"
    " character_maximum_length AS length, collation_name AS collation, is_nullable AS nullable"
    " FROM information_schema.columns WHERE table_schema = :place"
)
# What may stand where the first is expected: the same by another name, or something larger.
_SERVES: Final = {
    "varchar": {"varchar", "character varying"},
    "mediumblob": {"mediumblob", "longblob"},
    "longtext": {"longtext"},
    "integer": {"int", "integer", "bigint"},
    "bigint": {"bigint"},
    "timestamp": {"timestamp", "datetime", "timestamp without time zone"},
    "datetime": {"timestamp", "datetime"},
}
_SQLITE_COLLATION: Final = re.compile(
    r"^\s*[\"`\[]?(\w+).*\bCOLLATE\s+(NOCASE|RTRIM)\b", re.I | re.M
)


class Checked(msgspec.Struct, frozen=True):
    """What is missing or wrong, and the statements that mend it, in order.

    `upgrade`: the tables are WSO2's; `gatesync db upgrade` makes new ones, so that the statements
    matter only while WSO2 still writes to them.
    """

    findings: tuple[Finding, ...]
    statements: tuple[str, ...] = ()
    upgrade: bool = False


class _Actual(msgspec.Struct, frozen=True):
    """A column as it is. The collation is None for what is no text, and where it is the default."""

    type: str
    length: int | None
    collation: str | None
    nullable: bool


class _Wanted(msgspec.Struct, frozen=True):
    """A column as it should be; `ddl` says so in the database's own words."""

    type: str
    length: int | None
    collation: str | None
    nullable: bool
    ddl: str


def check_database(connection: Connection) -> Checked:
    """Say everything that is wrong with a database, down to its server's settings."""
    there = table_names(connection)
    findings = list(server_findings(connection))
    first = [each.mend for each in findings if each.mend]
    if has_wso2_tables(connection):
        made = Finding(schema.artifacts.name, "was made by WSO2's script; run: gatesync db upgrade")
        tables = [
            table for table in (schema.details, schema.artifacts) if table.name.lower() in there
        ]
        rest, statements = _compare(connection, tables, wso2s=True)
        return Checked((made, *findings, *rest), (*first, *statements), upgrade=True)
    if outdated := list(_outdated(connection, there)):
        return Checked((*outdated, *findings), tuple(first))
    known = [table for table in schema.metadata.sorted_tables if table.name.lower() in there]
    missing = [table for table in schema.metadata.sorted_tables if table.name.lower() not in there]
    findings += [Finding(each.name, "is missing; run: gatesync db create") for each in missing]
    findings += _format_findings(connection) if schema.stores in known else []
    rest, statements = _compare(connection, known)
    return Checked((*findings, *rest), (*first, *statements))


def _outdated(connection: Connection, there: Mapping[str, str]) -> Iterator[Finding]:
    """Tables of an older format: what else they lack is a matter of that."""
    if schema.stores.name.lower() in there:
        row = connection.execute(select(schema.stores)).first()
        if row is not None and row.SCHEMA_FORMAT in schema.UPGRADABLE:
            said = f"is {row.SCHEMA_FORMAT}, and this version of gatesync reads"
            how = f"{schema.SCHEMA_FORMAT}; end all publishers, then run: gatesync db upgrade"
            yield Finding(schema.stores.c.SCHEMA_FORMAT.name, f"{said} {how}")


def _format_findings(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(select(schema.stores)).first()
    where = schema.stores.c.SCHEMA_FORMAT.name
    if row is None:
        yield Finding(schema.stores.name, "has no row yet; a publisher writes it when it starts")
    elif row.SCHEMA_FORMAT == TAKING_OVER:
        yield Finding(where, "the database is being taken over; end that with: gatesync db upgrade")
    elif row.SCHEMA_FORMAT != schema.SCHEMA_FORMAT:
        said = f"is {row.SCHEMA_FORMAT}, and this version of gatesync reads {schema.SCHEMA_FORMAT}"
        yield Finding(where, f"{said}; use the version that wrote it")


def _compare(
    connection: Connection, tables: list[Table], *, wso2s: bool = False
) -> tuple[list[Finding], list[str]]:
    """Compare each table; of WSO2's, only what does harm as long as WSO2 uses them."""
    findings: list[Finding] = []
    statements: list[str] = []
    actual = _actual(connection)
    for table in tables:
        faults = list(_column_faults(connection.dialect, table, actual, wso2s=wso2s))
        if not wso2s:
            keys = _key_clauses(connection, table)
            faults += [(Finding(table.name, fault), [clause]) for fault, clause in keys]
        findings += [finding for finding, _ in faults]
        # One statement a table, since each may write the whole table anew.
        clauses = dict.fromkeys(clause for _, clauses in faults for clause in clauses)
        if clauses and connection.dialect.name != "sqlite":
            statements.append(f"ALTER TABLE {table.name} " + ", ".join(clauses))
        for index in () if wso2s else _missing_indexes(connection, table):
            findings.append(Finding(table.name, f"has no index {index.name}"))
            statements.append(str(CreateIndex(index).compile(dialect=connection.dialect)).strip())
    if any("MODIFY API_ID" in each for each in statements):
        before, after = _foreign_key_statements(connection)
        statements = [*before, *statements, *after]
    return findings, statements


def _foreign_key_statements(connection: Connection) -> tuple[list[str], list[str]]:
    """Take the foreign keys away, and bring them back: MySQL changes no column of one."""
    drop, add = [], []
    name = schema.artifacts.name
    for each in inspect(connection).get_foreign_keys(table_names(connection)[name.lower()]):
        drop.append(f"ALTER TABLE {name} DROP FOREIGN KEY {each['name']}")
        columns, others = (
            ", ".join(each["constrained_columns"]),
            ", ".join(each["referred_columns"]),
        )
        said = f"({columns}) REFERENCES {each['referred_table']} ({others})"
        rules = "".join(f" {rule} {how}" for rule, how in _rules(each["options"]))
        add.append(f"ALTER TABLE {name} ADD FOREIGN KEY {said}{rules}")
    return drop, add


def _rules(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, rule in (("onupdate", "ON UPDATE"), ("ondelete", "ON DELETE")):
        if options.get(key):
            yield rule, options[key]


def _column_faults(
    dialect: Dialect, table: Table, actual: dict[tuple[str, str], _Actual], *, wso2s: bool
) -> Iterator[tuple[Finding, list[str]]]:
    """What is wrong with a table's columns, each with what of an ALTER TABLE mends it."""
    for column in table.columns:
        where = f"{table.name}.{column.name}"
        found = actual.get((table.name.lower(), column.name.lower()))
        wanted = _wanted(column, dialect, nullable=wso2s and found is not None and found.nullable)
        if found is not None:
            for fault in _faults(found, wanted, orders=not wso2s):
                yield Finding(where, fault), list(_clauses(column.name, found, wanted, dialect))
        elif not wso2s:
            yield Finding(where, "is missing"), [f"ADD COLUMN {wanted.ddl}"]


def _faults(found: _Actual, wanted: _Wanted, *, orders: bool) -> Iterator[str]:
    """What is wrong with a column; `orders`: rows are to come in byte order."""
    if found.type not in _SERVES.get(wanted.type, {wanted.type}):
        small = found.type in {"blob", "tinyblob", "text", "tinytext"}
        size = ", which holds 64 KiB at most and cuts off" if small else ""
        yield f"is {found.type}{size}; {wanted.type} is needed"
    elif wanted.length and found.length and found.length < wanted.length:
        yield f"holds {found.length} characters; {wanted.length} are needed"
    if wanted.collation != found.collation and (found.collation or orders):
        needed = wanted.collation or "BINARY"  # as SQLite calls what it does by itself
        yield f"{_about(found.collation)}; {needed} is needed"
    if found.nullable and not wanted.nullable:
        yield "may be NULL; it must not"


def _about(collation: str | None) -> str:
    """What is wrong with a collation, for names."""
    if collation is None:
        return "has the database's own collation, by whose order pages of a manifest cannot be cut"
    low = collation.lower()
    reasons = []
    if not low.startswith(("utf8mb4", "ascii", "c", "posix", "ucs_basic", "nocase", "rtrim")):
        reasons.append("not every letter")
    if low.endswith("_ci") or low == "nocase":
        reasons.append("case and accents do not count")
    elif low.endswith("_bin") or low == "rtrim":
        reasons.append("spaces at the end do not count")
    said = ", ".join(reasons)
    return f"has collation {collation}" + (f" ({said})" if said else "")


def _clauses(name: str, found: _Actual, wanted: _Wanted, dialect: Dialect) -> Iterator[str]:
    """What of an ALTER TABLE mends the column."""
    if dialect.name != "postgresql":
        yield f"MODIFY {wanted.ddl}"
        return
    kind = wanted.ddl.removeprefix(name).removesuffix(" NOT NULL").partition(" DEFAULT ")[0].strip()
    yield f"ALTER COLUMN {name} TYPE {kind}"
    if found.nullable and not wanted.nullable:
        yield f"ALTER COLUMN {name} SET NOT NULL"


def _key_clauses(connection: Connection, table: Table) -> Iterator[tuple[str, str]]:
    wanted = [column.name.upper() for column in table.primary_key.columns]
    found = inspect(connection).get_pk_constraint(table_names(connection)[table.name.lower()])
    columns = [each.upper() for each in found["constrained_columns"]]
    if columns == wanted:
        return
    key = ", ".join(wanted)
    if not columns:
        yield f"has no primary key; ({key}) is needed", f"ADD PRIMARY KEY ({key})"
        return
    is_postgresql = connection.dialect.name == "postgresql"
    drop = f"DROP CONSTRAINT {found['name']}" if is_postgresql else "DROP PRIMARY KEY"
    fault = f"has the primary key ({', '.join(columns)}); ({key}) is needed"
    yield fault, f"{drop}, ADD PRIMARY KEY ({key})"


def _missing_indexes(connection: Connection, table: Table) -> list[Any]:
    name = table_names(connection)[table.name.lower()]
    found = [
        ([str(column).upper() for column in each["column_names"]], bool(each["unique"]))
        for each in inspect(connection).get_indexes(name)
    ]
    ordered = sorted(table.indexes, key=lambda index: str(index.name))
    return [
        index
        for index in ordered
        if ([c.name.upper() for c in index.columns], bool(index.unique)) not in found
    ]


def _wanted(column: Column[Any], dialect: Dialect, *, nullable: bool) -> _Wanted:
    """What a column is to be; `nullable`: it may stay so."""
    kind = column.type.compile(dialect=dialect)
    name = re.match(r"\w+", kind)
    length = re.search(r"\((\d+)\)", kind)
    collation = re.search(r'COLLATE "?(\w+)', kind)
    compiler: Any = dialect.ddl_compiler(dialect, CreateTable(column.table))
    ddl = compiler.get_column_specification(column)
    return _Wanted(
        type=name[0].lower() if name else "",
        length=int(length[1]) if length else None,
        collation=collation[1] if collation else None,
        nullable=nullable or bool(column.nullable),
        ddl=ddl.removesuffix(" NOT NULL") if nullable else ddl,
    )


def _actual(connection: Connection) -> dict[tuple[str, str], _Actual]:
    """Every column that is there, by its table's name and its own in lower case."""
    if connection.dialect.name == "sqlite":
        return _actual_sqlite(connection)
    is_postgresql = connection.dialect.name == "postgresql"
    place = connection.scalar(
        text(f"SELECT {'current_schema()' if is_postgresql else 'DATABASE()'}")
    )
    return {
        (row.its_table, row.name): _Actual(
            row.type, row.length, row.collation, row.nullable == "YES"
        )
        for row in connection.execute(_COLUMNS, {"place": place})
    }


def _actual_sqlite(connection: Connection) -> dict[tuple[str, str], _Actual]:
    """SQLite heeds no lengths, and says a collation in the table's script only."""
    found: dict[tuple[str, str], _Actual] = {}
    for row in connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
    ):
        collations = {c.lower(): how for c, how in _SQLITE_COLLATION.findall(row.sql)}
        columns = connection.exec_driver_sql(f'PRAGMA table_info("{row.name}")')
        for each in columns:
            name = each.name.lower()
            kind = each.type.partition("(")[0].lower()
            actual = _Actual(kind, None, collations.get(name), not each.notnull)
            found[row.name.lower(), name] = actual
    return found
