"""Compaction: forgetting what no revision from a label's new floor on needs.

Compactions take turns, by the lock on GS_STORE's row, so that of two that drop the last uses of
one content, the second sees that it is the second. Each takes the label's head like a writer.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select, update

from gatesync.artifacts.changes import Instruction
from gatesync.stores import schema
from gatesync.stores.sql_read import chunked
from gatesync.stores.store import StoreError

__all__ = ["compact"]

REQUESTS_KEPT_MS: Final = 7 * 24 * 3600 * 1000  # how long an idempotency key is remembered
DIGESTS_KEPT: Final = 100_000  # revisions below the floor that can still prove a history
STEP: Final = 5_000  # revisions that one transaction moves the floor by


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
    digests = _forget_changes(connection, label, floor)
    _forget_sets(connection, label, floor)
    _forget_removed(connection, label, floor)
    _forget_contents(connection, digests)
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


def _forget_changes(connection: Connection, label: str, floor: int) -> set[str]:
    """Drop the changes that the state at the floor is not made of; answer with their digests."""
    changes = schema.changes
    newer = changes.alias("NEWER")
    below = (changes.c.GATEWAY_LABEL == label) & (changes.c.REVISION <= floor)
    superseded: ColumnElement[bool] = (
        (newer.c.GATEWAY_LABEL == label)
        & (newer.c.API_ID == changes.c.API_ID)
        & (newer.c.REVISION > changes.c.REVISION)
        & (newer.c.REVISION <= floor)
    )
    removal = changes.c.GATEWAY_INSTRUCTION == Instruction.REMOVE.value
    gone = select(changes.c.DIGEST).where(below, exists().where(superseded) | removal)
    digests = set(connection.scalars(gone.distinct()))
    if connection.dialect.name in {"mysql", "mariadb"}:
        # MySQL deletes from a table that the condition reads only where it is joined.
        connection.execute(delete(changes).where(below, superseded))
    else:
        connection.execute(delete(changes).where(below, exists().where(superseded)))
    connection.execute(delete(changes).where(below, removal))
    return digests


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


def _forget_contents(connection: Connection, digests: set[str]) -> None:
    """Drop the old contents with these digests that no kept change needs."""
    table = schema.old_contents
    for some in chunked(sorted(digests)):
        # Locked before it is asked who needs them: a writer that relies on one holds it too.
        rows = connection.execute(
            select(table.c.CONTENT_NUMBER, table.c.DIGEST)
            .where(table.c.DIGEST.in_(some))
            .order_by(table.c.CONTENT_NUMBER)
            .with_for_update()
        ).all()
        needed = _needed(connection, sorted({row.DIGEST for row in rows}))
        numbers = [row.CONTENT_NUMBER for row in rows if row.DIGEST not in needed]
        for few in chunked(numbers):
            connection.execute(delete(table).where(table.c.CONTENT_NUMBER.in_(few)))


def _needed(connection: Connection, digests: list[str]) -> set[Any]:
    """Which of these a kept change names whose artifact holds other bytes by now."""
    changes, artifacts = schema.changes, schema.artifacts
    held = exists().where(
        artifacts.c.GATEWAY_LABEL == changes.c.GATEWAY_LABEL,
        artifacts.c.API_ID == changes.c.API_ID,
        artifacts.c.DIGEST == changes.c.DIGEST,
    )
    query = select(changes.c.DIGEST).where(changes.c.DIGEST.in_(digests), ~held).distinct()
    return set(connection.scalars(query)) if digests else set()
