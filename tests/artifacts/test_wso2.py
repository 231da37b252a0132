"""What WSO2's artifact JSON becomes, what is refused, and what of an artifact it can say."""

import json
from typing import Any

import pytest

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, Artifact, Identity, Part
from gatesync.artifacts.wso2 import artifact_from_wso2, wso2_json

pytestmark = pytest.mark.fast

UUID = "3b37c2e0-5b08-4b1a-a67f-8e086873e2ad"
API = '<api xmlns="http://ws.apache.org/ns/synapse" name="admin--Menu" context="/m" version="1.0"/>'
DEFAULT = '<api name="admin--Menu" context="/m"/>'
MENU: dict[str, Any] = {
    "name": "Menu",
    "version": "1.0",
    "provider": "admin",
    "tenantDomain": "a.com",
    "apiId": UUID,
    "apiDefinition": API,
    "override": True,
    "localEntriesToBeAdd": [
        {"name": UUID, "content": f'<localEntry key="{UUID}">{{}}</localEntry>'}
    ],
    "endpointEntriesToBeAdd": [
        {"name": f"Menu--v1.0_API{each}Endpoint", "content": f'<endpoint name="{each}"/>'}
        for each in ("production", "sandbox")
    ],
    "endpointEntriesToBeRemove": ["y", "x"],
}
IDENTITY = Identity("carbon.super", "api", "Menu", "1.0")
PART = Part("api", "admin--Menu", "api/admin--Menu_v1.0.xml", API.encode())


def document(**members: Any) -> bytes:
    """Menu with other members; None: without that one."""
    whole = {**MENU, **members}
    return json.dumps({member: each for member, each in whole.items() if each is not None}).encode()


def read(tenant: str | None = None, **members: Any) -> Artifact:
    return artifact_from_wso2(document(**members), "menu.json", tenant=tenant).artifact


def faults(data: bytes, tenant: str | None = None) -> list[str]:
    with pytest.raises(ProblemsError) as refused:
        artifact_from_wso2(data, "menu.json", tenant=tenant)
    return [str(problem) for problem in refused.value.problems]


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def places(artifact: Artifact) -> list[tuple[str, str, str]]:
    return [(part.role, part.name, part.path) for part in artifact.parts]


def test_members_become_parts() -> None:
    artifact = read(
        defaultAPIDefinition=DEFAULT,
        sequenceToBeAdd=[
            {"name": "Menu--v1.0--In", "content": '<sequence name="Menu--v1.0--In"/>'}
        ],
    )
    assert artifact.identity == Identity("a.com", "api", "Menu", "1.0")
    assert artifact.api_id == UUID
    assert places(artifact) == [
        ("api", "admin--Menu", "api/admin--Menu.xml"),
        ("api", "admin--Menu", "api/admin--Menu_v1.0.xml"),
        *(
            (
                "endpoint",
                f"Menu--v1.0_API{each}Endpoint",
                f"endpoints/Menu--v1.0_API{each}Endpoint.xml",
            )
            for each in ("production", "sandbox")
        ),
        ("local-entry", UUID, f"local-entries/{UUID}.xml"),
        ("sequence", "Menu--v1.0--In", "sequences/Menu--v1.0--In.xml"),
    ]
    assert [part.content for part in artifact.parts[:2]] == [DEFAULT.encode(), API.encode()]
    assert artifact.extra == {"wso2": {"endpointEntriesToBeRemove": ["x", "y"]}}


def test_it_is_the_artifact_that_the_files_would_make() -> None:
    artifact = read(
        **dict.fromkeys(("localEntriesToBeAdd", "endpointEntriesToBeAdd")),
        endpointEntriesToBeRemove=[],
        tenantDomain="carbon.super",
    )
    assert artifact == Artifact(IDENTITY, UUID, (PART,))
    assert describe(artifact).context == "/m"


