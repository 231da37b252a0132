"""Appending to the logs: one transaction for a batch of requests.

    lock the heads → load what the batch may touch → plan each request → write in batches

Everything here runs inside the caller's transaction, on one connection.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import msgspec
from sqlalchemy import Column, Connection, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from gatesync.artifacts.changes import Confirmation, Entry, Head, Instruction
from gatesync.artifacts.planning import LabelState, Publish, SaveRequest, item_id, touched
from gatesync.stores import schema
from gatesync.stores.sql_batch import Loaded, SavedOutcome, write_batch
from gatesync.stores.sql_read import (
    entry_of,
    head_of,
    identity_of,
    read_change_set,
    read_heads,
)
from gatesync.stores.sql_rows import Among, unpack_keys
from gatesync.stores.sql_trip import Trip
from gatesync.stores.store import Refused, SaveOutcome, Sign, StoreError, key_used, outcome_of

__all__ = ["append", "lock_heads", "make_heads", "preview", "write_confirmation"]

PART_REQUESTS: Final = 22
"""A batch of 64 has three parts: of more there would be more statements than it is worth."""

# Statements are built once: building one anew costs more than SQLite takes to run it.


def _among(
    table: Table, name: str, columns: Iterable[Column[Any]], index: str = "PRIMARY"
) -> Among:
    """Rows of a label whose column is among some values."""
    # A label at a time: SQLite scans the table for pairs, MariaDB drops to a tenth for two INs.
    mine = select(*columns).where(table.c.GATEWAY_LABEL == bindparam("label"))
    for dialect in ("mysql", "mariadb"):
        # Of a young table they believe that reading all of a label is quicker.
        mine = mine.with_hint(table, f"FORCE INDEX ({index})", dialect)
    return Among(mine, table.c[name])


_LIGHT: Final = [column for column in schema.artifacts.c if column.name != "ARTIFACT"]
_ARTIFACTS: Final = _among(schema.artifacts, "API_ID", _LIGHT, "GS_ARTIFACT_PLACE")
_CLAIMS: Final = _among(schema.claims, "CLAIM", schema.claims.c)
_REFERRERS: Final = _among(schema.references, "CLAIM", schema.references.c)
_IDENTITIES: Final = Among(select(schema.details), schema.details.c.API_ID)
_REQUESTS: Final = Among(select(schema.requests), schema.requests.c.IDEMPOTENCY_KEY)
_LOCK_HEADS: Final = Among(
    select(schema.heads)
    .order_by(schema.heads.c.GATEWAY_LABEL)
    # A scan of the table would wait for the labels of others, too.
    .with_hint(schema.heads, "FORCE INDEX (PRIMARY)", "mysql")
    .with_hint(schema.heads, "FORCE INDEX (PRIMARY)", "mariadb")
    .with_for_update(),
    schema.heads.c.GATEWAY_LABEL,
    locking=True,
)
_NEW_HEAD: Final[dict[str, Any]] = {
    "REVISION": 0,
    "DIGEST": "0" * 64,
    "ARTIFACT_COUNT": 0,
    "FLOOR": 0,
}
_MAKE_HEADS: Final = (
    insert(schema.heads)
    .prefix_with("OR IGNORE", dialect="sqlite")
    .prefix_with("IGNORE", dialect="mysql")
    .prefix_with("IGNORE", dialect="mariadb")
)
_MAKE_HEADS_POSTGRESQL: Final = postgresql.insert(schema.heads).on_conflict_do_nothing()

# By idempotency key: the fingerprint of what was asked, and the answer.
_Known: TypeAlias = dict[str, tuple[str, SaveOutcome | Refused]]


def append(
    connection: Connection,
    epoch: str,
    requests: Sequence[SaveRequest],
    sign: Sign | None = None,
    *,
    look_up: bool = True,
) -> list[SaveOutcome | Refused]:
    """Plan and write a batch. What is planned is written, whole; what is refused is not there.

    Args:
        connection: in the transaction that is to have it all.
        epoch: the store's.
        requests: the batch.
        sign: what signs each change set.
        look_up: whether to ask who owns the claimed names, and which keys were used. Without, all
            are taken to be free, as most are: where one is not, the database refuses the rows
            (`IntegrityError`), and the batch is to be done again, looking.
    """
    labels = _labels_of(requests)
    trip = Trip(connection)
    locked = trip.ask(_LOCK_HEADS, labels)  # first of all, promise 2: in commit order
    answered = trip.ask(_REQUESTS, {request.key for request in requests} if look_up else ())
    asked = _ask(trip, requests, look_up=look_up)
    trip.run()
    known = _answered_before(connection, epoch, answered)
    fresh: dict[str, SaveRequest] = {}
    for request in requests:
        if request.key not in known:
            fresh.setdefault(request.key, request)  # of two with one key, the first is planned
    loaded = _load(connection, _heads_of(locked, epoch, labels), asked)
    try:
        for some in _parts(list(fresh.values())):
            written: list[tuple[SaveRequest, SaveOutcome]] = []
            for request in some:
                outcome = outcome_of(request, loaded.states, loaded.identities, sign)
                known[request.key] = request.fingerprint, outcome
                if isinstance(outcome, SaveOutcome):
                    written.append((request, outcome))
                elif not look_up:
                    _raise_in_doubt(trip)
            if written:
                write_batch(trip, loaded, written)
                trip.start()
        trip.run()
    except BaseException:  # whatever ends it: nothing may stay under way on the connection
        trip.give_up()
        raise
    return [_answer(request, known) for request in requests]


def _raise_in_doubt(trip: Trip) -> NoReturn:
    """What is refused was perhaps carried out before, and removed what it asked for: look."""
    trip.run()  # the connection is needed for that
    reason = "a request may have been carried out before"
    raise IntegrityError(reason, None, LookupError(reason))


def _parts(requests: Sequence[SaveRequest]) -> Iterator[Sequence[SaveRequest]]:
    """Parts that the database can work at while the next is planned; no artifact is in two."""
    named = [item_id(item) for each in requests for items in each.sets for item in items]
    size = PART_REQUESTS if len(set(named)) == len(named) else len(requests)
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


def preview(
    connection: Connection, epoch: str, requests: Sequence[SaveRequest]
) -> list[SaveOutcome | Refused]:
    """Plan a batch as `append` would, one request on top of the other, and write nothing."""
    heads = read_heads(connection, epoch, _labels_of(requests))
    trip = Trip(connection)
    asked = _ask(trip, requests, look_up=True)
    trip.run()
    loaded = _load(connection, heads, asked)
    return [outcome_of(request, loaded.states, loaded.identities) for request in requests]


def _labels_of(requests: Iterable[SaveRequest]) -> list[str]:
    return sorted({label for each in requests for label in each.labels}, key=str.encode)


def make_heads(connection: Connection, labels: Iterable[str]) -> None:
    """Make the head rows that are missing: in a transaction of its own, before they are locked."""
    is_postgresql = connection.dialect.name == "postgresql"
    rows = [dict(_NEW_HEAD, GATEWAY_LABEL=label) for label in sorted(labels, key=str.encode)]
    connection.execute(_MAKE_HEADS_POSTGRESQL if is_postgresql else _MAKE_HEADS, rows)


def lock_heads(connection: Connection, epoch: str, labels: Sequence[str]) -> dict[str, Head]:
    """Lock the head rows, in byte order of the label.

    The order is what keeps two publishers from waiting for each other in a circle.
    """
    trip = Trip(connection)
    locked = trip.ask(_LOCK_HEADS, labels)
    trip.run()
    return _heads_of(locked, epoch, labels)


def _heads_of(rows: Iterable[Any], epoch: str, labels: Sequence[str]) -> dict[str, Head]:
    heads = {row.GATEWAY_LABEL: head_of(row, epoch) for row in rows}
    for label in labels:
        if label not in heads:
            raise StoreError("a label has lost its head row; repeat the request")
    return heads


def write_confirmation(connection: Connection, label: str, confirmation: Confirmation) -> None:
    """Write what an operator confirmed of a label whose head is locked."""
    signature = confirmation.signature
    connection.execute(
        update(schema.heads)
        .where(schema.heads.c.GATEWAY_LABEL == label)
        .values(
            CONFIRMATION_ID=confirmation.id,
            CONFIRMED_REVISION=confirmation.revision,
            CONFIRMATION_KEY_ID=signature.key_id if signature else None,
            CONFIRMATION_SIGNATURE=signature.value if signature else None,
        )
    )


def _answered_before(connection: Connection, epoch: str, rows: Iterable[Any]) -> _Known:
    known: _Known = {}
    for row in rows:
        saved = msgspec.json.decode(row.OUTCOME, type=SavedOutcome)
        sets = (read_change_set(connection, epoch, *each) for each in saved.change_sets)
        kept = tuple(each for each in sets if each is not None)
        outcome = SaveOutcome(kept, saved.heads, repeated=True)
        known[row.IDEMPOTENCY_KEY] = row.FINGERPRINT, outcome
    return known


def _answer(request: SaveRequest, known: _Known) -> SaveOutcome | Refused:
    """Answer a request; whoever has its key after it in the batch repeats it."""
    fingerprint, answer = known[request.key]
    if fingerprint != request.fingerprint:
        return key_used(request.key)
    if isinstance(answer, SaveOutcome):
        repeated = msgspec.structs.replace(answer, repeated=True)
        known[request.key] = fingerprint, repeated
    return answer


class _Asked(msgspec.Struct):
    """Rows of what the requests name: all of it is asked for at once. By label, but identities."""

    artifacts: dict[str, list[Any]]
    claims: dict[str, list[Any]]
    identities: list[Any]


def _ask(trip: Trip, requests: Sequence[SaveRequest], *, look_up: bool) -> _Asked:
    asked = touched(requests)
    api_ids = {api_id for named, _ in asked.values() for api_id in named}
    needed = {
        reference.key
        for request in requests
        for items in request.sets
        for item in items
        if isinstance(item, Publish)
        for reference in item.references
    }
    return _Asked(
        artifacts={
            label: trip.ask(_ARTIFACTS, named, label=label) for label, (named, _) in asked.items()
        },
        claims={
            label: trip.ask(_CLAIMS, wanted if look_up else wanted & needed, label=label)
            for label, (_, wanted) in asked.items()
        },
        identities=trip.ask(_IDENTITIES, api_ids),
    )


def _load(connection: Connection, heads: dict[str, Head], asked: _Asked) -> Loaded:
    """Put together what the batch may touch; ask for what those rows lead to, too."""
    rows = {(label, row.API_ID): row for label, found in asked.artifacts.items() for row in found}
    claims: dict[str, dict[str, frozenset[str]]] = {label: {} for label in heads}
    needs: dict[str, dict[str, frozenset[str]]] = {label: {} for label in heads}
    for (label, api_id), row in rows.items():
        claims[label][api_id] = unpack_keys(row.CLAIMS)
        needs[label][api_id] = unpack_keys(row.NEEDS)
    owners = {
        label: {row.CLAIM: row.API_ID for row in asked.claims.get(label, ())} for label in heads
    }
    trip = Trip(connection)
    needing: dict[str, list[Any]] = {}
    referrers: dict[str, dict[str, set[str]]] = {label: {} for label in heads}
    for label in heads:
        held = {key: api_id for api_id, keys in claims[label].items() for key in keys}
        owners[label].update(held)
        needing[label] = trip.ask(_REFERRERS, held, label=label)
        for api_id, keys in needs[label].items():
            for key in keys:
                referrers[label].setdefault(key, set()).add(api_id)
    trip.run()
    for label, found in needing.items():
        for row in found:
            referrers[label].setdefault(row.CLAIM, set()).add(row.API_ID)
    identities = {row.API_ID: identity_of(row) for row in asked.identities}
    others = {api_id for found in owners.values() for api_id in found.values()}
    others |= {api_id for found in referrers.values() for ids in found.values() for api_id in ids}
    rest = trip.ask(_IDENTITIES, others - identities.keys())
    trip.run()
    identities.update((row.API_ID, identity_of(row)) for row in rest)
    entries: dict[str, dict[str, Entry]] = {label: {} for label in heads}
    for (label, api_id), row in rows.items():
        if Instruction.PUBLISH.value == row.GATEWAY_INSTRUCTION:
            entries[label][api_id] = entry_of(row, identities[api_id])
    return Loaded(
        states={
            label: LabelState(
                head, entries[label], owners[label], claims[label], needs[label], referrers[label]
            )
            for label, head in heads.items()
        },
        identities=identities,
        known=frozenset(identities),
        rows=rows,
        owners=owners,
        references=needs,
    )
