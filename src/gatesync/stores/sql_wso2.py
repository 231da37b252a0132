"""The two tables that WSO2 3.2's script made: how they are recognised, put aside, and read.

They are renamed, not altered: their rows stay as they are, for good, in `GS_WSO2_API_ARTIFACTS`
and `GS_WSO2_API_DETAILS`, and the store gets tables of its own under the names that they had.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    inspect,
    select,
)
from sqlalchemy.types import NullType, TypeEngine

from gatesync.stores import schema
from gatesync.stores.store import StoreError

__all__ = [
    "KEPT_NAMES",
    "Wso2Row",
    "has_wso2_tables",
    "list_rows",
    "put_aside",
    "read_document",
    "table_names",
]

KEPT_NAMES: Final = {
    schema.artifacts.name: "GS_WSO2_API_ARTIFACTS",
    schema.details.name: "GS_WSO2_API_DETAILS",
}
"""By the names that WSO2 gave them."""

_NEEDED: Final = {"API_ID", "ARTIFACT", "GATEWAY_INSTRUCTION", "GATEWAY_LABEL"}
_TIMES: Final = ("TIME_STAMP", "TIMESTAMP")  # the second is WSO2's name for it on SQL Server


class Wso2Row(msgspec.Struct, frozen=True):
    """A row without its bytes.

    `changed_at` is in milliseconds since 1970, 0 where it is not known; `size` is the bytes'
    number. `tenant`, `name` and `version` are None where WSO2's other table does not know the API.
    """

    label: str
    api_id: str
    instruction: str
    changed_at: int
    size: int
    tenant: str | None = None
    name: str | None = None
    version: str | None = None

    @property
    def order(self) -> tuple[int, bytes, bytes]:
        """What rows are sorted by: those of one moment always come the same way."""
        return self.changed_at, self.label.encode(), self.api_id.encode()


def has_wso2_tables(connection: Connection) -> bool:
    """Whether WSO2's script made what is there.

    Raises:
        StoreError: it is the script of another version of WSO2's.
    """
    columns = _columns(connection, schema.artifacts.name)
    if not columns or schema.artifacts.c.DIGEST.name in columns:
        return False
    if missing := _NEEDED - columns:
        lacking = ", ".join(sorted(missing))
        raise StoreError(f"table {schema.artifacts.name} is not WSO2 3.2's: it has no {lacking}")
    return True


def put_aside(connection: Connection) -> None:
    """Rename the tables; together, or not at all."""
    there = table_names(connection)
    if taken := [kept for kept in KEPT_NAMES.values() if kept.lower() in there]:
        raise StoreError(
            f"table {taken[0]} is from another takeover; rename or drop it, then try again"
        )
    renamed = {old: kept for old, kept in KEPT_NAMES.items() if old.lower() in there}
    if connection.dialect.name in {"mysql", "mariadb"}:  # where each statement commits by itself
        pairs = ", ".join(f"{old} TO {kept}" for old, kept in renamed.items())
        connection.exec_driver_sql(f"RENAME TABLE {pairs}")
        return
    for old, kept in renamed.items():
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {kept}")


def list_rows(connection: Connection) -> list[Wso2Row]:
    """All rows that were put aside, the oldest first."""
    name = KEPT_NAMES[schema.artifacts.name]
    artifacts = _table(name, _columns(connection, name))
    time = next((artifacts.c[name] for name in _TIMES if name in artifacts.c), None)
    columns = [artifacts.c[name] for name in ("GATEWAY_LABEL", "API_ID", "GATEWAY_INSTRUCTION")]
    query = select(*columns, func.length(artifacts.c.ARTIFACT).label("SIZE"))
    if time is not None:
        query = query.add_columns(time.label("CHANGED_AT"))
    if _columns(connection, KEPT_NAMES[schema.details.name]):
        details = _table(
            KEPT_NAMES[schema.details.name],
            {"API_ID", "TENANT_DOMAIN", "API_NAME", "API_VERSION"},
        )
        known = (details.c.TENANT_DOMAIN, details.c.API_NAME, details.c.API_VERSION)
        query = query.add_columns(*known).outerjoin(details, details.c.API_ID == artifacts.c.API_ID)
    rows = (row._mapping for row in connection.execute(query))
    return sorted((_row(each) for each in rows), key=lambda row: row.order)


def read_document(connection: Connection, row: Wso2Row) -> list[bytes]:
    """The ARTIFACT of the row; of several rows, where the table had no primary key."""
    place = {"label": row.label, "api_id": row.api_id}
    return [bytes(each or b"") for each in connection.scalars(_DOCUMENT, place)]


def table_names(connection: Connection) -> dict[str, str]:
    """The tables that are there: the names as the database has them, by the same in lower case."""
    return {name.lower(): name for name in inspect(connection).get_table_names()}


def _columns(connection: Connection, table: str) -> set[str]:
    """The columns' names, in upper case; none where there is no such table."""
    name = table_names(connection).get(table.lower())
    found = inspect(connection).get_columns(name) if name else []
    return {each["name"].upper() for each in found}


def _table(name: str, columns: set[str]) -> Table:
    types: dict[str, TypeEngine[Any]] = {"ARTIFACT": LargeBinary()}
    types |= dict.fromkeys(_TIMES, NullType())  # as the driver gives them
    made: list[Column[Any]] = [
        Column(each, types.get(each, String()), quote=False) for each in sorted(columns)
    ]
    return Table(name, MetaData(), *made, quote=False)


def _row(found: Any) -> Wso2Row:
    return Wso2Row(
        label=found["GATEWAY_LABEL"],
        api_id=found["API_ID"],
        instruction=found["GATEWAY_INSTRUCTION"] or "",
        changed_at=_milliseconds(found.get("CHANGED_AT")),
        size=found["SIZE"] or 0,
        tenant=found.get("TENANT_DOMAIN"),
        name=found.get("API_NAME"),
        version=found.get("API_VERSION"),
    )


def _milliseconds(value: object) -> int:
    """A time as the driver gives it, or as SQLite keeps it, taken as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return 0
    if not isinstance(value, datetime):
        return 0
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))


_ARTIFACTS: Final = _table(KEPT_NAMES[schema.artifacts.name], _NEEDED)
_DOCUMENT: Final = select(_ARTIFACTS.c.ARTIFACT).where(
    _ARTIFACTS.c.GATEWAY_LABEL == bindparam("label"), _ARTIFACTS.c.API_ID == bindparam("api_id")
)
