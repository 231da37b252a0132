"""Reading the logs: plain functions on one connection, inside the caller's transaction."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    func,
    literal_column,
    select,
)

from gatesync.artifacts.changes import (
    Change,
    ChangeSet,
    Confirmation,
    Cursor,
    Entry,
    Head,
    Instruction,
)
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest
from gatesync.artifacts.model import Identity
from gatesync.artifacts.signatures import Signature
from gatesync.stores import schema
from gatesync.stores.sql_rows import IN_VALUES, Among
from gatesync.stores.store import Behind, Delta, TooOld

__all__ = [
    "chunked",
    "entry_of",
    "head_and_floor",
    "head_at",
    "head_of",
    "identity_columns",
    "identity_of",
    "is_published",
    "latest",
    "read_change_set",
    "read_change_sets",
    "read_changes",
    "read_contents",
    "read_digest_at",
    "read_heads",
    "read_labels",
    "read_sizes",
    "signature_of",
    "until",
]

DELTA_MAX: Final = 10_000  # beyond that many changes a list is cheaper than the difference

_T = TypeVar("_T")


def _contents(table: Table) -> Among:
    return Among(select(table.c.DIGEST, table.c.ARTIFACT), table.c.DIGEST)


def _sizes(table: Table) -> Among:
    return Among(select(table.c.DIGEST, table.c.CONTENT_SIZE), table.c.DIGEST)


_CONTENTS_HELD: Final = _contents(schema.artifacts)
_CONTENTS_OLD: Final = _contents(schema.old_contents)
_SIZES_HELD: Final = _sizes(schema.artifacts)
_SIZES_OLD: Final = _sizes(schema.old_contents)


def chunked(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut into slices that fit one IN list."""
    for start in range(0, len(values), IN_VALUES):
        yield values[start : start + IN_VALUES]


def read_labels(connection: Connection, epoch: str) -> list[Head]:
    """Every used label's head, in the order of the labels.

    A row at revision 0 may only be what a refused request left.
    """
    table = schema.heads
    used = (table.c.REVISION > 0) | table.c.CONFIRMATION_ID.is_not(None)
    rows = connection.execute(select(table).where(used).order_by(table.c.GATEWAY_LABEL))
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
    head, floor = head_and_floor(connection, epoch, label)
    if since.epoch != epoch:
        raise TooOld(f"label {label!r}: epoch {since.epoch} is not this store's ({epoch})")
    if since.revision < floor:
        raise TooOld(f"label {label!r} keeps changes since revision {floor} only")
    if since.revision > head.revision:
        raise Behind(head, since)
    table = schema.changes
    missed = _with_identity().where(
        table.c.GATEWAY_LABEL == label,
        table.c.REVISION > since.revision,
        table.c.REVISION <= head.revision,
    )
    found = connection.execute(missed.order_by(table.c.REVISION).limit(DELTA_MAX + 1)).all()
    if len(found) > DELTA_MAX:
        raise TooOld(f"label {label!r} has more than {DELTA_MAX} changes since; list it instead")
    rows = {row.API_ID: row for row in found}.values()  # the last change of each artifact
    removed = [row.API_ID for row in rows if not is_published(row)]
    held = _held(connection, label, since.revision, removed)
    changes = [
        Change(Instruction.PUBLISH, entry_of(row, identity_of(row)))
        for row in rows
        if is_published(row)
    ]
    changes += [Change(Instruction.REMOVE, entry) for entry in held.values()]
    return Delta(since.revision, head, tuple(changes))


def read_digest_at(
    connection: Connection, epoch: str, label: str, cursor: Cursor
) -> LabelDigest | None:
    """See `Retriever.digest_at`. Change sets are kept longer than the changes in them."""
    if cursor.epoch != epoch:
        return None
    if cursor.revision == 0:
        return EMPTY_LABEL
    table = schema.change_sets
    mine = (table.c.GATEWAY_LABEL == label) & (table.c.REVISION == cursor.revision)
    row = connection.execute(select(table).where(mine)).first()
    return None if row is None else LabelDigest(row.DIGEST, row.ARTIFACT_COUNT)


