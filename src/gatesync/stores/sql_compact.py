"""Compaction: forgetting what no revision from a label's new floor on needs.

Compactions take turns, by the lock on GS_STORE's row, so that of two that drop the last uses of
one content, the second sees that it is the second. Each takes the label's head like a writer.
"""

from typing import Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)

from gatesync.artifacts.changes import Instruction
from gatesync.stores import schema
from gatesync.stores.sql_attestations import forget_attestations
from gatesync.stores.sql_read import chunked
from gatesync.stores.sql_rows import Among
from gatesync.stores.store import StoreError

__all__ = ["compact"]

REQUESTS_KEPT_MS: Final = 7 * 24 * 3600 * 1000  # how long an idempotency key is remembered
DIGESTS_KEPT: Final = 100_000  # revisions below the floor that can still prove a history
STEP: Final = 5_000  # revisions that one transaction moves the floor by


_Content: TypeAlias = tuple[str, str]
"""An api_id and a digest."""

_changes: Final = schema.changes
# Built once, and asked label by label: there is no index by the digest alone.
_NAMED: Final = Among(
    select(_changes.c.API_ID, _changes.c.DIGEST)
    .distinct()
    .where(
        _changes.c.GATEWAY_LABEL == bindparam("label"),
        ~exists().where(
            schema.artifacts.c.GATEWAY_LABEL == _changes.c.GATEWAY_LABEL,
            schema.artifacts.c.API_ID == _changes.c.API_ID,
            schema.artifacts.c.DIGEST == _changes.c.DIGEST,
        ),
    ),
    _changes.c.API_ID,
)

_FORGET_JOINED: Final = text(
    "DELETE older FROM GS_CHANGE AS older"
    " STRAIGHT_JOIN GS_CHANGE AS newer FORCE INDEX (GS_CHANGE_ARTIFACT)"
    " ON newer.GATEWAY_LABEL = older.GATEWAY_LABEL AND newer.API_ID = older.API_ID"
    " AND newer.REVISION > older.REVISION AND newer.REVISION <= :floor"
    " WHERE older.GATEWAY_LABEL = :label AND older.REVISION <= :floor"
)


def compact(
    connection: Connection, label: str, keep: int, young: int | None = None
) -> tuple[int, bool]:
    """Take a step; answer with the floor, and whether there is more to do."""
    stores, heads = schema.stores, schema.heads
    connection.execute(select(stores).where(stores.c.ID == 1).with_for_update())
    _forget_requests(connection)
    locked = select(heads).where(heads.c.GATEWAY_LABEL == label).with_for_update()
    head = connection.execute(locked).first()
    if head is None:
        raise StoreError(f"label {label!r} has lost its head row; try again")
    target = head.REVISION - keep
    if young is not None:
        target = _before_the_young(connection, label, young, int(head.FLOOR), target)
    target = max(int(head.FLOOR), target)
    floor = min(target, int(head.FLOOR) + STEP)
    if floor == head.FLOOR:
        return floor, False
    forgotten = _forget_changes(connection, label, floor)
    _forget_sets(connection, label, floor)
    _forget_removed(connection, label, floor)
    forget_attestations(connection, label, floor)
    _forget_contents(connection, forgotten)
    connection.execute(update(heads).where(heads.c.GATEWAY_LABEL == label).values(FLOOR=floor))
    return floor, floor < target


def _before_the_young(
    connection: Connection, label: str, young: int, floor: int, target: int
) -> int:
    """The last revision before the first young one, but no later than `target`."""
    sets = schema.change_sets
    recent = (
        select(sets.c.REVISION)
        .where(sets.c.GATEWAY_LABEL == label, floor < sets.c.REVISION, target >= sets.c.REVISION)
        .where(sets.c.PUBLISHED_AT >= young)
        .order_by(sets.c.REVISION)
        .limit(1)
    )
    first = connection.scalar(recent)
    return target if first is None else int(first) - 1


