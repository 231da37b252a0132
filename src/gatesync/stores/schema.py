"""The tables of the SQL store: one set of definitions for every database.

`AM_GW_PUBLISHED_API_DETAILS` and `AM_GW_API_ARTIFACTS` are WSO2's, with columns of our own
added: they say what is served now. The log beside them says how it came to that: one head row a
label, locked by whoever appends, and one row a change. Names of 255 follow WSO2's scripts.

Text is compared byte by byte everywhere, and never padded: labels and names that differ in case,
accents or a space at the end stay apart. Identifiers are never quoted, so that each database
folds them as it does in WSO2's scripts.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql
from sqlalchemy.types import TypeEngine

__all__ = [
    "SCHEMA_FORMAT",
    "UPGRADABLE",
    "artifacts",
    "attestations",
    "change_sets",
    "changes",
    "claims",
    "details",
    "heads",
    "issued_heads",
    "leases",
    "metadata",
    "old_contents",
    "receipts",
    "references",
    "requests",
    "stores",
    "taken_over",
]

SCHEMA_FORMAT: Final = 6
UPGRADABLE: Final = frozenset({4, 5})
"""Older formats that `sql_upgrade` brings to this one."""

ARTIFACT_BYTES: Final = 16 * 1024 * 1024 - 1  # a MEDIUMBLOB; 64 KiB BLOBs overflow in the field

MSSQL_COLLATION: Final = "Latin1_General_100_BIN2_UTF8"

metadata = MetaData()


def _text(length: int) -> TypeEngine[str]:
    """Any characters."""
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(
            mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql"
        )
        .with_variant(
            mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mariadb"
        )
        .with_variant(mssql.VARCHAR(length, collation=MSSQL_COLLATION), "mssql")
    )


def _ascii(length: int) -> TypeEngine[str]:
    """What we make ourselves: digests in hex, UUIDs, instructions. Short in an index."""
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(
            mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
        )
        .with_variant(mssql.VARCHAR(length, collation=MSSQL_COLLATION), "mssql")
    )


NAME: Final = _text(255)
KIND: Final = _text(50)
DIGEST: Final = _ascii(64)
UUID: Final = _ascii(36)
INSTRUCTION: Final = _ascii(20)
CONTENT: Final = (
    LargeBinary(ARTIFACT_BYTES)
    .with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
    .with_variant(LargeBinary(), "mssql")
)
KEYS: Final = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
SIGNATURE: Final = LargeBinary(64).with_variant(mysql.VARBINARY(64), "mysql", "mariadb")
KEY_ID: Final = _ascii(16)
LARGE_TEXT: Final = (
    Text()
    .with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
    .with_variant(Text(collation=MSSQL_COLLATION), "mssql")
)
TIME: Final = (
    DateTime()
    .with_variant(mysql.TIMESTAMP(), "mysql", "mariadb")
    .with_variant(oracle.TIMESTAMP(), "oracle")
)
COUNTER: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGERs only


def _table(name: str, *items: Column[Any] | Index, within: MetaData = metadata) -> Table:
    options = {"engine": "InnoDB", "charset": "utf8mb4", "row_format": "DYNAMIC"}
    known: dict[str, Any] = {
        f"{dialect}_{option}": value
        for dialect in ("mysql", "mariadb")
        for option, value in options.items()
    }
    table: Table = Table(name, within, *items, quote=False, **known)
    return table


def _column(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, quote=False, **{"nullable": False, **options})


def _index(name: str, *columns: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, quote=False)


details = _table(
    "AM_GW_PUBLISHED_API_DETAILS",
    _column("API_ID", NAME, primary_key=True),
    _column("TENANT_DOMAIN", NAME),
    _column("API_PROVIDER", NAME, nullable=True),
    _column("API_NAME", NAME),
    _column("API_VERSION", NAME),
    _column("API_TYPE", KIND, nullable=True),
    _column("KIND", KIND),
)

artifacts = _table(
    "AM_GW_API_ARTIFACTS",
    _column("ARTIFACT_NUMBER", COUNTER, Identity(), primary_key=True),
    _column("GATEWAY_LABEL", NAME),
    _column("API_ID", NAME, ForeignKey(details.c.API_ID)),
    _column("GATEWAY_INSTRUCTION", INSTRUCTION),
    _column("TIME_STAMP", TIME, server_default=func.current_timestamp()),
    _column("REVISION", BigInteger),
    _column("DIGEST", DIGEST),
    _column("CONTENT_SIZE", BigInteger),
    _column("CONTEXT", NAME),
    _column("CLAIMS", KEYS, comment="what it claims in GS_CLAIM, 32 bytes each"),
    _column("NEEDS", KEYS, comment="what it needs in GS_REFERENCE, 32 bytes each"),
    _column("ARTIFACT", CONTENT),  # last: SQLite reads through it to what stands after it
    _index("GS_ARTIFACT_PLACE", "GATEWAY_LABEL", "API_ID", unique=True),
    _index("GS_ARTIFACT_DIGEST", "DIGEST"),
)
"""What each label holds now. Un-publishing keeps the row and flips the instruction.

