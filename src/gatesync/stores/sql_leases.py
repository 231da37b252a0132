"""Leases in the store's database: one table, judged by the database's own clock."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, insert, select, text, update

from gatesync.stores.leases import Lease, LeaseRecord, stands, taken
from gatesync.stores.schema import leases

__all__ = ["acquire", "release", "renew"]

_MYSQL_NOW: Final = "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(3)) DIV 1000"
_NOW: Final[Mapping[str, str]] = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    "mysql": _MYSQL_NOW,
    "mariadb": _MYSQL_NOW,
}
"""Milliseconds since 1970 when the statement runs; a transaction may have waited for its row."""


def acquire(connection: Connection, name: str, holder: str, seconds: float) -> Lease:
    """See `KeepsLeases.acquire_lease`."""
    before = _locked(connection, name)
    record = taken(before, holder, seconds, _now(connection))
    if before is None:
        connection.execute(insert(leases).values(LEASE_NAME=name, **_row(record)))
    elif record is not before:
        _write(connection, name, record)
    return Lease(name, record.holder, record.term)


def renew(connection: Connection, lease: Lease, seconds: float) -> bool:
    """See `KeepsLeases.renew_lease`."""
    before = _locked(connection, lease.name)
    if before is None or not stands(before, lease):
        return False
    _write(connection, lease.name, taken(before, lease.holder, seconds, _now(connection)))
    return True


def release(connection: Connection, lease: Lease) -> None:
    """See `KeepsLeases.release_lease`."""
    before = _locked(connection, lease.name)
    if before is not None and stands(before, lease):
        connection.execute(update(leases).where(_is(lease.name)).values(LENGTH_MS=0))


def _locked(connection: Connection, name: str) -> LeaseRecord | None:
    row = connection.execute(select(leases).where(_is(name)).with_for_update()).first()
    if row is None:
        return None
    return LeaseRecord(row.HOLDER, row.TERM, row.RENEWED_AT, row.LENGTH_MS)


def _write(connection: Connection, name: str, record: LeaseRecord) -> None:
    connection.execute(update(leases).where(_is(name)).values(**_row(record)))


def _row(record: LeaseRecord) -> dict[str, Any]:
    return dict(
        HOLDER=record.holder,
        TERM=record.term,
        RENEWED_AT=record.renewed_at,
        LENGTH_MS=record.length,
    )


def _is(name: str) -> Any:
    return leases.c.LEASE_NAME == name


def _now(connection: Connection) -> int:
    return int(connection.execute(text(_NOW[connection.dialect.name])).scalar_one())
