"""Appending to the logs: one transaction for a batch of requests.

    lock the heads → load what the batch may touch → plan each request → write in batches

Everything here runs inside the caller's transaction, on one connection.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Column, Connection, Row, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql

from gatesync.artifacts.changes import Confirmation, Entry, Head, Instruction
from gatesync.artifacts.model import Identity
from gatesync.artifacts.planning import LabelState, SaveRequest, touched
from gatesync.stores import schema
from gatesync.stores.sql_batch import Loaded, SavedOutcome, write_batch
from gatesync.stores.sql_read import (
    chunked,
    entry_of,
    head_of,
    identity_of,
    read_change_set,
    read_heads,
)
from gatesync.stores.sql_rows import Among, unpack_keys
from gatesync.stores.store import Refused, SaveOutcome, Sign, StoreError, key_used, outcome_of

__all__ = ["append", "lock_heads", "make_heads", "preview", "write_confirmation"]

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
_CLAIMS_WANTED: Final = _among(schema.claims, "CLAIM", schema.claims.c)
_REFERRERS: Final = _among(schema.references, "CLAIM", schema.references.c)
_IDENTITIES: Final = Among(select(schema.details), schema.details.c.API_ID)
_REQUESTS: Final = Among(select(schema.requests), schema.requests.c.IDEMPOTENCY_KEY)
_LOCK_HEADS: Final = (
    select(schema.heads)
    .where(schema.heads.c.GATEWAY_LABEL.in_(bindparam("values", expanding=True)))
    .order_by(schema.heads.c.GATEWAY_LABEL)
    # A scan of the table would wait for the labels of others, too.
    .with_hint(schema.heads, "FORCE INDEX (PRIMARY)", "mysql")
    .with_hint(schema.heads, "FORCE INDEX (PRIMARY)", "mariadb")
    .with_for_update()
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
) -> list[SaveOutcome | Refused]:
    """Plan and write a batch. What is planned is written, whole; what is refused is not there."""
    heads = lock_heads(connection, epoch, _labels_of(requests))  # promise 2: in commit order
    known = _answered_before(connection, epoch, {request.key for request in requests})
    fresh: dict[str, SaveRequest] = {}
    for request in requests:
        if request.key not in known:
            fresh.setdefault(request.key, request)  # of two with one key, the first is planned
    loaded = _load(connection, heads, list(fresh.values()))
    written: list[tuple[SaveRequest, SaveOutcome]] = []
    for request in fresh.values():
        outcome = outcome_of(request, loaded.states, loaded.identities, sign)
        known[request.key] = request.fingerprint, outcome
        if isinstance(outcome, SaveOutcome):
            written.append((request, outcome))
    if written:
        write_batch(connection, loaded, written)
    return [_answer(request, known) for request in requests]


def preview(
    connection: Connection, epoch: str, requests: Sequence[SaveRequest]
) -> list[SaveOutcome | Refused]:
    """Plan a batch as `append` would, one request on top of the other, and write nothing."""
    heads = read_heads(connection, epoch, _labels_of(requests))
    loaded = _load(connection, heads, requests)
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
    heads = {
        row.GATEWAY_LABEL: head_of(row, epoch)
        for some in chunked(labels)
        for row in connection.execute(_LOCK_HEADS, {"values": some})
    }
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


def _answered_before(connection: Connection, epoch: str, keys: Collection[str]) -> _Known:
    known: _Known = {}
    for row in _REQUESTS.rows(connection, keys):
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


def _load(
    connection: Connection, heads: dict[str, Head], requests: Sequence[SaveRequest]
) -> Loaded:
    """Read what the batch may touch."""
    asked = touched(requests)
    named = {label: asked[label][0] if label in asked else set() for label in heads}
    wanted = {label: asked[label][1] if label in asked else set() for label in heads}
    rows = {
        (label, row.API_ID): row
        for label, ids in named.items()
        for row in _ARTIFACTS.rows(connection, ids, label=label)
    }
    there: dict[str, list[Row[Any]]] = {label: [] for label in heads}
    for (label, _), row in rows.items():
        there[label].append(row)
    claims = {
        label: _load_claims(connection, label, there[label], wanted[label]) for label in heads
    }
    references = {
        label: _load_references(
            connection,
            label,
            there[label],
            {key for keys in claims[label][1].values() for key in keys},
        )
        for label in heads
    }
    everyone = {api_id for ids in named.values() for api_id in ids}
    everyone |= {owner for owners, _ in claims.values() for owner in owners.values()}
    everyone |= {
        api_id
        for _, referrers in references.values()
        for ids in referrers.values()
        for api_id in ids
    }
    identities = _load_identities(connection, everyone)
    entries: dict[str, dict[str, Entry]] = {label: {} for label in heads}
    for (label, api_id), row in rows.items():
        if Instruction.PUBLISH.value == row.GATEWAY_INSTRUCTION:
            entries[label][api_id] = entry_of(row, identities[api_id])
    return Loaded(
        states={
            label: LabelState(head, entries[label], *claims[label], *references[label])
            for label, head in heads.items()
        },
        identities=identities,
        known=frozenset(identities),
        rows=rows,
        owners={label: dict(owners) for label, (owners, _) in claims.items()},
        references={label: dict(needed) for label, (needed, _) in references.items()},
    )


def _load_claims(
    connection: Connection, label: str, rows: Iterable[Row[Any]], keys: set[str]
) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Who owns what these artifacts hold, or want: owners by claim, and claims by owner."""
    owned = {row.API_ID: unpack_keys(row.CLAIMS) for row in rows}
    owners = {key: api_id for api_id, held in owned.items() for key in held}
    for row in _CLAIMS_WANTED.rows(connection, keys - owners.keys(), label=label):
        owners[row.CLAIM] = row.API_ID
    return owners, owned


def _load_references(
    connection: Connection, label: str, rows: Iterable[Row[Any]], claims: set[str]
) -> tuple[dict[str, frozenset[str]], dict[str, set[str]]]:
    """What these artifacts need, by api_id, and who needs what they need or claim, by claim."""
    needed = {row.API_ID: unpack_keys(row.NEEDS) for row in rows}
    referrers: dict[str, set[str]] = {}
    for api_id, keys in needed.items():
        for key in keys:
            referrers.setdefault(key, set()).add(api_id)
    for row in _REFERRERS.rows(connection, claims, label=label):
        referrers.setdefault(row.CLAIM, set()).add(row.API_ID)
    return needed, referrers


def _load_identities(connection: Connection, api_ids: set[str]) -> dict[str, Identity]:
    return {row.API_ID: identity_of(row) for row in _IDENTITIES.rows(connection, api_ids)}