def read_contents(connection: Connection, digests: Collection[str]) -> dict[str, bytes]:
    """See `Retriever.contents`.

    What is served now is looked up before what was: bytes only ever move that way, so that
    none are missed in between.
    """
    connection.execution_options(binary=True)  # as text, PostgreSQL sends bytes in hex
    found: dict[str, bytes] = {}
    for query in (_CONTENTS_HELD, _CONTENTS_OLD):
        missing = set(digests) - set(found)
        found.update((row.DIGEST, bytes(row.ARTIFACT)) for row in query.rows(connection, missing))
    return found


def read_sizes(connection: Connection, digests: Collection[str]) -> dict[str, int]:
    """See `Saver.sizes`. In the order in which bytes move, as contents are read."""
    found: dict[str, int] = {}
    for query in (_SIZES_HELD, _SIZES_OLD):
        missing = set(digests) - set(found)
        found.update((row.DIGEST, int(row.CONTENT_SIZE)) for row in query.rows(connection, missing))
    return found


def read_change_sets(
    connection: Connection, epoch: str, label: str, since: int, limit: int
) -> list[ChangeSet]:
    """See `Saver.change_sets`."""
    table, changes, attested = schema.change_sets, schema.changes, schema.attestations
    floor = select(schema.heads.c.FLOOR).where(schema.heads.c.GATEWAY_LABEL == label)
    same = (attested.c.GATEWAY_LABEL == table.c.GATEWAY_LABEL) & (
        attested.c.REVISION == table.c.REVISION
    )
    kept = (
        select(table, attested.c.KEY_ID, attested.c.SIGNATURE)
        .outerjoin(attested, same)
        .where(
            table.c.GATEWAY_LABEL == label,
            since < table.c.REVISION,
            floor.scalar_subquery() < table.c.REVISION,  # from there down only digests are kept
        )
    )
    sets = connection.execute(kept.order_by(table.c.REVISION).limit(limit)).all()
    if not sets:
        return []
    first, last = sets[0].REVISION, sets[-1].REVISION
    removed = _removed(connection, label, first, last)
    mine = (changes.c.GATEWAY_LABEL == label) & changes.c.REVISION.between(first, last)
    found: dict[int, list[Change]] = {each.REVISION: [] for each in sets}
    in_order = _with_identity().where(mine).order_by(changes.c.REVISION, changes.c.ORDINAL)
    for row in connection.execute(in_order):
        if is_published(row):
            change = Change(Instruction.PUBLISH, entry_of(row, identity_of(row)))
        else:
            change = Change(Instruction.REMOVE, removed[row.API_ID, row.REVISION])
        found[row.REVISION].append(change)
    return [
        ChangeSet(
            label=label,
            epoch=epoch,
            revision=each.REVISION,
            previous=each.PREVIOUS_REVISION,
            changes=tuple(found[each.REVISION]),
            digest=LabelDigest(each.DIGEST, each.ARTIFACT_COUNT),
            published_at=each.PUBLISHED_AT,
            publisher=each.PUBLISHER,
            signature=signature_of(each.KEY_ID, each.SIGNATURE),
        )
        for each in sets
    ]


def read_change_set(
    connection: Connection, epoch: str, label: str, revision: int
) -> ChangeSet | None:
    """One change set, whole; None at the compaction floor and below it."""
    found = read_change_sets(connection, epoch, label, revision - 1, 1)
    return found[0] if found and found[0].revision == revision else None


def head_of(row: Row[Any], epoch: str) -> Head:
    """A row of GS_HEAD as a head."""
    confirmation = None
    if row.CONFIRMATION_ID is not None:
        signature = signature_of(row.CONFIRMATION_KEY_ID, row.CONFIRMATION_SIGNATURE)
        confirmation = Confirmation(row.CONFIRMATION_ID, epoch, row.CONFIRMED_REVISION, signature)
    digest = LabelDigest(row.DIGEST, row.ARTIFACT_COUNT)
    return Head(row.GATEWAY_LABEL, epoch, row.REVISION, digest, confirmation)


def signature_of(key_id: str | None, value: bytes | None) -> Signature | None:
    """A signature from its two columns."""
    return None if key_id is None or value is None else Signature(key_id, bytes(value))


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
        size=row.CONTENT_SIZE,
        revision=row.REVISION,
    )


def is_published(row: Row[Any]) -> bool:
    """Whether a row of the changes or artifacts table says that the artifact is there."""
    return bool(Instruction.PUBLISH.value == row.GATEWAY_INSTRUCTION)