def _forget_requests(connection: Connection) -> None:
    saved_at = schema.requests.c.SAVED_AT
    newest = connection.scalar(select(func.max(saved_at))) or 0
    connection.execute(delete(schema.requests).where(saved_at < newest - REQUESTS_KEPT_MS))


def _forget_changes(connection: Connection, label: str, floor: int) -> set[_Content]:
    """Drop the changes that the state at the floor is not made of; answer with what they named."""
    changes = schema.changes
    newer = changes.alias("NEWER")
    # Each database is told which index leads to what is newer. Before it has statistics it takes
    # the primary key, and reads all of the label for each change. For a sum there is no other.
    number = newer.c.REVISION + literal_column("0")
    later = number if connection.dialect.name == "postgresql" else newer.c.REVISION
    below = (changes.c.GATEWAY_LABEL == label) & (changes.c.REVISION <= floor)
    superseded: ColumnElement[bool] = (
        (newer.c.GATEWAY_LABEL == label)
        & (newer.c.API_ID == changes.c.API_ID)
        & (later > changes.c.REVISION)
        & (number <= floor)
    )
    removal = changes.c.GATEWAY_INSTRUCTION == Instruction.REMOVE.value
    named = select(changes.c.API_ID, changes.c.DIGEST).distinct()
    newest = select(newer.c.REVISION).where(superseded)
    for dialect in ("mysql", "mariadb"):
        newest = newest.with_hint(newer, "FORCE INDEX (GS_CHANGE_ARTIFACT)", dialect)
    gone = connection.execute(named.where(below, newest.exists() | removal))
    forgotten = {(row.API_ID, row.DIGEST) for row in gone}
    if connection.dialect.name in {"mysql", "mariadb"}:
        # MySQL deletes from a table that the condition reads only where it is joined.
        connection.execute(_FORGET_JOINED, {"label": label, "floor": floor})
    else:
        connection.execute(delete(changes).where(below, exists().where(superseded)))
    connection.execute(delete(changes).where(below, removal))
    return forgotten


def _forget_sets(connection: Connection, label: str, floor: int) -> None:
    sets = schema.change_sets
    forgotten = (sets.c.GATEWAY_LABEL == label) & (sets.c.REVISION < floor - DIGESTS_KEPT)
    connection.execute(delete(sets).where(forgotten))


def _forget_removed(connection: Connection, label: str, floor: int) -> None:
    """Drop the rows, with their last contents, of what was removed before the floor."""
    table = schema.artifacts
    connection.execute(
        delete(table).where(
            table.c.GATEWAY_LABEL == label,
            table.c.GATEWAY_INSTRUCTION == Instruction.REMOVE.value,
            table.c.REVISION <= floor,
        )
    )


def _forget_contents(connection: Connection, forgotten: set[_Content]) -> None:
    """Drop the old contents among these that no kept change needs."""
    table = schema.old_contents
    for some in chunked(sorted({digest for _, digest in forgotten})):
        # Locked before it is asked who needs them: a writer that relies on one holds it too.
        rows = connection.execute(
            select(table.c.CONTENT_NUMBER, table.c.API_ID, table.c.DIGEST)
            .where(table.c.DIGEST.in_(some))
            .order_by(table.c.CONTENT_NUMBER)
            .with_for_update()
        ).all()
        needed = _needed(connection, {(row.API_ID, row.DIGEST) for row in rows})
        numbers = [row.CONTENT_NUMBER for row in rows if (row.API_ID, row.DIGEST) not in needed]
        for few in chunked(numbers):
            connection.execute(delete(table).where(table.c.CONTENT_NUMBER.in_(few)))


def _needed(connection: Connection, contents: set[_Content]) -> set[_Content]:
    """Which of these a kept change names whose artifact holds other bytes by now."""
    api_ids = {api_id for api_id, _ in contents}
    labels = connection.scalars(select(schema.heads.c.GATEWAY_LABEL)).all() if contents else []
    named = {
        (row.API_ID, row.DIGEST)
        for label in labels
        for row in _NAMED.rows(connection, api_ids, label=label)
    }
    return contents & named
