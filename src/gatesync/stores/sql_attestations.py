"""What is kept of signed change sets: written with them, read in pages, forgotten last.

Plain functions on one connection, inside the caller's transaction.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, func, select

from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.planning import SaveRequest
from gatesync.artifacts.signatures import Attestation, Signature, attestation_of
from gatesync.stores import schema
from gatesync.stores.sql_trip import Trip
from gatesync.stores.store import SaveOutcome, count_in_page

__all__ = ["forget_attestations", "read_attestations", "write_attestations"]

_attestations = schema.attestations


def write_attestations(trip: Trip, written: Sequence[tuple[SaveRequest, SaveOutcome]]) -> None:
    """Keep an attestation of each change set that is signed; where none is, nothing is done."""
    kept = [
        (each.label, attestation_of(each))
        for _, outcome in written
        for each in outcome.change_sets
        if each.signature is not None
    ]
    rows = [
        dict(
            GATEWAY_LABEL=label,
            REVISION=each.revision,
            PREVIOUS_REVISION=each.previous,
            DIGEST=each.digest.total,
            ARTIFACT_COUNT=each.digest.count,
            KEY_ID=each.signature.key_id,
            SIGNATURE=each.signature.value,
            LEAVES=each.leaves,
        )
        for label, each in kept
    ]
    trip.insert(_attestations, rows)


def read_attestations(
    connection: Connection, label: str, after: int, limit: int
) -> tuple[Attestation, ...]:
    """See `Retriever.attestations`."""
    mine = (_attestations.c.GATEWAY_LABEL == label) & (_attestations.c.REVISION > after)
    # How long the leaves are is asked first: those of 5,000 change sets may be gigabytes.
    lengths = select(_attestations.c.REVISION, func.length(_attestations.c.LEAVES).label("SIZE"))
    in_order = lengths.where(mine).order_by(_attestations.c.REVISION).limit(limit)
    found = connection.execute(in_order).all()
    if not found:
        return ()
    last = found[count_in_page([row.SIZE for row in found]) - 1].REVISION
    page = select(_attestations).where(mine, _attestations.c.REVISION <= last)
    return tuple(
        Attestation(
            revision=row.REVISION,
            previous=row.PREVIOUS_REVISION,
            digest=LabelDigest(row.DIGEST, row.ARTIFACT_COUNT),
            leaves=bytes(row.LEAVES),
            signature=Signature(row.KEY_ID, bytes(row.SIGNATURE)),
        )
        for row in connection.execute(page.order_by(_attestations.c.REVISION))
    )


def forget_attestations(connection: Connection, label: str, floor: int) -> None:
    """Drop those below the floor that no change proves any more which is kept.

    To be called when changes up to the floor that the state there is not made of are gone.
    """
    changes = schema.changes
    needed = exists().where(
        changes.c.GATEWAY_LABEL == _attestations.c.GATEWAY_LABEL,
        changes.c.REVISION == _attestations.c.REVISION,
    )
    below = (_attestations.c.GATEWAY_LABEL == label) & (_attestations.c.REVISION < floor)
    connection.execute(delete(_attestations).where(below, ~needed))