The key is a number that counts up, so that the bytes are written in order: InnoDB keeps rows in
the order of their key (docs/decisions/0017)."""

stores = _table(
    "GS_STORE",
    _column("ID", Integer, primary_key=True, autoincrement=False),
    _column("EPOCH", UUID),
    _column("SCHEMA_FORMAT", Integer),
)

heads = _table(
    "GS_HEAD",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("REVISION", BigInteger),
    _column("DIGEST", DIGEST),
    _column("ARTIFACT_COUNT", BigInteger),
    _column("FLOOR", BigInteger),
    _column("CONFIRMATION_ID", NAME, nullable=True),
    _column("CONFIRMED_REVISION", BigInteger, nullable=True),
    _column("CONFIRMATION_KEY_ID", KEY_ID, nullable=True, comment="whose signature follows"),
    _column("CONFIRMATION_SIGNATURE", SIGNATURE, nullable=True),
)

change_sets = _table(
    "GS_CHANGE_SET",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("REVISION", BigInteger, primary_key=True, autoincrement=False),
    _column("PREVIOUS_REVISION", BigInteger),
    _column("DIGEST", DIGEST),
    _column("ARTIFACT_COUNT", BigInteger),
    _column("PUBLISHED_AT", BigInteger, comment="milliseconds since 1970"),
    _column("PUBLISHER", NAME),
    _column("AUTHOR", NAME, comment="whose token it was"),
    _column("ORIGIN", NAME, comment="from where"),
)

changes = _table(
    "GS_CHANGE",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("REVISION", BigInteger, primary_key=True, autoincrement=False),
    _column(
        "ORDINAL",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="the place of the change in its change set, from 0",
    ),
    _column("API_ID", NAME),
    _column("GATEWAY_INSTRUCTION", INSTRUCTION),
    _column("DIGEST", DIGEST),
    _column("CONTENT_SIZE", BigInteger),
    _column("CONTEXT", NAME),
    _index("GS_CHANGE_ARTIFACT", "GATEWAY_LABEL", "API_ID", "REVISION", unique=True),
)
"""The log, in its own order. The index answers "what did the label hold at R" by one walk."""

attestations = _table(
    "GS_ATTESTATION",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("REVISION", BigInteger, primary_key=True, autoincrement=False),
    _column("PREVIOUS_REVISION", BigInteger),
    _column("DIGEST", DIGEST),
    _column("ARTIFACT_COUNT", BigInteger),
    _column("KEY_ID", KEY_ID),
    _column("SIGNATURE", SIGNATURE),
    _column("LEAVES", KEYS, comment="of each change its hash, 32 bytes each"),
)
"""What is kept of signed change sets: longer than these, as long as an entry needs it. Empty
where no publisher signs."""

old_contents = _table(
    "GS_OLD_CONTENT",
    _column("CONTENT_NUMBER", COUNTER, Identity(), primary_key=True),
    _column("API_ID", NAME, comment="whose it was"),
    _column("DIGEST", DIGEST),
    _column("CONTENT_SIZE", BigInteger),
    _column("ARTIFACT", CONTENT),
    _index("GS_OLD_CONTENT_DIGEST", "DIGEST"),
)
"""Contents that no label holds any more, but kept revisions name. Append-only, so that the
bytes are written in order; two rows with one digest are harmless."""

claims = _table(
    "GS_CLAIM",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("CLAIM", DIGEST, primary_key=True),
    _column("API_ID", NAME),
)
"""Names that have one owner in a label: the primary key is the last word on it."""

references = _table(
    "GS_REFERENCE",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("CLAIM", DIGEST, primary_key=True),
    _column("API_ID", NAME, primary_key=True),
)
"""Which artifact needs which name: what they need is not removed unasked."""

requests = _table(
    "GS_REQUEST",
    _column("IDEMPOTENCY_KEY", NAME, primary_key=True),
    _column("FINGERPRINT", DIGEST),
    _column("OUTCOME", LARGE_TEXT),
    _column("SAVED_AT", BigInteger, comment="milliseconds since 1970"),
    _index("GS_REQUEST_AGE", "SAVED_AT"),
)

receipts = _table(
    "GS_RECEIPT",
    _column("NODE_ID", NAME, primary_key=True),
    _column("EDITION", BigInteger, comment="made up for each write"),
    _column("HEARD_AT", BigInteger, comment="milliseconds since 1970"),
    _column("STATE", CONTENT),
)
"""What each gateway last reported (`sql_receipts`). No part of the log: it may be emptied."""

issued_heads = _table(
    "GS_ISSUED_HEADS",
    _column("PUBLISHER", NAME, primary_key=True),
    _column("PART", Integer, primary_key=True, autoincrement=False),
    _column("ISSUED_AT", BigInteger, comment="milliseconds since 1970"),
    _column("HEADS", CONTENT),
)
"""The heads that each publisher signed last, for gateways that read the database (`sql_issues`).
Like the receipts no part of the log. Empty where no publisher signs."""

leases = _table(
    "GS_LEASE",
    _column("LEASE_NAME", NAME, primary_key=True),
    _column("HOLDER", NAME),
    _column("TERM", BigInteger, comment="how often it changed hands"),
    _column(
        "RENEWED_AT", BigInteger, comment="milliseconds since 1970, by the clock of the database"
    ),
    _column("LENGTH_MS", BigInteger, comment="0: it was given up"),
)
"""Which of several hosts does what only one may do (`sql_leases`): no part of the log, either."""

taken_over = _table(
    "GS_TAKEN_OVER",
    _column("GATEWAY_LABEL", NAME, primary_key=True),
    _column("API_ID", NAME, primary_key=True),
    _column("GATEWAY_INSTRUCTION", NAME),
    _column("CHANGED_AT", BigInteger, comment="milliseconds since 1970"),
    _column("REVISION", BigInteger, comment="0: it is not in the log of the label"),
    _column("NOTES", LARGE_TEXT, comment="what there is to say about it, as JSON"),
    within=MetaData(),
)
"""What became of each row of WSO2's: only where there were such (`sql_takeover`)."""
