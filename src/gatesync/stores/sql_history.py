"""Reading who changed an artifact, when and from where: on one connection, in one transaction."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from gatesync.artifacts.changes import Change, Instruction
from gatesync.artifacts.model import Identity
from gatesync.stores import schema
from gatesync.stores.sql_read import chunked, entry_of, identity_of
from gatesync.stores.store import History, LoggedChange

__all__ = ["read_history"]

HISTORY_MAX: Final = 10_000  # changes of one label that an answer has at most


def read_history(connection: Connection, name: str) -> History:
    """See `Saver.history`."""
    identities = _identities(connection, name)
    changes: list[LoggedChange] = []
    floors: dict[str, int] = {}
    heads = schema.heads
    for head in connection.execute(select(heads).order_by(heads.c.GATEWAY_LABEL)).all():
        found = list(_changes(connection, head.GATEWAY_LABEL, identities))
        if found:
            found.sort(key=_newness, reverse=True)
            changes += found[:HISTORY_MAX]
            floors[head.GATEWAY_LABEL] = int(head.FLOOR)
    return History(tuple(changes), floors)


def _newness(each: LoggedChange) -> tuple[int, bool]:
    """Of one change set, the publish is what it came to: under another api_id, a removal too."""
    return each.change.entry.revision, each.change.instruction is Instruction.PUBLISH


def _identities(connection: Connection, name: str) -> dict[str, Identity]:
    """By api_id: everybody of this name, or with this api_id, and whoever shares an identity."""
    table = schema.details
    asked = (table.c.API_NAME == name) | (table.c.API_ID == name)
    wanted = {identity_of(row) for row in connection.execute(select(table).where(asked))}
    names = {identity.name for identity in wanted}
    rows = connection.execute(select(table).where(table.c.API_NAME.in_(names)))
    return {row.API_ID: identity_of(row) for row in rows if identity_of(row) in wanted}


def _changes(
    connection: Connection, label: str, identities: Mapping[str, Identity]
) -> Iterator[LoggedChange]:
    changes, sets = schema.changes, schema.change_sets
    same = (sets.c.GATEWAY_LABEL == changes.c.GATEWAY_LABEL) & (
        sets.c.REVISION == changes.c.REVISION
    )
    query: Select[Any] = (
        select(*changes.c, sets.c.PUBLISHED_AT, sets.c.PUBLISHER, sets.c.AUTHOR, sets.c.ORIGIN)
        .outerjoin(sets, same)  # change sets are forgotten before the state that they led to
        .where(changes.c.GATEWAY_LABEL == label)
        .order_by(changes.c.REVISION.desc())
        .limit(HISTORY_MAX)
    )
    for some in chunked(sorted(identities)):
        for row in connection.execute(query.where(changes.c.API_ID.in_(some))):
            entry = entry_of(row, identities[row.API_ID])
            yield LoggedChange(
                label=label,
                change=Change(Instruction(row.GATEWAY_INSTRUCTION), entry),
                published_at=row.PUBLISHED_AT or 0,
                publisher=row.PUBLISHER or "",
                author=row.AUTHOR or "",
                origin=row.ORIGIN or "",
            )
