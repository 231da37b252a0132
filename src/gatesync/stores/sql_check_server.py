"""What is wrong with a database server's settings: those that the store's promises rest on."""

from collections.abc import Iterator
from typing import Final

import msgspec
from sqlalchemy import Connection, text

__all__ = ["Finding", "server_findings"]

PACKET_BYTES: Final = 16 * 1024 * 1024
"""An artifact of 15 MiB with what is around it. MySQL's functions, such as the one that puts the
pieces of a large content together, make nothing larger than max_allowed_packet."""


class Finding(msgspec.Struct, frozen=True):
    """What is missing or wrong, and where: a table, `TABLE.COLUMN` or a server's setting.

    `mend` is a statement, where one alone mends it.
    """

    where: str
    what: str
    mend: str = ""


def server_findings(connection: Connection) -> Iterator[Finding]:
    """Ask the server for its settings."""
    if connection.dialect.name == "postgresql":
        yield from _postgresql(connection)
    elif connection.dialect.name in {"mysql", "mariadb"}:
        yield from _mysql(connection)


def _postgresql(connection: Connection) -> Iterator[Finding]:
    def setting(name: str) -> str:
        return str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}))

    encoding = setting("server_encoding")
    if encoding != "UTF8":
        yield Finding(
            "server_encoding",
            f"is {encoding}, which has not every letter; make the database anew, with UTF8",
        )
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        if setting(name) == "off":
            lost = "what was published may be gone after a power cut; set it to on"
            yield Finding(name, f"is off: {lost}")


def _mysql(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        text(
            "SELECT @@max_allowed_packet AS packet, @@innodb_flush_log_at_trx_commit AS flush_log,"
            " @@log_bin AS log_bin, @@binlog_format AS binlog_format"
        )
    ).one()
    if row.packet < PACKET_BYTES:
        yield Finding(
            "max_allowed_packet",
            f"is {row.packet} bytes, too few for large artifacts; write it into my.cnf, too",
            f"SET GLOBAL max_allowed_packet = {PACKET_BYTES}",
        )
    if row.flush_log != 1:
        yield Finding(
            "innodb_flush_log_at_trx_commit",
            f"is {row.flush_log}: what was published may be gone after a crash; set it to 1",
        )
    if row.log_bin and row.binlog_format == "STATEMENT":
        yield Finding(
            "binlog_format", "is STATEMENT, with which InnoDB refuses READ COMMITTED; set it to ROW"
        )
    engines = text(
        "SELECT table_name AS name, engine AS kind FROM information_schema.tables WHERE"
        " table_schema = DATABASE() AND engine <> 'InnoDB' AND (table_name LIKE 'AM\\_GW\\_%'"
        " OR table_name LIKE 'GS\\_%') ORDER BY table_name"
    )
    for table in connection.execute(engines):
        yield Finding(
            table.name,
            f"is a table of {table.kind}, which has no transactions",
            f"ALTER TABLE {table.name} ENGINE = InnoDB",
        )
