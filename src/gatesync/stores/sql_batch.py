"""Writing a planned batch: a few statements, each for all rows of its kind."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Table,
    bindparam,
    delete,
)

from gatesync.artifacts.changes import Change, Head
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, Publish, SaveRequest
from gatesync.stores import schema
from gatesync.stores.sql_attestations import write_attestations
from gatesync.stores.sql_contents import insert_old, keep_old, write_artifacts
from gatesync.stores.sql_rows import pack_keys
from gatesync.stores.sql_trip import Trip
from gatesync.stores.store import SaveOutcome

__all__ = ["Loaded", "SavedOutcome", "write_batch"]


# Statements are built once: building one anew costs more than SQLite takes to run it.


def _is(table: Table, *names: str) -> list[ColumnElement[bool]]:
    """The row whose columns are the parameters `b_NAME`."""
    return [table.c[name] == bindparam(f"b_{name}") for name in names]


_DELETE_CLAIMS: Final = delete(schema.claims).where(*_is(schema.claims, "GATEWAY_LABEL", "CLAIM"))
_DELETE_REFERENCES: Final = delete(schema.references).where(
    *_is(schema.references, "GATEWAY_LABEL", "CLAIM", "API_ID")
)


class SavedOutcome(msgspec.Struct, frozen=True):
    """What GS_REQUEST remembers of a request: enough to give the same answer again."""

    change_sets: tuple[tuple[str, int], ...]
    heads: tuple[Head, ...]


class Loaded(msgspec.Struct):
    """What the database held of everything that the batch may touch.

    `states` and `identities` move with the plans; `known`, `rows`, `owners` and `references` (by
    label and api_id) stay as they are in the database.
    """

    states: dict[str, LabelState]
    identities: dict[str, Identity]
    known: frozenset[str]
    rows: dict[tuple[str, str], Any]
    owners: dict[str, dict[str, str]]
    references: dict[str, dict[str, frozenset[str]]]

    def move_on(self) -> None:
        """What the plans came to so far is in the database by now, but for rows to `rows`."""
        self.known = frozenset(self.identities)
        for label, state in self.states.items():
            self.owners[label] = {key: who for key, who in state.owners.items() if who is not None}
            self.references[label] = dict(state.references)


def write_batch(
    trip: Trip, loaded: Loaded, written: Sequence[tuple[SaveRequest, SaveOutcome]]
) -> None:
    """Write what was planned, with the trip's next run. Each answer stands beside its request.

    A batch may come in parts, none of which names an artifact of another.
    """
    contents = {
        item.entry.digest: item.content
        for request, _ in written
        for items in request.sets
        for item in items
        if isinstance(item, Publish)
    }
    _write_details(trip, loaded)
    _write_artifacts(trip, loaded, written, contents)
    _write_log(trip, written)
    write_attestations(trip, written)
    _write_claims(trip, loaded)
    _write_references(trip, loaded)
    _write_heads(trip, loaded)
    _write_requests(trip, written)
    loaded.move_on()


def _write_details(trip: Trip, loaded: Loaded) -> None:
    rows = [
        dict(
            API_ID=api_id,
            TENANT_DOMAIN=identity.tenant,
            KIND=identity.kind,
            API_NAME=identity.name,
            API_VERSION=identity.version,
        )
        for api_id, identity in sorted(loaded.identities.items())
        if api_id not in loaded.known
    ]
    trip.insert(schema.details, rows)


def _write_artifacts(
    trip: Trip,
    loaded: Loaded,
    written: Sequence[tuple[SaveRequest, SaveOutcome]],
    contents: dict[str, bytes],
) -> None:
    last: dict[tuple[str, str], Change] = {}
    revisions: dict[tuple[str, str], int] = {}
    passing: set[tuple[str, str]] = set()  # published and overwritten within this batch
    for _, outcome in written:
        for change_set in outcome.change_sets:
            for change in change_set.changes:
                place = (change_set.label, change.entry.api_id)
                if place in last and last[place].entry.digest != change.entry.digest:
                    passing.add((change.entry.api_id, last[place].entry.digest))
                last[place] = change
                revisions[place] = change_set.revision
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    flipped: list[dict[str, Any]] = []
    for (label, api_id), change in last.items():
        row = _artifact_row(loaded.states[label], change, revisions[label, api_id])
        before = loaded.rows.get((label, api_id))
        if before is not None:
            row["ARTIFACT_NUMBER"] = before.ARTIFACT_NUMBER
            if before.DIGEST == row["DIGEST"]:
                flipped.append(row)
                continue
        row["ARTIFACT"] = contents[row["DIGEST"]]
        (new if before is None else changed).append(row)
    if passing:
        insert_old(
            trip.connection, {each: contents[each[1]] for each in passing if each[1] in contents}
        )
    if changed:
        places = ((row["GATEWAY_LABEL"], row["API_ID"]) for row in changed)
        keep_old(trip.connection, {place: loaded.rows[place].DIGEST for place in places})
    write_artifacts(trip, new, changed, flipped)


def _artifact_row(state: LabelState, change: Change, revision: int) -> dict[str, Any]:
    api_id = change.entry.api_id
    return dict(
        GATEWAY_LABEL=state.head.label,
        API_ID=api_id,
        GATEWAY_INSTRUCTION=change.instruction.value,
        REVISION=revision,
        DIGEST=change.entry.digest,
        CONTENT_SIZE=change.entry.size,
        CONTEXT=change.entry.context,
        CLAIMS=pack_keys(state.claims.get(api_id, ())),
        NEEDS=pack_keys(state.references.get(api_id, ())),
    )


def _write_log(trip: Trip, written: Sequence[tuple[SaveRequest, SaveOutcome]]) -> None:
    sets, changes = [], []
    for request, outcome in written:
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
                    AUTHOR=request.author,
                    ORIGIN=request.origin,
                )
            )
            changes += [
                dict(
                    GATEWAY_LABEL=each.label,
                    API_ID=change.entry.api_id,
                    REVISION=each.revision,
                    ORDINAL=ordinal,
                    GATEWAY_INSTRUCTION=change.instruction.value,
                    DIGEST=change.entry.digest,
                    CONTENT_SIZE=change.entry.size,
                    CONTEXT=change.entry.context,
                )
                for ordinal, change in enumerate(each.changes)
            ]
    trip.insert(schema.change_sets, sets)
    trip.insert(schema.changes, changes)


def _write_claims(trip: Trip, loaded: Loaded) -> None:
    freed, made = [], []
    for label, state in loaded.states.items():
        before = loaded.owners[label]
        for key, owner in state.owners.items():
            if before.get(key) == owner:
                continue
            if key in before:
                freed.append({"b_GATEWAY_LABEL": label, "b_CLAIM": key})
            if owner is not None:
                made.append(dict(GATEWAY_LABEL=label, CLAIM=key, API_ID=owner))
    if freed:
        trip.connection.execute(_DELETE_CLAIMS, freed)
    trip.insert(schema.claims, made)


def _write_references(trip: Trip, loaded: Loaded) -> None:
    dropped, made = [], []
    for label, state in loaded.states.items():
        before = loaded.references[label]
        for api_id, keys in state.references.items():
            had = before.get(api_id, frozenset())
            dropped += [
                {"b_GATEWAY_LABEL": label, "b_CLAIM": key, "b_API_ID": api_id} for key in had - keys
            ]
            made += [dict(GATEWAY_LABEL=label, CLAIM=key, API_ID=api_id) for key in keys - had]
    if dropped:
        trip.connection.execute(_DELETE_REFERENCES, dropped)
    trip.insert(schema.references, made)


def _write_heads(trip: Trip, loaded: Loaded) -> None:
    rows = [
        dict(
            GATEWAY_LABEL=label,
            REVISION=state.head.revision,
            DIGEST=state.head.digest.total,
            ARTIFACT_COUNT=state.head.digest.count,
        )
        for label, state in loaded.states.items()
    ]
    trip.update(schema.heads, rows)


def _write_requests(trip: Trip, written: Sequence[tuple[SaveRequest, SaveOutcome]]) -> None:
    rows = []
    for request, outcome in sorted(written, key=lambda each: each[0].key):
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
    trip.insert(schema.requests, rows)
