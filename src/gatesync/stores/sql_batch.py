"""Writing a planned batch: a few statements, each for all rows of its kind."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from gatesync.artifacts.changes import Change, Head
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, Publish, SaveRequest
from gatesync.stores import schema
from gatesync.stores.store import SaveOutcome

__all__ = ["Loaded", "SavedOutcome", "write_batch"]


class SavedOutcome(msgspec.Struct, frozen=True):
    """What GS_REQUEST remembers of a request: enough to give the same answer again."""

    change_sets: tuple[tuple[str, int], ...]
    heads: tuple[Head, ...]


class Loaded(msgspec.Struct):
    """What the database held of everything that the batch may touch.

    `states` and `identities` move with the plans; `known`, `rows` and `owners` stay as they were.
    """

    states: dict[str, LabelState]
    identities: dict[str, Identity]
    known: frozenset[str]
    rows: dict[tuple[str, str], Any]
    owners: dict[str, dict[str, str]]


def write_batch(
    connection: Connection, loaded: Loaded, written: Sequence[tuple[SaveRequest, SaveOutcome]]
) -> None:
    """Write what was planned. Each answer stands beside its request."""
    contents = {
        item.entry.digest: item.content
        for request, _ in written
        for items in request.sets
        for item in items
        if isinstance(item, Publish)
    }
    _write_details(connection, loaded)
    _write_artifacts(connection, loaded, written, contents)
    _write_log(connection, written)
    _write_claims(connection, loaded)
    _write_heads(connection, loaded)
    _write_requests(connection, written)


def _write_details(connection: Connection, loaded: Loaded) -> None:
    rows = [
        dict(
            API_ID=api_id,
            TENANT_DOMAIN=identity.tenant,
            KIND=identity.kind,
            API_NAME=identity.name,
            API_VERSION=identity.version,
        )
        for api_id, identity in loaded.identities.items()
        if api_id not in loaded.known
    ]
    if rows:
        connection.execute(insert(schema.details), rows)


def _write_artifacts(
    connection: Connection,
    loaded: Loaded,
    written: Sequence[tuple[SaveRequest, SaveOutcome]],
    contents: dict[str, bytes],
) -> None:
    table, old = schema.artifacts, schema.old_contents
    last: dict[tuple[str, str], Change] = {}
    revisions: dict[tuple[str, str], int] = {}
    passing: set[str] = set()  # published and overwritten within this batch
    for _, outcome in written:
        for change_set in outcome.change_sets:
            for change in change_set.changes:
                place = (change_set.label, change.entry.api_id)
                if place in last and last[place].entry.digest != change.entry.digest:
                    passing.add(last[place].entry.digest)
                last[place] = change
                revisions[place] = change_set.revision
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    flipped: list[dict[str, Any]] = []
    for (label, api_id), change in last.items():
        row = _artifact_row(label, change, revisions[label, api_id])
        before = loaded.rows.get((label, api_id))
        if before is not None and before.DIGEST == row["DIGEST"]:
            flipped.append(row)
            continue
        row["ARTIFACT"] = contents[row["DIGEST"]]
        (new if before is None else changed).append(row)
    passed = [dict(DIGEST=digest, ARTIFACT=contents[digest]) for digest in passing & set(contents)]
    if passed:
        connection.execute(insert(old), passed)
    if new:
        connection.execute(insert(table), new)
    _keep_old_contents(connection, changed)
    for rows in (changed, flipped):
        _update(connection, rows)


def _artifact_row(label: str, change: Change, revision: int) -> dict[str, Any]:
    return dict(
        GATEWAY_LABEL=label,
        API_ID=change.entry.api_id,
        GATEWAY_INSTRUCTION=change.instruction.value,
        REVISION=revision,
        DIGEST=change.entry.digest,
        SIZE=change.entry.size,
        CONTEXT=change.entry.context,
    )


def _keep_old_contents(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Move the bytes that these rows hold now to where kept revisions find them."""
    table, old = schema.artifacts, schema.old_contents
    mine = (table.c.GATEWAY_LABEL == bindparam("l")) & (table.c.API_ID == bindparam("a"))
    there = exists().where(old.c.DIGEST == table.c.DIGEST)
    held = select(table.c.DIGEST, table.c.ARTIFACT).where(mine, ~there)
    keep = insert(old).from_select(["DIGEST", "ARTIFACT"], held)
    for row in rows:
        connection.execute(keep, {"l": row["GATEWAY_LABEL"], "a": row["API_ID"]})


def _update(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = schema.artifacts
    keys = ("GATEWAY_LABEL", "API_ID")
    values: dict[Any, Any] = {name: bindparam(f"v_{name}") for name in rows[0] if name not in keys}
    where = [table.c[name] == bindparam(f"v_{name}") for name in keys]
    renamed = [{f"v_{name}": value for name, value in row.items()} for row in rows]
    connection.execute(update(table).where(*where).values(values), renamed)


def _write_log(connection: Connection, written: Sequence[tuple[SaveRequest, SaveOutcome]]) -> None:
    sets, changes = [], []
    for _, outcome in written:
        for each in outcome.change_sets:
            sets.append(
                dict(
                    GATEWAY_LABEL=each.label,
                    REVISION=each.revision,
                    PREVIOUS_REVISION=each.previous,
                    DIGEST=each.digest.total,
                    ARTIFACT_COUNT=each.digest.count,
                    PUBLISHED_AT=each.published_at,
                    PUBLISHER=each.publisher,
                )
            )
            changes += [
                dict(
                    GATEWAY_LABEL=each.label,
                    API_ID=change.entry.api_id,
                    REVISION=each.revision,
                    GATEWAY_INSTRUCTION=change.instruction.value,
                    DIGEST=change.entry.digest,
                    SIZE=change.entry.size,
                    CONTEXT=change.entry.context,
                )
                for change in each.changes
            ]
    if sets:
        connection.execute(insert(schema.change_sets), sets)
        connection.execute(insert(schema.changes), changes)


def _write_claims(connection: Connection, loaded: Loaded) -> None:
    table = schema.claims
    freed, made = [], []
    for label, state in loaded.states.items():
        before = loaded.owners[label]
        for key, owner in state.owners.items():
            if before.get(key) == owner:
                continue
            if key in before:
                freed.append({"l": label, "k": key})
            if owner is not None:
                made.append(dict(GATEWAY_LABEL=label, CLAIM=key, API_ID=owner))
    if freed:
        mine = (table.c.GATEWAY_LABEL == bindparam("l")) & (table.c.CLAIM == bindparam("k"))
        connection.execute(delete(table).where(mine), freed)
    if made:
        connection.execute(insert(table), made)


def _write_heads(connection: Connection, loaded: Loaded) -> None:
    table = schema.heads
    rows = [
        dict(
            l=label,
            REVISION=state.head.revision,
            DIGEST=state.head.digest.total,
            ARTIFACT_COUNT=state.head.digest.count,
        )
        for label, state in loaded.states.items()
    ]
    connection.execute(update(table).where(table.c.GATEWAY_LABEL == bindparam("l")), rows)


def _write_requests(
    connection: Connection, written: Sequence[tuple[SaveRequest, SaveOutcome]]
) -> None:
    rows = []
    for request, outcome in written:
        saved = SavedOutcome(
            tuple((each.label, each.revision) for each in outcome.change_sets), outcome.heads
        )
        rows.append(
            dict(
                IDEMPOTENCY_KEY=request.key,
                FINGERPRINT=request.fingerprint,
                OUTCOME=msgspec.json.encode(saved).decode(),
                SAVED_AT=request.published_at,
            )
        )
    connection.execute(insert(schema.requests), rows)
