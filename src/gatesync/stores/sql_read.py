"""Reading the logs: plain functions on one connection, inside the caller's transaction."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, exists, select

from gatesync.artifacts.changes import (
    Change,
    ChangeSet,
    Confirmation,
    Cursor,
    Entry,
    Head,
    Instruction,
)
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.model import Identity
from gatesync.stores import schema
from gatesync.stores.store import Behind, Delta, ManifestPage, TooOld

__all__ = [
    "chunked",
    "entry_of",
    "head_of",
    "identity_of",
    "read_change_set",
    "read_change_sets",
    "read_changes",
    "read_contents",
    "read_heads",
    "read_labels",
    "read_manifest_page",
]

IN_VALUES: Final = 500  # values in one IN list: some drivers stop at 999 parameters
DELTA_MAX: Final = 10_000  # beyond that many changes a list is cheaper than the difference


def chunked(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut into slices that fit one IN list."""
    for start in range(0, len(values), IN_VALUES):
        yield values[start : start + IN_VALUES]


def read_labels(connection: Connection, epoch: str) -> list[Head]:
    """Every label's head, in the order of the labels."""
    rows = connection.execute(select(schema.heads).order_by(schema.heads.c.GATEWAY_LABEL))
    return [head_of(row, epoch) for row in rows]


def read_heads(connection: Connection, epoch: str, labels: Collection[str]) -> dict[str, Head]:
    """The head of each label; revision 0 for one without a row."""
    table = schema.heads
    found = {label: Head(label, epoch) for label in labels}
    for some in chunked(sorted(found)):
        for row in connection.execute(select(table).where(table.c.GATEWAY_LABEL.in_(some))):
            found[row.GATEWAY_LABEL] = head_of(row, epoch)
    return found


def read_changes(connection: Connection, epoch: str, label: str, since: Cursor) -> Delta:
    """See `Retriever.changes`."""
    head, floor = _head_and_floor(connection, epoch, label)
    if since.epoch != epoch:
        raise TooOld(f"label {label!r}: epoch {since.epoch} is not this store's ({epoch})")
    if since.revision < floor:
        raise TooOld(f"label {label!r} keeps changes since revision {floor} only")
    if since.revision > head.revision:
        raise Behind(head, since)
    latest = _latest(label, head.revision).where(since.revision < schema.changes.c.REVISION)
    rows = connection.execute(latest.limit(DELTA_MAX + 1)).all()
    if len(rows) > DELTA_MAX:
        raise TooOld(f"label {label!r} has more than {DELTA_MAX} changes since; list it instead")
    removed = [row.API_ID for row in rows if not _published(row)]
    known = _held(connection, label, since.revision, removed)
    changes = tuple(
        Change(Instruction(row.GATEWAY_INSTRUCTION), entry_of(row, identity_of(row)))
        for row in rows
        if _published(row) or row.API_ID in known
    )
    return Delta(since.revision, head, changes)


def read_manifest_page(
    connection: Connection,
    epoch: str,
    label: str,
    *,
    at: Cursor | None,
    after: str,
    limit: int,
    at_least: Cursor | None,
) -> ManifestPage:
    """See `Retriever.manifest`."""
    head, floor = _head_and_floor(connection, epoch, label)
    for wanted in (at, at_least):
        if wanted is not None and (wanted.epoch != epoch or wanted.revision > head.revision):
            raise Behind(head, wanted)
    if at is not None and at.revision != head.revision:
        head = _head_at(connection, epoch, label, at.revision, floor)
    changes = schema.changes
    page = (
        _latest(label, head.revision)
        .where(changes.c.GATEWAY_INSTRUCTION == Instruction.PUBLISH.value)
        .where(after < changes.c.API_ID)
        .order_by(changes.c.API_ID)
        .limit(limit + 1)
    )
    rows = connection.execute(page).all()
    entries = tuple(entry_of(row, identity_of(row)) for row in rows[:limit])
    return ManifestPage(head, entries, entries[-1].api_id if len(rows) > limit else None)


def read_contents(connection: Connection, digests: Collection[str]) -> dict[str, bytes]:
    """See `Retriever.contents`.

    What is served now is looked up before what was: bytes only ever move that way, so that
    none are missed in between.
    """
    found: dict[str, bytes] = {}
    for table in (schema.artifacts, schema.old_contents):
        missing = sorted(set(digests) - set(found))
        for some in chunked(missing):
            query = select(table.c.DIGEST, table.c.ARTIFACT).where(table.c.DIGEST.in_(some))
            found.update((digest, bytes(content)) for digest, content in connection.execute(query))
    return found