def identity_columns() -> list[ColumnElement[str]]:
    """What `identity_of` needs of the details table."""
    table = schema.details
    return [table.c.TENANT_DOMAIN, table.c.KIND, table.c.API_NAME, table.c.API_VERSION]


def _with_identity() -> Select[Any]:
    changes, details = schema.changes, schema.details
    same = details.c.API_ID == changes.c.API_ID
    return select(*changes.c, *identity_columns()).join(details, same)


def latest(label: str, *within: ColumnElement[bool], limit: int | None = None) -> Select[Any]:
    """Each artifact's last change in the label within some bounds, in the order of the api_ids.

    The database walks an index and keeps the last of each artifact: asking of each change
    whether a newer one exists, PostgreSQL took a thousand times as long before it had statistics.

    Args:
        label: the label.
        within: what the changes are looked for among.
        limit: artifacts at most.
    """
    changes = schema.changes
    newest = (
        select(changes.c.API_ID, func.max(changes.c.REVISION).label("NEWEST"))
        .where(changes.c.GATEWAY_LABEL == label, *within)
        .group_by(changes.c.API_ID)
        .order_by(changes.c.API_ID)
        .limit(limit)
        .subquery()
    )
    return (
        _with_identity()
        .join(
            newest,
            (newest.c.API_ID == changes.c.API_ID) & (newest.c.NEWEST == changes.c.REVISION),
        )
        .where(changes.c.GATEWAY_LABEL == label)
        .order_by(changes.c.API_ID)
    )


def until(revision: int) -> ColumnElement[bool]:
    """Changes up to a revision, for `latest`: by a sum, since no index is to be walked for it."""
    # A database that takes the primary key for it has to sort the whole label for each page.
    return schema.changes.c.REVISION + literal_column("0") <= revision


def _held(
    connection: Connection, label: str, revision: int, api_ids: list[str]
) -> dict[str, Entry]:
    """What the label held of these at `revision`."""
    held: dict[str, Entry] = {}
    table = schema.changes
    for some in chunked(sorted(api_ids)):
        rows = connection.execute(latest(label, until(revision), table.c.API_ID.in_(some)))
        held.update(
            (row.API_ID, entry_of(row, identity_of(row))) for row in rows if is_published(row)
        )
    return held


def _removed(
    connection: Connection, label: str, first: int, last: int
) -> dict[tuple[str, int], Entry]:
    """What each removal from revision `first` to `last` took out, by api_id and revision."""
    published = schema.changes
    removal, earlier = published.alias(), published.alias()
    before = select(func.max(earlier.c.REVISION)).where(
        earlier.c.GATEWAY_LABEL == removal.c.GATEWAY_LABEL,
        earlier.c.API_ID == removal.c.API_ID,
        earlier.c.REVISION < removal.c.REVISION,
    )
    rows = (
        _with_identity()
        .add_columns(removal.c.REVISION.label("REMOVED_AT"))
        .join(removal, removal.c.API_ID == published.c.API_ID)
        .where(
            removal.c.GATEWAY_LABEL == label,
            removal.c.REVISION.between(first, last),
            removal.c.GATEWAY_INSTRUCTION == Instruction.REMOVE.value,
            published.c.GATEWAY_LABEL == label,
            published.c.REVISION == before.scalar_subquery(),
        )
    )
    return {
        (row.API_ID, row.REMOVED_AT): entry_of(row, identity_of(row))
        for row in connection.execute(rows)
    }


def head_and_floor(connection: Connection, epoch: str, label: str) -> tuple[Head, int]:
    """The label's head, and the revision down to which its log was compacted."""
    table = schema.heads
    row = connection.execute(select(table).where(table.c.GATEWAY_LABEL == label)).first()
    return (Head(label, epoch), 0) if row is None else (head_of(row, epoch), int(row.FLOOR))


def head_at(connection: Connection, epoch: str, label: str, revision: int, floor: int) -> Head:
    """The head that the label had at a revision. Raises `TooOld` where that is forgotten."""
    cursor = Cursor(epoch, revision)
    digest = read_digest_at(connection, epoch, label, cursor) if revision >= floor else None
    if digest is None:
        raise TooOld(f"label {label!r} was compacted past revision {revision}")
    return Head(label, epoch, revision, digest)
