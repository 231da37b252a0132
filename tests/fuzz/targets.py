"""The decoders that strangers' bytes reach, each with what it may refuse them with.

Anything else that is raised is a fault. What a target accepts is taken further, as its callers do.
"""

import json
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Entry, Head, Instruction
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.extra import refuse_repeated_members
from gatesync.artifacts.folder import artifact_from_files, files_of
from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.artifacts.openapi import artifact_from_openapi
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.tree import artifacts_of
from gatesync.artifacts.wso2 import artifact_from_wso2, wso2_json
from gatesync.artifacts.xml import parse
from gatesync.events.messages import (
    CONTENTS_MAX_BYTES,
    ApplyException,
    ChangeAnnounced,
    Drift,
    HeadsAnnounced,
    Inventory,
    LabelInventory,
    LabelReport,
    NodeReport,
    announce_change,
    contents_of,
    decode_announcement,
    decode_report,
    encode,
)
from gatesync.publisher.requests import (
    ChangeRequest,
    PlanItem,
    PlanRequest,
    Stamp,
    prepare,
    prepare_plan,
)
from gatesync.stores.store import Delta, ManifestPage
from gatesync.stores.wire import (
    DeltaAnswer,
    DigestAnswer,
    HeadsAnswer,
    ManifestAnswer,
    digests_in,
    frame_path,
    pack_contents,
    unpack_contents,
)
from tests.servers.gatesync import document, publishing

__all__ = ["TARGETS", "Target"]

MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ANSWERS: Final = (ManifestAnswer, DeltaAnswer, HeadsAnswer, DigestAnswer)

NAMESPACE: Final = b'xmlns="http://ws.apache.org/ns/synapse"'
SEQUENCE: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- a --><sequence ' + NAMESPACE + b' name="a">'
    b'<log level="full"><property name="p" value="v"/></log><![CDATA[x]]></sequence>'
)
API: Final = (
    b"<api " + NAMESPACE + b' name="admin--Menu" context="/m/1.0" version="1.0" '
    b'version-type="context"><resource methods="GET" uri-template="/a/{b}"><inSequence>'
    b'<sequence key="a"/><send><endpoint key="e"/></send></inSequence></resource></api>'
)
ARTIFACT: Final = Artifact(
    Identity("carbon.super", "api", "Menu", "1.0"),
    "3b37c2e0",
    (
        Part("api", "admin--Menu", "api/admin--Menu_v1.0.xml", API),
        Part("sequence", "a", "sequences/a.xml", SEQUENCE),
        Part("policy", "p", "policies/p.bin", b"\xff\x00"),
    ),
    {"a": [1, {"b": 0.5}]},
)
CONTENT: Final = canonical.encode(msgspec.structs.replace(ARTIFACT, parts=ARTIFACT.parts[:2]))
FOLDER: Final = b"""
format = "gatesync.folder/1"
kind = "sequence"
name = "a"
version = "1"
tenant = "a.com"
api_id = "x"
extra = '{"a":[1,{"b":0.5}]}'
[[parts]]
file = "sequences/a.xml"
path = "sequences/b.xml"
role = "sequence"
name = "a"
"""
MENU: Final = {
    "name": "Menu",
    "version": "1.0",
    "provider": "admin",
    "tenantDomain": "a.com",
    "apiId": "3b37c2e0",
    "apiDefinition": API.decode(),
    "sequenceToBeAdd": [{"name": "a", "content": SEQUENCE.decode()}],
    "credentialsToBeAdd": [{"alias": "a", "password": "p"}],
    "endpointEntriesToBeRemove": ["y", "x"],
    "gatesync": {"format": "gatesync.wso2/1", "extra": {"k": 1}},
}

LENDING: Final = {
    "openapi": "3.1.0",
    "info": {"title": "Lending", "version": "1.0"},
    "security": [{"key": []}],
    "paths": {
        "/books/{isbn}": {"get": {"responses": {"200": {"$ref": "#/components/responses/book"}}}},
        "/newest": {"$ref": "#/components/pathItems/newest"},
    },
    "components": {
        "pathItems": {"newest": {"get": {}}},
        "responses": {"book": {"description": "A book"}},
        "securitySchemes": {
            "key": {"$ref": "#/components/securitySchemes/token"},
            "token": {"type": "http", "scheme": "bearer"},
        },
    },
}
SHOP: Final = b"""
swagger: '2.0'
info: &info {title: Shop, version: '1', x-again: [~, 1.5, 0x10, true]}
basePath: /shop
paths:
  /items:
    get:
      description: |
        What there is
      responses: {200: &fine {description: It}, default: *fine}
x-info: *info
"""


class Target(NamedTuple):
    """A decoder, what it refuses bytes with, and bytes that it accepts."""

    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _xml(data: bytes) -> object:
    return parse(data, "a.xml"), parse(data, "a.xml", keep_cdata=True)


def _artifact(data: bytes) -> object:
    artifact = canonical.decode(data)
    describe(artifact)
    again = canonical.encode(artifact)
    assert canonical.encode(canonical.decode(again)) == again
    return again


def _change(data: bytes) -> object:
    """As `POST /v1/changes` does it."""
    request = msgspec.json.decode(data, type=ChangeRequest)
    refuse_repeated_members(data)
    return prepare(request, "key", Stamp())


