"""A row of WSO2's tables becomes what a publisher would save for it.

What the row's columns say must be what its JSON says: a row that says two things is told, and
an operator decides.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.names import check_name
from gatesync.artifacts.planning import Publish
from gatesync.artifacts.wso2 import artifact_from_wso2
from gatesync.publisher.requests import entry_of
from gatesync.stores.sql_takeover import Converted
from gatesync.stores.sql_wso2 import Wso2Row

__all__ = ["publish_of_row"]

CUT_OFF_BYTES: Final = 65_535  # what MySQL's BLOB holds


class _Said(msgspec.Struct, rename="camel"):
    """Who a document says that it is."""

    api_id: Any = None
    tenant_domain: Any = None
    name: Any = None
    version: Any = None


def publish_of_row(row: Wso2Row, document: bytes) -> Converted:
    """Check a row's document through and through, and bring it into canonical form.

    Raises:
        ProblemsError: with everything that is wrong with it. None shows a password.
    """
    try:
        said = msgspec.json.decode(document, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemsError([Problem(_why_broken(document, error))]) from None
    if problems := list(_contradictions(row, said)):
        raise ProblemsError(problems)
    artifact, secrets = artifact_from_wso2(document, "", tenant=row.tenant or None)
    artifact = msgspec.structs.replace(artifact, api_id=row.api_id)
    try:
        check_name(row.api_id, "API_ID")
        description = describe(artifact)
        content = canonical.encode(artifact)
    except Problem as problem:
        raise ProblemsError([problem]) from None
    except (FormatError, UnicodeEncodeError) as error:
        raise ProblemsError([Problem(str(error))]) from None
    entry = entry_of(artifact, description.context, content)
    notes = [
        f"the password of {alias!r} stood in the clear; now it is $secret{{{alias}}}: give "
        "gateways a secret of that name"
        for alias in secrets
    ]
    return Converted(
        Publish(entry, content, description.claims, description.references), tuple(notes)
    )


def _contradictions(row: Wso2Row, said: _Said) -> Iterator[Problem]:
    pairs = (
        ("apiId", said.api_id, row.api_id),
        ("tenantDomain", said.tenant_domain, row.tenant),
        ("name", said.name, row.name),
        ("version", said.version, row.version),
    )
    for member, in_document, in_column in pairs:
        if in_document and in_column is not None and in_document != in_column:
            yield Problem(f"is {in_document!r}, but the row's is {in_column!r}", where=member)


def _why_broken(document: bytes, error: Exception) -> str:
    if not document:
        return "its ARTIFACT is empty; publish the API again"
    if len(document) == CUT_OFF_BYTES:
        return (
            f"its ARTIFACT was cut off at {CUT_OFF_BYTES} bytes, which is all that a BLOB of "
            "MySQL's holds; publish the API again"
        )
    reason = str(error).removeprefix("JSON is malformed: ")
    return f"its ARTIFACT cannot be read: {reason}; publish the API again"