@pytest.mark.parametrize(
    ("members", "api_id"),
    [
        ({}, UUID),
        ({"apiId": None}, IDENTITY.default_api_id()),
        (
            {
                "apiId": "",
                "apiDefinition": '<api name="m" context="/m"><handlers><handler><property '
                'name="apiUUID" value="11111111-2222-3333-4444-555555555555"/></handler>'
                "</handlers></api>",
            },
            "11111111-2222-3333-4444-555555555555",
        ),
    ],
)
def test_the_id_is_wso2s(members: dict[str, Any], api_id: str) -> None:
    assert read(tenantDomain=None, **members).api_id == api_id


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({}, {}),
        ({"override": False}, {"override": False}),
        ({"override": None, "sequenceToBeAdd": None, "credentialsToBeRemove": []}, {}),
        ({"provider": None}, {}),
        ({"environment": "Default", "deep": {"a": [2, 1]}},) * 2,
        ({"certsToBeAdd": [3, {"b": 1}, 3, "x"]}, {"certsToBeAdd": ["x", 3, {"b": 1}]}),
        ({"sequencesToBeRemove": ["b", "a", "b"]}, {"sequencesToBeRemove": ["a", "b"]}),
        (
            {"clientCertificatesToBeAdd": [{"name": "c", "content": "MII"}]},
            {"clientCertificatesToBeAdd": [{"name": "c", "content": "MII"}]},
        ),
        (
            {"sequenceToBeAdd": [{"name": "s", "content": "<s/>", "type": "in"}]},
            {"sequenceToBeAdd": [{"name": "s", "type": "in"}]},
        ),
    ],
)
def test_what_is_no_part_is_kept(members: dict[str, Any], kept: dict[str, Any]) -> None:
    artifact = read(endpointEntriesToBeRemove=None, **members)
    assert artifact.extra == ({"wso2": kept} if kept else {})
    written = json.loads(wso2_json(artifact))
    assert "gatesync" not in written
    for member in kept.keys() - {"sequenceToBeAdd"}:
        assert written[member] == kept[member]
    assert written.get("sequenceToBeAdd") == members.get("sequenceToBeAdd")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Menu--v1.0--In", "sequences/Menu--v1.0--In.xml"),
        ("Menü", "sequences/Menü.xml"),
        ("admin--menu:v1.0--in", "sequences/admin--menu%3av1.0--in.xml"),
        ("A:b", "sequences/A%3ab~1.xml"),
        ("a%3ab", "sequences/a%253ab.xml"),
        ("a/b", "sequences/a%2fb.xml"),
        ("con", "sequences/%63on.xml"),
        (".x", "sequences/%2ex.xml"),
    ],
)
def test_a_name_that_no_file_can_have_is_encoded(name: str, path: str) -> None:
    artifact = read(sequenceToBeAdd=[{"name": name, "content": "<s/>"}])
    assert ("sequence", name, path) in places(artifact)


@pytest.mark.parametrize("provider", ["admin", "a--b", "a:b", "admin@a.com", "con", "Ä"])
def test_the_provider_is_told_by_the_path(provider: str) -> None:
    artifact = read(provider=provider, endpointEntriesToBeRemove=None)
    assert artifact.extra == {}
    assert json.loads(wso2_json(artifact))["provider"] == provider


def test_of_an_api_without_version_and_its_default_one_path_would_be_two_files() -> None:
    (fault,) = faults(document(version=None, defaultAPIDefinition=DEFAULT))
    assert fault == "menu.json/api Menu (a.com)/api/admin--Menu.xml: two parts have this path"


# Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"name": None}, "name: is missing"),
        ({"name": ""}, "name: is missing"),
        ({"apiDefinition": None}, "apiDefinition: is missing"),
        ({"name": 3}, "name: must be text, not a number"),
        ({"version": 0}, "version: must be text, not a number"),
        ({"apiDefinition": ["x"]}, "apiDefinition: must be text, not a list"),
        ({"apiDefinition": "\n\n<api"}, "apiDefinition:3: not well-formed XML"),
        (
            {"defaultAPIDefinition": "<api/>"},
            "defaultAPIDefinition:1: <api> has no attribute 'name'",
        ),
        ({"override": 1}, "override: must be true or false, not a number"),
        ({"sequenceToBeAdd": "x"}, "sequenceToBeAdd: must be a list, not text"),
        ({"sequenceToBeAdd": ["x"]}, "sequenceToBeAdd[0]: must be an object, not text"),
        ({"sequenceToBeAdd": [{"name": "x"}]}, "sequenceToBeAdd[0].content: is missing"),
        ({"sequenceToBeAdd": [{"content": "x"}]}, "sequenceToBeAdd[0].name: is missing"),
        (
            {"endpointEntriesToBeAdd": [{"name": "x", "content": {}}]},
            "endpointEntriesToBeAdd[0].content: must be text, not an object",
        ),
        ({"sequencesToBeRemove": ["x", None]}, "sequencesToBeRemove[1]: is missing"),
        ({"sequenceToBeAdd": [None]}, "sequenceToBeAdd[0]: must be an object, not null"),
        (
            {"sequencesToBeRemove": [True]},
            "sequencesToBeRemove[0]: must be text, not true or false",
        ),
        (
            {"sequenceToBeAdd": [{"name": "x", "content": c} for c in "ab"]},
            "sequenceToBeAdd: two entries are named 'x', and differ; keep one of them",
        ),
        (
            {"othersToBeAdd": [{"name": "x", "content": c} for c in "ab"]},
            "othersToBeAdd: two entries are named 'x', and differ; keep one of them",
        ),
        ({"size": 2**53 + 1}, "size: it cannot be written as RFC 8785 JSON"),
        ({"thingsToBeAdd": [2**53 + 1]}, "put integers beyond 2^53 into quotes"),
        ({"name": "../x"}, "name '../x' contains a path step"),
        ({"sequenceToBeAdd": [{"name": "..", "content": "x"}]}, "contains a path step"),
        ({"gatesync": 1}, "gatesync: its format is unknown; this version reads 'gatesync.wso2/1'"),
        ({"gatesync": {"format": "gatesync.wso2/9"}}, "format 'gatesync.wso2/9' is unknown"),
    ],
)
def test_what_is_wrong_is_said_with_its_member(members: dict[str, Any], fault: str) -> None:
    (told,) = faults(document(**members))
    assert fault in told
    assert told.startswith("menu.json/")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it is not a JSON object"),
        (b"<api/>", "it is not a JSON object"),
        (b"[]", "it is not a JSON object"),
        (b'{"name":"\xff"}', "it is not a JSON object"),
        (b'{"name":"\\ud800"}', "it is not a JSON object"),
        (b'{"name":"a","name":"a"}', "JSON with two members 'name' in one object"),
        (b'{"x":[{"y":1,"y":1}]}', "JSON with two members 'y' in one object"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "is missing"),
        (b" " * (ARTIFACT_MAX_BYTES + 1), f"more than {ARTIFACT_MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, fault: str) -> None:
    told = faults(data)
    assert fault in told[0]
    assert all(each.startswith("menu.json") for each in told)


def test_all_faults_are_told_at_once() -> None:
    told = faults(document(name=None, version=1, override="x", sequenceToBeAdd={}), tenant="b.com")
    assert [each.partition(":")[0] for each in told] == [
        "menu.json/version",
        "menu.json/override",
        "menu.json/sequenceToBeAdd",
        "menu.json/name",
        "menu.json/tenantDomain",
    ]


def test_the_tenant_is_said_where_the_document_does_not() -> None:
    assert read("b.com", tenantDomain=None).identity.tenant == "b.com"
    assert read(tenantDomain=None).identity.tenant == "carbon.super"
    assert read("a.com") == read()
    assert faults(document(), "b.com") == [
        "menu.json/tenantDomain: is 'a.com', but --tenant says 'b.com'; drop one of them"
    ]


# Written --------------------------------------------------------------------------------------


def written(artifact: Artifact) -> dict[str, Any]:
    data = wso2_json(artifact)
    again = artifact_from_wso2(data, "x").artifact
    assert encode(again) == encode(artifact)
    members = json.loads(data)
    assert isinstance(members, dict)
    return members


def test_members_stand_in_wso2s_order() -> None:
    members = written(
        read(
            zebra=1,
            apple=2,
            credentialsToBeRemove=["c"],
            sequencesToBeRemove=["s"],
            defaultAPIDefinition=DEFAULT,
        )
    )
    assert list(members) == [
        "name",
        "version",
        "provider",
        "tenantDomain",
        "apiId",
        "apiDefinition",
        "defaultAPIDefinition",
        "override",
        "sequencesToBeRemove",
        "localEntriesToBeAdd",
        "endpointEntriesToBeAdd",
        "endpointEntriesToBeRemove",
        "credentialsToBeRemove",
        "apple",
        "zebra",
    ]
    names = [entry["name"] for entry in members["endpointEntriesToBeAdd"]]
    assert names == sorted(names)


def test_what_wso2_cannot_say_stands_in_one_member_that_it_ignores() -> None:
    artifact = Artifact(
        IDENTITY,
        UUID,
        (
            Part("api", "admin--Menu", "api/odd.xml", API.encode()),
            Part("policy", "p", "executionplans/p", b"define"),
            Part("sequence", "s", "sequences/deep/s.xml", b"<sequence name='s'/>"),
            Part("sequence", "t", "sequences/t.xml", b"<sequence name='t'/>"),
        ),
        {"wso2": {"environment": "Default"}, "mine": 1},
    )
    members = written(artifact)
    assert "provider" not in members
    assert members["environment"] == "Default"
    assert [entry["name"] for entry in members["sequenceToBeAdd"]] == ["s", "t"]
    assert members["gatesync"] == {
        "format": "gatesync.wso2/1",
        "parts": [
            {"name": "admin--Menu", "path": "api/odd.xml", "member": "apiDefinition"},
            {"name": "p", "path": "executionplans/p", "role": "policy", "content": "define"},
            {"name": "s", "path": "sequences/deep/s.xml", "member": "sequenceToBeAdd"},
        ],
        "extra": {"mine": 1},
    }


def test_the_api_of_the_artifacts_version_is_the_definition() -> None:
    parts = (
        Part("api", "x", "api/a.xml", b"no xml"),
        Part("api", "x", "api/b.xml", b'<api name="x" version="2"/>'),
        Part("api", "x", "api/c.xml", DEFAULT.encode()),
        Part("api", "x", "api/d.xml", API.encode()),
    )
    members = written(Artifact(IDENTITY, UUID, parts))
    assert (members["apiDefinition"], members["defaultAPIDefinition"]) == (API, DEFAULT)


@pytest.mark.parametrize(
    "kept",
    [
        5,
        {},
        {"name": "x"},
        {"apiDefinition": "<x/>"},
        {"gatesync": {}},
        {"override": True},
        {"provider": "admin"},
        {"provider": 1},
        {"provider": "other"},
        {"sequencesToBeRemove": ["b", "a"]},
        {"sequencesToBeRemove": []},
        {"sequenceToBeAdd": [{"name": "nobody", "x": 1}]},
        {"sequenceToBeAdd": 1},
        {"thingsToBeAdd": [1, 1]},
    ],
)
def test_an_extra_that_no_document_would_leave_comes_back_too(kept: Any) -> None:
    members = written(Artifact(IDENTITY, UUID, (PART,), {"wso2": kept}))
    if kept != {"provider": "other"}:
        assert members["gatesync"]["extra"] == {"wso2": kept}


@pytest.mark.parametrize(
    ("artifact", "fault"),
    [
        (
            Artifact(Identity("t", "sequence", "s"), "i", (Part("sequence", "s", "s.xml", b""),)),
            "sequence s (t): WSO2's JSON is for APIs only; export this one as a tree or a folder",
        ),
        (
            Artifact(IDENTITY, "i", (Part("policy", "s", "s", b""),)),
            "it has no API part, and WSO2's JSON must have one",
        ),
        (
            Artifact(IDENTITY, "i", (PART, Part("policy", "s", "p/s", b"ab\xff"))),
            "api Menu 1.0/p/s: not UTF-8 at byte 2; WSO2's JSON holds text only",
        ),
        (Artifact(IDENTITY, "i", (PART,), {"a": 2**53 + 1}), "extra cannot be written as RFC 8785"),
        (
            Artifact(IDENTITY, "i", (PART, Part("policy", "s", "s", b'"' * (8 * 2**20)))),
            f"at most {ARTIFACT_MAX_BYTES}",
        ),
        (
            Artifact(IDENTITY, "i", (PART,), {"a": {"password": "hush"}}),
            "extra has passwords in the clear: extra.a.password",
        ),
    ],
)
def test_what_wso2s_json_cannot_hold_is_refused(artifact: Artifact, fault: str) -> None:
    with pytest.raises(ProblemsError) as refused:
        wso2_json(artifact)
    assert fault in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"name": "s", "path": "s.xml"}, "must have either 'member' or 'role' and 'content'"),
        (
            {"name": "s", "path": "s.xml", "member": "name"},
            "must have either 'member' or 'role' and 'content'",
        ),
        (
            {"name": "s", "path": "s.xml", "member": "apiDefinition", "content": "x"},
            "must have either 'member' or 'role' and 'content'",
        ),
        (
            {"name": "s", "path": "s.xml", "member": "sequenceToBeAdd"},
            "'sequenceToBeAdd s', which is not there",
        ),
        ({"name": "s", "path": "s.xml", "member": "defaultAPIDefinition"}, "which is not there"),
        ({"name": "s", "path": "../x", "member": "apiDefinition"}, "must be relative"),
        ({"name": "s", "path": "x", "role": "x", "content": "x"}, "role 'x' is unknown"),
        ({"name": "s"}, "missing required field `path`"),
        ({"name": "s", "path": "s", "size": 1}, "unknown field `size`"),
    ],
)
def test_what_gatesync_says_is_checked_like_any_input(part: dict[str, str], fault: str) -> None:
    (told,) = faults(document(gatesync={"format": "gatesync.wso2/1", "parts": [part]}))
    assert fault in told


def test_nothing_is_said_twice() -> None:
    form = {"name": "s", "path": "s.xml", "member": "apiDefinition"}
    (told,) = faults(document(gatesync={"format": "gatesync.wso2/1", "parts": [form, form]}))
    assert "two parts have the content of 'apiDefinition'" in told
    extra = {"format": "gatesync.wso2/1", "extra": {"wso2": {}}}
    (told,) = faults(document(gatesync=extra))
    assert "stands beside 'endpointEntriesToBeRemove', which belongs there; drop one" in told


def test_an_object_of_many_entries_takes_no_long_time() -> None:
    entries = [{"name": f"s{n}", "content": f'<sequence name="s{n}"/>'} for n in range(2_000)]
    artifact = read(sequenceToBeAdd=entries)
    assert len(artifact.parts) == 2_004
    assert len(written(artifact)["sequenceToBeAdd"]) == 2_000
