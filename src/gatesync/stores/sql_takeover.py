"""Taking over a database that WSO2 3.2's script made, with the rows in it.

    mark the store as being taken over → put WSO2's tables aside → make ours
    → per batch: rows into revisions, and what became of each into GS_TAKEN_OVER → unmark

Each arrow is a commit, and whoever comes after a crash goes on from the last. While the mark
stands no publisher starts. Nothing of WSO2's is written to: its tables are only renamed.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Connection, insert, select, update

from gatesync.artifacts.changes import Instruction
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.names import check_label, label_token
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.stores import schema, sql_write
from gatesync.stores.sql_opening import TAKING_OVER, alone, create_missing, make_engines, shown
from gatesync.stores.sql_options import SqlOptions
from gatesync.stores.sql_rows import Among
from gatesync.stores.sql_running import ConstraintError, Lane
from gatesync.stores.sql_source import SqlSource
from gatesync.stores.sql_upgrade import add_missing_columns
from gatesync.stores.sql_wso2 import (
    Wso2Row,
    has_wso2_tables,
    list_rows,
    put_aside,
    read_document,
    table_names,
)
from gatesync.stores.store import SaveOutcome, StoreError

__all__ = ["Converted", "TakenRow", "Takeover", "take_over"]

BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 16 * 1024 * 1024
DEADLINE_SECONDS: Final = 300.0  # of one step: the list of all rows is one
ORIGIN: Final = "WSO2's tables, by gatesync db upgrade"
REMOVED: Final = "WSO2's tables: removed at this time; when it was published is not known"

_taken: Final = schema.taken_over
_CLAIMED: Final = Among(select(schema.claims), schema.claims.c.CLAIM)


class Note(msgspec.Struct, frozen=True):
    """What there is to say about a row. With a `claim`: only as long as nobody makes it."""

    text: str
    claim: str = ""


class Converted(msgspec.Struct, frozen=True):
    """What a row's bytes hold, and what there is to say about it."""

    publish: Publish
    notes: tuple[str, ...] = ()


Convert: TypeAlias = Callable[[Wso2Row, bytes], Converted]
"""Raises `ProblemsError` for a row that cannot be taken."""


class TakenRow(msgspec.Struct, frozen=True):
    """What became of a row. `revision` is 0 where it is not in the label's log."""

    label: str
    api_id: str
    instruction: str
    revision: int
    notes: tuple[str, ...] = ()


class Takeover(msgspec.Struct, frozen=True):
    """What became of all rows. `before`: it had been done by then, and nothing changed now."""

    rows: tuple[TakenRow, ...]
    before: bool = False


class _Item(msgspec.Struct, frozen=True):
    """A row on its way: what is to be saved of it, or why nothing is."""

    row: Wso2Row
    request: SaveRequest | None
    notes: tuple[Note, ...]