def _plan(data: bytes) -> object:
    return prepare_plan(msgspec.json.decode(data, type=PlanRequest))


def _folder(data: bytes) -> object:
    artifact = artifact_from_files({"artifact.toml": data, "sequences/a.xml": SEQUENCE})
    return files_of(artifact)


def _wso2(data: bytes) -> object:
    artifact = artifact_from_wso2(data, "menu.json").artifact
    describe(artifact)
    return wso2_json(artifact)


def _openapi(data: bytes) -> object:
    artifact = artifact_from_openapi(data, OpenApiOptions(endpoint="https://backend")).artifact
    describe(artifact)
    return canonical.encode(artifact)


def _tree(data: bytes) -> object:
    folder = "deployment/server/synapse-configs/default"
    files = {f"{folder}/sequences/a.xml": data, f"{folder}/api/b.xml": data}
    return [canonical.encode(each) for each in artifacts_of(files).artifacts]


def _event(data: bytes) -> object:
    announced = decode_announcement(data)
    return contents_of(announced) if isinstance(announced, ChangeAnnounced) else announced


def _answer(data: bytes) -> object:
    """As `HttpClient` reads what a publisher answers."""
    told: Exception | None = None
    for each in ANSWERS:
        try:
            return msgspec.json.decode(data, type=each)
        except MALFORMED as error:
            told = error
    assert told is not None
    raise told


def _frame(data: bytes) -> object:
    contents = unpack_contents(data, CONTENTS_MAX_BYTES)
    assert all(digest_of(each) == digest for digest, each in contents.items())
    return contents


def _frame_name(data: bytes) -> object:
    named = digests_in(data.decode("latin-1"))
    assert digests_in(frame_path(named).rpartition("/")[2]) == named
    return named


ENTRY: Final = Entry(
    "3b37c2e0", "carbon.super", "api", "Menu", "1.0", "/m/1.0", digest_of(CONTENT), len(CONTENT), 8
)
DIGEST: Final = EMPTY_LABEL.add(ENTRY.api_id, ENTRY.digest)
HEAD: Final = Head("L", "epoch", 8, DIGEST, Confirmation("c", "epoch", 7))
CHANGES: Final = (Change(Instruction.PUBLISH, ENTRY),)
CHANGE_SET: Final = ChangeSet("L", "epoch", 8, 5, CHANGES, DIGEST, 1_700_000_000_000, "p1")
FAILED: Final = ApplyException("a", 8, ENTRY.digest, "why " * 100, 1, 2, "api Menu 1.0")
REPORT: Final = NodeReport(
    node="gw1",
    incarnation="i",
    sequence=1,
    version="0.1.0",
    engine="memory",
    admin_url="http://127.0.0.1:9641",
    uptime_ms=1,
    labels=(LabelReport("L", "epoch", 8, 8, DIGEST, 1, exceptions=(FAILED,)),),
    verification=Inventory("v", (LabelInventory("L", 1, "0", drifted=(Drift("a", "b", "c"),)),)),
)
PLAN: Final = PlanRequest(("L",), (PlanItem(ENTRY, describe(ARTIFACT).claims),), ("x",))
REFUSED: Final = (FormatError, Problem, ProblemsError)

TARGETS: Final = {
    "xml": Target(_xml, REFUSED, (SEQUENCE, API)),
    "artifact": Target(_artifact, REFUSED, (canonical.encode(ARTIFACT), CONTENT)),
    "change": Target(
        _change,
        (*REFUSED, *MALFORMED),
        (json.dumps(publishing(document("a"), remove=["b"])).encode(),),
    ),
    "plan": Target(_plan, (*REFUSED, *MALFORMED), (msgspec.json.encode(PLAN),)),
    "folder": Target(_folder, REFUSED, (FOLDER,)),
    "wso2": Target(_wso2, REFUSED, (json.dumps(MENU).encode(),)),
    "openapi": Target(_openapi, REFUSED, (json.dumps(LENDING).encode(), SHOP)),
    "tree": Target(_tree, REFUSED, (SEQUENCE, API)),
    "event": Target(
        _event,
        REFUSED,
        (
            encode(announce_change(CHANGE_SET, {ENTRY.digest: CONTENT})),
            encode(HeadsAnnounced((HEAD,), "p1", 1, "v")),
        ),
    ),
    "report": Target(decode_report, REFUSED, (encode(REPORT),)),
    "manifest": Target(
        _answer,
        MALFORMED,
        (
            msgspec.json.encode(ManifestAnswer(ManifestPage(HEAD, (ENTRY,) * 3, "x"))),
            msgspec.json.encode(DeltaAnswer(Delta(5, HEAD, CHANGES))),
            msgspec.json.encode(HeadsAnswer((HEAD,))),
            msgspec.json.encode(DigestAnswer(DIGEST)),
        ),
    ),
    "frame": Target(
        _frame, REFUSED, (pack_contents({ENTRY.digest: CONTENT}), pack_contents({"é": b""}))
    ),
    "frame name": Target(
        _frame_name, REFUSED, (frame_path([ENTRY.digest] * 3).rpartition("/")[2].encode(),)
    ),
}