def read_change_sets(
    connection: Connection, epoch: str, label: str, since: int, limit: int
) -> list[ChangeSet]:
    """See `Saver.change_sets`."""
    table = schema.change_sets
    query = (
        select(table.c.REVISION)
        .where(table.c.GATEWAY_LABEL == label, since < table.c.REVISION)
        .order_by(table.c.REVISION)
        .limit(limit)
    )
    found = (
        read_change_set(connection, epoch, label, revision)
        for revision in connection.scalars(query).all()
    )
    return [each for each in found if each is not None]


def read_change_set(
    connection: Connection, epoch: str, label: str, revision: int
) -> ChangeSet | None:
    """One change set, whole; None where it was compacted."""
    table, changes = schema.change_sets, schema.changes
    found = connection.execute(
        select(table).where(table.c.GATEWAY_LABEL == label, table.c.REVISION == revision)
    ).first()
    if found is None:
        return None
    mine = _with_identity().where(changes.c.GATEWAY_LABEL == label, changes.c.REVISION == revision)
    return ChangeSet(
        label=label,
        epoch=epoch,
        revision=revision,
        previous=found.PREVIOUS_REVISION,
        changes=tuple(
            Change(Instruction(row.GATEWAY_INSTRUCTION), entry_of(row, identity_of(row)))
            for row in connection.execute(mine)
        ),
        digest=LabelDigest(found.DIGEST, found.ARTIFACT_COUNT),
        published_at=found.PUBLISHED_AT,
        publisher=found.PUBLISHER,
    )


def head_of(row: Row[Any], epoch: str) -> Head:
    """A row of GS_HEAD as a head."""
    confirmation = None
    if row.CONFIRMATION_ID is not None:
        confirmation = Confirmation(row.CONFIRMATION_ID, epoch, row.CONFIRMED_REVISION)
    digest = LabelDigest(row.DIGEST, row.ARTIFACT_COUNT)
    return Head(row.GATEWAY_LABEL, epoch, row.REVISION, digest, confirmation)


def identity_of(row: Row[Any]) -> Identity:
    """The identity in a row that has the columns of the details table."""
    return Identity(row.TENANT_DOMAIN, row.KIND, row.API_NAME, row.API_VERSION)


def entry_of(row: Row[Any], identity: Identity) -> Entry:
    """The entry in a row of the changes or artifacts table."""
    return Entry(
        api_id=row.API_ID,
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context=row.CONTEXT,
        digest=row.DIGEST,
        size=row.SIZE,
        revision=row.REVISION,
    )


def _published(row: Row[Any]) -> bool:
    return bool(Instruction.PUBLISH.value == row.GATEWAY_INSTRUCTION)


def _with_identity() -> Select[Any]:
    changes, details = schema.changes, schema.details
    identity = (
        details.c.TENANT_DOMAIN,
        details.c.KIND,
        details.c.API_NAME,
        details.c.API_VERSION,
    )
    return select(*changes.c, *identity).join(details, details.c.API_ID == changes.c.API_ID)


def _latest(label: str, revision: int) -> Select[Any]:
    """Each artifact's last change in the label up to `revision`, one row an artifact."""
    changes = schema.changes
    newer = changes.alias()
    later = exists().where(
        newer.c.GATEWAY_LABEL == changes.c.GATEWAY_LABEL,
        newer.c.API_ID == changes.c.API_ID,
        newer.c.REVISION > changes.c.REVISION,
        revision >= newer.c.REVISION,
    )
    return _with_identity().where(
        changes.c.GATEWAY_LABEL == label, revision >= changes.c.REVISION, ~later
    )


def _held(connection: Connection, label: str, revision: int, api_ids: list[str]) -> set[str]:
    """Which of these the label held at `revision`."""
    held: set[str] = set()
    for some in chunked(sorted(api_ids)):
        rows = connection.execute(_latest(label, revision).where(schema.changes.c.API_ID.in_(some)))
        held.update(row.API_ID for row in rows if _published(row))
    return held


def _head_and_floor(connection: Connection, epoch: str, label: str) -> tuple[Head, int]:
    table = schema.heads
    row = connection.execute(select(table).where(table.c.GATEWAY_LABEL == label)).first()
    return (Head(label, epoch), 0) if row is None else (head_of(row, epoch), int(row.FLOOR))


def _head_at(connection: Connection, epoch: str, label: str, revision: int, floor: int) -> Head:
    if revision == 0 and floor == 0:
        return Head(label, epoch)
    table = schema.change_sets
    row = connection.execute(
        select(table).where(table.c.GATEWAY_LABEL == label, table.c.REVISION == revision)
    ).first()
    if row is None or revision < floor:
        raise TooOld(f"label {label!r} was compacted past revision {revision}")
    return Head(label, epoch, revision, LabelDigest(row.DIGEST, row.ARTIFACT_COUNT))
