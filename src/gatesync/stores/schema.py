"""The tables of the SQL store.

`AM_GW_PUBLISHED_API_DETAILS` and `AM_GW_API_ARTIFACTS` are WSO2's, with columns of our own
added: they say what is served now. The log beside them says how it came to that: one head row a
label, locked by whoever appends, and one row a change. Names of 255 follow WSO2's scripts.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
)

__all__ = [
    "SCHEMA_FORMAT",
    "artifacts",
    "change_sets",
    "changes",
    "claims",
    "details",
    "heads",
    "metadata",
    "old_contents",
    "references",
    "requests",
    "stores",
]

SCHEMA_FORMAT: Final = 2
ARTIFACT_BYTES: Final = 16 * 1024 * 1024 - 1  # a MEDIUMBLOB; 64 KiB BLOBs overflow in the field

metadata = MetaData()

details = Table(
    "AM_GW_PUBLISHED_API_DETAILS",
    metadata,
    Column("API_ID", String(255), primary_key=True),
    Column("TENANT_DOMAIN", String(255), nullable=False),
    Column("API_PROVIDER", String(255)),
    Column("API_NAME", String(255), nullable=False),
    Column("API_VERSION", String(255), nullable=False),
    Column("API_TYPE", String(50)),
    Column("KIND", String(50), nullable=False),
    Index("GS_DETAILS_NAME", "API_NAME"),
)

artifacts = Table(
    "AM_GW_API_ARTIFACTS",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("API_ID", String(255), ForeignKey(details.c.API_ID), primary_key=True),
    Column("ARTIFACT", LargeBinary(ARTIFACT_BYTES), nullable=False),
    Column("GATEWAY_INSTRUCTION", String(20), nullable=False),
    Column("TIME_STAMP", DateTime, nullable=False, server_default=func.current_timestamp()),
    Column("REVISION", BigInteger, nullable=False),
    Column("DIGEST", String(64), nullable=False),
    Column("SIZE", BigInteger, nullable=False),
    Column("CONTEXT", String(255), nullable=False),
    Index("GS_ARTIFACT_DIGEST", "DIGEST"),
)
"""What each label holds now. Un-publishing keeps the row and flips the instruction."""

stores = Table(
    "GS_STORE",
    metadata,
    Column("ID", Integer, primary_key=True, autoincrement=False),
    Column("EPOCH", String(36), nullable=False),
    Column("SCHEMA_FORMAT", Integer, nullable=False),
)

heads = Table(
    "GS_HEAD",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("REVISION", BigInteger, nullable=False),
    Column("DIGEST", String(64), nullable=False),
    Column("ARTIFACT_COUNT", BigInteger, nullable=False),
    Column("FLOOR", BigInteger, nullable=False),
    Column("CONFIRMATION_ID", String(36)),
    Column("CONFIRMED_REVISION", BigInteger),
)

change_sets = Table(
    "GS_CHANGE_SET",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("REVISION", BigInteger, primary_key=True, autoincrement=False),
    Column("PREVIOUS_REVISION", BigInteger, nullable=False),
    Column("DIGEST", String(64), nullable=False),
    Column("ARTIFACT_COUNT", BigInteger, nullable=False),
    Column("PUBLISHED_AT", BigInteger, nullable=False, comment="milliseconds since 1970"),
    Column("PUBLISHER", String(255), nullable=False),
    Column("AUTHOR", String(255), nullable=False, comment="whose token it was"),
    Column("ORIGIN", String(255), nullable=False, comment="from where"),
)

changes = Table(
    "GS_CHANGE",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("API_ID", String(255), primary_key=True),
    Column("REVISION", BigInteger, primary_key=True, autoincrement=False),
    Column("GATEWAY_INSTRUCTION", String(20), nullable=False),
    Column("DIGEST", String(64), nullable=False),
    Column("SIZE", BigInteger, nullable=False),
    Column("CONTEXT", String(255), nullable=False),
    Index("GS_CHANGE_REVISION", "GATEWAY_LABEL", "REVISION"),
)
"""The log. The primary key answers "what did the label hold at R" by one walk of its index."""

old_contents = Table(
    "GS_OLD_CONTENT",
    metadata,
    Column("NUMBER", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("DIGEST", String(64), nullable=False),
    Column("ARTIFACT", LargeBinary(ARTIFACT_BYTES), nullable=False),
    Index("GS_OLD_CONTENT_DIGEST", "DIGEST"),
)
"""Contents that no label holds any more, but kept revisions name. Append-only, so that the
bytes are written in order; two rows with one digest are harmless."""

claims = Table(
    "GS_CLAIM",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("CLAIM", String(64), primary_key=True),
    Column("API_ID", String(255), nullable=False),
    Index("GS_CLAIM_OWNER", "GATEWAY_LABEL", "API_ID"),
)
"""Names that have one owner in a label: the primary key is the last word on it."""

references = Table(
    "GS_REFERENCE",
    metadata,
    Column("GATEWAY_LABEL", String(255), primary_key=True),
    Column("CLAIM", String(64), primary_key=True),
    Column("API_ID", String(255), primary_key=True),
    Index("GS_REFERENCE_OWNER", "GATEWAY_LABEL", "API_ID"),
)
"""Which artifact needs which name: what they need is not removed unasked."""

requests = Table(
    "GS_REQUEST",
    metadata,
    Column("IDEMPOTENCY_KEY", String(255), primary_key=True),
    Column("FINGERPRINT", String(64), nullable=False),
    Column("OUTCOME", Text, nullable=False),
    Column("SAVED_AT", BigInteger, nullable=False, comment="milliseconds since 1970"),
    Index("GS_REQUEST_AGE", "SAVED_AT"),
)
