"""Every form of an artifact gives it back: canonical bytes, folder, and WSO2's JSON."""

import json
import random
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gatesync.artifacts.canonical import decode, encode
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.extra import encode_extra
from gatesync.artifacts.folder import artifact_from_files, files_of
from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.artifacts.wso2 import Wso2Artifact, artifact_from_wso2, wso2_json

from .strategies import apis, wso2_documents

pytestmark = pytest.mark.fast

MENU = Artifact(
    Identity("carbon.super", "api", "Menu", "1.0"),
    "id",
    (Part("api", "admin--Menu", "api/admin--Menu_v1.0.xml", b'<api name="x" version="1.0"/>'),),
)


def read(document: dict[str, Any]) -> Wso2Artifact:
    """A document as WSO2 may send it; what no artifact may be is another test's concern."""
    try:
        return artifact_from_wso2(json.dumps(document).encode(), "x.json")
    except ProblemsError:
        assume(False)
        raise


def shuffled(document: Any, random: random.Random, *, unordered: bool = False) -> Any:
    """All members in another order, and the lists whose order says nothing."""
    if isinstance(document, list):
        entries = [shuffled(each, random) for each in document]
        return random.sample(entries, len(entries)) if unordered else entries
    if not isinstance(document, dict):
        return document
    return {
        member: shuffled(document[member], random, unordered=member.endswith(("Add", "Remove")))
        for member in random.sample(sorted(document), len(document))
    }


@given(apis())
@example(MENU)
def test_all_forms_of_an_api_give_it_back(artifact: Artifact) -> None:
    whole = encode(artifact)
    from_folder = artifact_from_files(files_of(decode(whole)))
    document = wso2_json(from_folder)
    again = artifact_from_wso2(document, "x.json")
    assert encode(again.artifact) == whole
    assert again.secrets == ()
    assert wso2_json(again.artifact) == document
    assert artifact_from_files(files_of(again.artifact)) == again.artifact


@given(wso2_documents)
def test_a_document_of_wso2_comes_back_up_to_order_and_defaults(document: dict[str, Any]) -> None:
    first = read(document)
    written = json.loads(wso2_json(first.artifact))
    assert "gatesync" not in written
    assert {"apiId", "tenantDomain"} <= written.keys()
    hidden = {
        "credentialsToBeAdd": [
            {**each, "password": f"$secret{{{each['alias']}}}"}
            for each in document.get("credentialsToBeAdd", [])
        ]
    }
    for member, value in {**document, **hidden}.items():
        if member.endswith(("ToBeAdd", "ToBeRemove")):
            assert in_any_order(written.get(member, [])) == in_any_order(value), member
        elif value != "":
            assert canonical(written[member]) == canonical(value), member
    assert written.keys() - document.keys() <= {"apiId", "tenantDomain", "override"}


def in_any_order(entries: list[Any]) -> set[bytes]:
    return {canonical(each) for each in entries}


def canonical(value: Any) -> bytes:
    return encode_extra({"": value})


@given(wso2_documents, st.randoms())
def test_a_shuffled_document_is_the_same_artifact(
    document: dict[str, Any], random: random.Random
) -> None:
    first = read(document)
    second = read(shuffled(document, random))
    assert encode(first.artifact) == encode(second.artifact)
    assert first.secrets == second.secrets
