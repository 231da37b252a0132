"""Writing what labels hold: artifacts with their bytes, and the bytes that they held before."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    Connection,
    Dialect,
    LargeBinary,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql

from gatesync.stores import schema
from gatesync.stores.sql_read import chunked
from gatesync.stores.sql_rows import Among, insert_rows
from gatesync.stores.sql_trip import Trip

__all__ = ["PIECE_BYTES", "Place", "insert_old", "keep_old", "write_artifacts"]

Place: TypeAlias = tuple[str, str]
"""A label and an api_id."""

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Of a larger content MySQL gets this much at a time: escaped it may be twice as long, and one
statement is not to exceed max_allowed_packet, which is 16 MiB by default."""

_KEYS: Final = ("GATEWAY_LABEL", "API_ID")
_FLIPPED: Final = (
    "GATEWAY_INSTRUCTION",
    "REVISION",
    "DIGEST",
    "CONTENT_SIZE",
    "CONTEXT",
    "CLAIMS",
    "NEEDS",
)


def _setting(*names: str) -> Update:
    """An update of these columns by the parameters `b_NAME`; the time is ours, on any database."""
    table = schema.artifacts
    values: dict[Any, Any] = {name: bindparam(f"b_{name}") for name in names}
    values["TIME_STAMP"] = func.current_timestamp()
    mine = table.c.ARTIFACT_NUMBER == bindparam("b_ARTIFACT_NUMBER")
    return update(table).where(mine).values(values)


# Statements are built once: building one anew costs more than SQLite takes to run it.
_FLIP: Final = _setting(*_FLIPPED)
_UPDATE: Final = _setting(*_FLIPPED, "ARTIFACT")
_COMING: Final = mysql.insert(schema.artifacts)
_OVERWRITE: Final = _COMING.on_duplicate_key_update(  # PyMySQL updates row by row, inserts many
    {name: _COMING.inserted[name] for name in (*_FLIPPED, "ARTIFACT")}
    | {"TIME_STAMP": func.current_timestamp()}
)
_KEPT: Final = ("API_ID", "DIGEST", "CONTENT_SIZE", "ARTIFACT")
_PIECE: Final = bindparam("piece", type_=LargeBinary)
_APPEND: Final = (
    update(schema.artifacts)
    .where(*(schema.artifacts.c[name] == bindparam(f"b_{name}") for name in _KEYS))
    .values(ARTIFACT=func.concat(schema.artifacts.c.ARTIFACT, _PIECE))
)
_INSERT_OLD: Final = insert(schema.old_contents)
_APPEND_OLD: Final = (
    update(schema.old_contents)
    .where(schema.old_contents.c.CONTENT_NUMBER == bindparam("number"))
    .values(ARTIFACT=func.concat(schema.old_contents.c.ARTIFACT, _PIECE))
)
_HELD_OLD: Final = Among(
    select(schema.old_contents.c.API_ID, schema.old_contents.c.DIGEST)
    .order_by(schema.old_contents.c.CONTENT_NUMBER)
    .with_hint(schema.old_contents, "FORCE INDEX (GS_OLD_CONTENT_DIGEST)", "mysql")
    .with_hint(schema.old_contents, "FORCE INDEX (GS_OLD_CONTENT_DIGEST)", "mariadb")
    .with_for_update(read=True),
    schema.old_contents.c.DIGEST,
)
_KEEP_OLD: Final = insert(schema.old_contents).from_select(
    _KEPT,
    select(*(schema.artifacts.c[name] for name in _KEPT)).where(
        schema.artifacts.c.GATEWAY_LABEL == bindparam("label"),
        schema.artifacts.c.API_ID.in_(bindparam("values", expanding=True)),
    ),
)


def write_artifacts(
    trip: Trip,
    new: Sequence[dict[str, Any]],
    changed: Sequence[dict[str, Any]],
    flipped: Sequence[dict[str, Any]],
) -> None:
    """Write rows of the artifacts table; `flipped` are those whose bytes stay as they are.

    New ones are left to the trip's next run.
    """
    rest = _cut(trip.dialect, [*new, *changed])
    trip.insert(schema.artifacts, new)
    if changed and _is_mysql(trip.dialect):
        trip.connection.execute(_OVERWRITE, list(changed))
        changed = ()
    for statement, rows in ((_UPDATE, changed), (_FLIP, flipped)):
        if rows:
            renamed = [{f"b_{name}": value for name, value in row.items()} for row in rows]
            trip.connection.execute(statement, renamed)
    if rest:
        trip.run()
    for row, pieces in rest:
        place = {f"b_{name}": row[name] for name in _KEYS}
        for piece in pieces:
            trip.connection.execute(_APPEND, {**place, "piece": piece})


def keep_old(connection: Connection, places: Mapping[Place, str]) -> None:
    """Copy the bytes that these places hold, by their digests, to where kept revisions look."""
    first = {(place[1], digest): place for place, digest in places.items()}
    # Locked, so that no compaction takes away what we rely on.
    for row in _HELD_OLD.rows(connection, {digest for _, digest in first}):
        first.pop((row.API_ID, row.DIGEST), None)
    labels: dict[str, list[str]] = {}
    for label, api_id in first.values():
        labels.setdefault(label, []).append(api_id)
    for label, api_ids in labels.items():
        for some in chunked(sorted(api_ids)):
            connection.execute(_KEEP_OLD, {"label": label, "values": some})


def insert_old(connection: Connection, contents: Mapping[tuple[str, str], bytes]) -> None:
    """Write contents that no place holds, by api_id and digest."""
    rows = [
        dict(API_ID=api_id, DIGEST=digest, CONTENT_SIZE=len(content), ARTIFACT=content)
        for (api_id, digest), content in contents.items()
    ]
    rest = _cut(connection.dialect, rows)
    large = [row for row, _ in rest]
    small = [row for row in rows if row not in large]
    insert_rows(connection, schema.old_contents, small)
    for row, pieces in rest:
        key = connection.execute(_INSERT_OLD, row).inserted_primary_key
        number = key[0] if key else None
        for piece in pieces:
            connection.execute(_APPEND_OLD, {"number": number, "piece": piece})


def _cut(
    dialect: Dialect, rows: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Leave the first piece in each row; answer with the rows that have more, and with that."""
    if not _is_mysql(dialect):
        return []
    rest = []
    for row in rows:
        content = row["ARTIFACT"]
        if len(content) > PIECE_BYTES:
            row["ARTIFACT"] = content[:PIECE_BYTES]
            starts = range(PIECE_BYTES, len(content), PIECE_BYTES)
            rest.append((row, [content[start : start + PIECE_BYTES] for start in starts]))
    return rest


def _is_mysql(dialect: Dialect) -> bool:
    return dialect.name in {"mysql", "mariadb"}