async def take_over(
    url: str | SqlSource,
    options: SqlOptions,
    convert: Convert,
    *,
    batch_rows: int = BATCH_ROWS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Takeover | None:
    """Turn WSO2's rows into revisions; None where there are no tables of WSO2's.

    Args:
        url: the database.
        options: as for the store; the deadline is that of a step, and five minutes at least.
        convert: what makes an artifact of a row's bytes.
        batch_rows: that one transaction takes at most.
        progress: is told how many rows are done, and of how many.

    Raises:
        StoreError: the database failed, or its tables are neither WSO2's nor ours.
    """
    options = msgspec.structs.replace(options, deadline=max(options.deadline, DEADLINE_SECONDS))
    writing, reading = await asyncio.to_thread(make_engines, url, options)
    reading.dispose()
    where = shown(writing.url)
    lane = Lane(writing, threads=1, name="takeover", where=where, deadline=options.deadline)
    try:
        epoch = await lane.run(lambda c: _begin(c, where))
        if epoch is None:
            return await lane.run(_done_before)
        rows = await lane.run(list_rows)
        done = 0
        for batch in _batches(rows, batch_rows):
            items = await lane.run(partial(_read, rows=batch, convert=convert))
            await _save(lane, epoch, items)
            done += len(batch)
            progress(done, len(rows))
        return await lane.run(_finish)
    finally:
        await lane.close()


def _begin(connection: Connection, where: str) -> str | None:
    """Get as far as having both kinds of tables; answer with the epoch, if there is work."""
    with alone(connection):
        row, there = None, table_names(connection)
        if schema.stores.name.lower() in there:
            row = connection.execute(select(schema.stores)).first()
        if row is not None and row.SCHEMA_FORMAT != TAKING_OVER:
            if row.SCHEMA_FORMAT == schema.SCHEMA_FORMAT:
                return None
            raise StoreError(
                f"database {where} has tables of format {row.SCHEMA_FORMAT}; this version of "
                f"gatesync knows format {schema.SCHEMA_FORMAT} and WSO2's"
            )
        is_wso2s = has_wso2_tables(connection)
        if row is None and not is_wso2s:
            return None
        epoch = str(uuid.uuid4()) if row is None else str(row.EPOCH)
        if row is None:
            if schema.stores.name.lower() not in there:
                schema.stores.create(connection)
            mark = dict(ID=1, EPOCH=epoch, SCHEMA_FORMAT=TAKING_OVER)
            connection.execute(insert(schema.stores).values(mark))
        if is_wso2s:
            put_aside(connection)
        create_missing(connection)
        add_missing_columns(connection)  # an older version may have begun this
        if _taken.name.lower() not in there:
            _taken.create(connection)
    return epoch


def _done_before(connection: Connection) -> Takeover | None:
    if _taken.name.lower() not in table_names(connection):
        return None
    return Takeover(_summary(connection), before=True)


def _batches(rows: Sequence[Wso2Row], count: int) -> Iterator[list[Wso2Row]]:
    batch: list[Wso2Row] = []
    for row in rows:
        size = sum(each.size for each in batch) + row.size
        if batch and (len(batch) == count or size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _read(connection: Connection, rows: Iterable[Wso2Row], convert: Convert) -> list[_Item]:
    """Convert those of the rows that are still to be done."""
    known = _recorded(connection, rows)
    items: dict[tuple[str, str], _Item] = {}
    for row in rows:
        place = (row.label, row.api_id)
        if place not in known and place not in items:
            items[place] = _item(row, read_document(connection, row), convert)
    return list(items.values())


def _item(row: Wso2Row, documents: list[bytes], convert: Convert) -> _Item:
    try:
        _check(row, documents)
        converted = convert(row, documents[0])
    except ProblemsError as error:
        return _Item(row, None, tuple(Note(str(problem)) for problem in error.problems))
    except Problem as problem:
        return _Item(row, None, (Note(str(problem)),))
    return _Item(row, _request(row, converted.publish), tuple(map(Note, converted.notes)))


def _check(row: Wso2Row, documents: list[bytes]) -> None:
    check_label(row.label)
    if len(documents) != 1:
        raise Problem(f"there are {len(documents)} rows of this label and API_ID")
    if row.instruction not in set(Instruction):
        raise Problem(f"its GATEWAY_INSTRUCTION is {row.instruction!r}, not Publish or Remove")


def _request(row: Wso2Row, publish: Publish) -> SaveRequest:
    """What a publisher would have been asked then: WSO2 does not say more of it."""
    removed = row.instruction == Instruction.REMOVE
    sets: tuple[tuple[Publish | Remove, ...], ...] = ((publish,),)
    if removed:
        sets = (*sets, (Remove(row.api_id),))
    name = hashlib.sha256(row.api_id.encode()).hexdigest()
    return SaveRequest(
        labels=(row.label,),
        sets=sets,
        key=f"wso2/{label_token(row.label)}/{name}",
        fingerprint=publish.entry.digest,
        published_at=min(row.changed_at, int(time.time() * 1000)),
        author="WSO2",
        origin=REMOVED if removed else ORIGIN,
        force=True,  # what leads nowhere led nowhere in WSO2, too
    )


async def _save(lane: Lane, epoch: str, items: Sequence[_Item]) -> None:
    """Save a batch, or where the database refuses that, each row by itself."""
    labels = {each.row.label for each in items if each.request is not None}
    if labels:
        await lane.run(lambda c: sql_write.make_heads(c, labels))
    try:
        await lane.run(lambda c: _write(c, epoch, items))
    except ConstraintError as error:
        if len(items) > 1:
            for each in items:
                await _save(lane, epoch, [each])
        else:
            refused = _Item(items[0].row, None, (Note(str(error)),))
            await lane.run(lambda c: _write(c, epoch, [refused]))


def _write(connection: Connection, epoch: str, items: Sequence[_Item]) -> None:
    """Save what is still to be saved, and record it in the same transaction."""
    format_ = connection.scalar(
        select(schema.stores.c.SCHEMA_FORMAT).where(schema.stores.c.ID == 1).with_for_update()
    )
    if format_ != TAKING_OVER:
        return  # another process, at the same work, was quicker
    known = _recorded(connection, [each.row for each in items])
    fresh = [each for each in items if (each.row.label, each.row.api_id) not in known]
    requests = [each.request for each in fresh if each.request is not None]
    answers = iter(sql_write.append(connection, epoch, requests) if requests else [])
    records = []
    for each in fresh:
        notes, revision = each.notes, 0
        if each.request is not None:
            answer = next(answers)
            if isinstance(answer, SaveOutcome):
                revision = max(change_set.revision for change_set in answer.change_sets)
                notes += tuple(Note(unmet.text, unmet.claim) for unmet in answer.warnings)
            else:
                notes += tuple(map(Note, answer.reasons))
        records.append(_record(each.row, revision, notes))
    if records:
        connection.execute(insert(_taken), records)


def _record(row: Wso2Row, revision: int, notes: tuple[Note, ...]) -> dict[str, Any]:
    return dict(
        GATEWAY_LABEL=row.label,
        API_ID=row.api_id,
        GATEWAY_INSTRUCTION=row.instruction,
        CHANGED_AT=row.changed_at,
        REVISION=revision,
        NOTES=msgspec.json.encode(notes).decode(),
    )


def _recorded(connection: Connection, rows: Iterable[Wso2Row]) -> set[tuple[str, str]]:
    """The labels and api_ids among these that something has become of."""
    wanted: dict[str, list[str]] = {}
    for row in rows:
        wanted.setdefault(row.label, []).append(row.api_id)
    columns = _taken.c.GATEWAY_LABEL, _taken.c.API_ID
    return {
        (found.GATEWAY_LABEL, found.API_ID)
        for label, api_ids in wanted.items()
        for found in connection.execute(
            select(*columns).where(_taken.c.GATEWAY_LABEL == label, _taken.c.API_ID.in_(api_ids))
        )
    }


def _finish(connection: Connection) -> Takeover:
    """Let publishers start."""
    mine = schema.stores.c.ID == 1
    connection.execute(select(schema.stores).where(mine).with_for_update())
    left = {(row.label, row.api_id) for row in list_rows(connection)}
    rows = _summary(connection)
    if left - {(row.label, row.api_id) for row in rows}:
        raise StoreError("rows came while the takeover ran; run gatesync db upgrade again")
    connection.execute(update(schema.stores).where(mine).values(SCHEMA_FORMAT=schema.SCHEMA_FORMAT))
    return Takeover(rows)


def _summary(connection: Connection) -> tuple[TakenRow, ...]:
    """What became of each row, in the order of the revisions."""
    order = (_taken.c.GATEWAY_LABEL, _taken.c.CHANGED_AT, _taken.c.API_ID)
    found = connection.execute(select(_taken).order_by(*order)).all()
    notes = {
        (row.GATEWAY_LABEL, row.API_ID): msgspec.json.decode(row.NOTES, type=tuple[Note, ...])
        for row in found
    }
    unmet = {note.claim for each in notes.values() for note in each if note.claim}
    met: set[tuple[str, str]] = set()
    if unmet:  # a row after it may have brought what it needs
        met = {(row.GATEWAY_LABEL, row.CLAIM) for row in _CLAIMED.rows(connection, unmet)}
    return tuple(
        TakenRow(
            row.GATEWAY_LABEL,
            row.API_ID,
            row.GATEWAY_INSTRUCTION,
            row.REVISION,
            tuple(
                note.text
                for note in notes[row.GATEWAY_LABEL, row.API_ID]
                if (row.GATEWAY_LABEL, note.claim) not in met
            ),
        )
        for row in found
    )
