import re
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.base import BASE_FILES
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.model import KINDS, Artifact
from gatesync.artifacts.names import check_path
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.artifacts.tree import Tree, TreeKind, artifacts_of, files_of_tree
from tests.artifacts import strategies

pytestmark = pytest.mark.fast

UUID = "3b37c2e0-5b08-4b1a-a67f-8e086873e2ad"
TAGS = {
    "api": "api",
    "sequence": "sequence",
    "endpoint": "endpoint",
    "local-entry": "localEntry",
    "proxy-service": "proxy",
    "inbound-endpoint": "inboundEndpoint",
    "message-store": "messageStore",
    "message-processor": "messageProcessor",
    "template": "template",
    "task": "task",
    "import": "import",
}


def xml(role: str, name: str, more: str = "", inside: str = "") -> bytes:
    attribute = "key" if role == "local-entry" else "name"
    tag = TAGS[role]
    return f"<{tag} {attribute}={quoteattr(name)} {more}>{inside}</{tag}>".encode()


def api_xml(name: str, version: str = "", uuid: str = "", context: str = "") -> bytes:
    more = f'context="{context or f"/{name}/{version}"}" ' + (
        f'version="{version}"' if version else ""
    )
    said = f'<handler class="h"><property name="apiUUID" value="{uuid}"/></handler>' if uuid else ""
    return xml("api", name, more, f"<handlers>{said}</handlers>")


def configs(files: dict[str, bytes], **more: Any) -> Tree:
    return artifacts_of(files, kind=TreeKind.CONFIGS, **more)


def said(tree: Tree) -> list[str]:
    return [str(problem) for problem in tree.problems]


def names(tree: Tree) -> list[str]:
    return [str(artifact.identity) for artifact in tree.artifacts]


# Trees and artifacts are inverse --------------------------------------------------------------

_SERVERS = ["deployment/server", "tenants/1", "tenants/a.com"]
_file_names = strategies.names.filter(
    lambda name: "/" not in name and "\\" not in name and len(name.encode()) < 200
)


@st.composite
def repositories(draw: st.DrawFn) -> dict[str, bytes]:
    """Trees without a fault: whatever the files are called, names and contexts are unique."""
    files: dict[str, bytes] = {}
    for number in range(draw(st.integers(0, 12))):
        server = draw(st.sampled_from(_SERVERS))
        role = draw(st.sampled_from(sorted(KINDS)))
        file = draw(st.sampled_from(["", "deeper/"])) + draw(_file_names)
        name = f"{number}{draw(_file_names.filter(str.isprintable))}"
        if role == "policy":
            path, content = f"{server}/executionplans/{file}{number}.x", draw(st.binary())
        else:
            path = f"{server}/synapse-configs/default/{KINDS[role]}/{file}.xml"
            content = xml(role, name)
        if role == "api":
            version = draw(st.sampled_from(["", "1.0"]))
            content = api_xml(f"n{number}", version)
            if version and draw(st.booleans()):
                owned = f"{server}/synapse-configs/default/sequences/{number}.xml"
                files[owned] = xml("sequence", f"n{number}--v1.0--In")
        files[path] = content
    return {
        path: content for path, content in files.items() if not is_leftover(path) and _fits(path)
    }


def _fits(path: str) -> bool:
    return check_path(path) == path and not path.endswith(tuple(BASE_FILES))


@given(repositories())
def test_a_tree_becomes_artifacts_and_the_same_tree_again(files: dict[str, bytes]) -> None:
    tree = artifacts_of(files)
    assert said(tree) == []
    assert files_of_tree(tree.artifacts) == files
    assert artifacts_of(files_of_tree(tree.artifacts)) == tree


@given(repositories(), st.randoms())
def test_artifacts_do_not_depend_on_the_order_of_files(
    files: dict[str, bytes], random: Any
) -> None:
    paths = list(files)
    random.shuffle(paths)
    assert artifacts_of({path: files[path] for path in paths}) == artifacts_of(files)


_stumbling = st.dictionaries(
    st.builds(
        "/".join,
        st.tuples(
            st.sampled_from([*_SERVERS, "tenants/carbon.super", "conf", "tenants"]),
            st.sampled_from(["synapse-configs/default", "", "executionplans", "webapps"]),
            st.sampled_from([*KINDS.values(), "elsewhere", ".git", ""]),
            st.sampled_from(["a.xml", "b.xml", "Menu--v1--In.xml", "m_v1.xml", ".a", "a", "b.txt"]),
        ),
    ),
    st.sampled_from(
        [
            b"",
            b"<",
            api_xml("Menu", "1"),
            api_xml("m", "1", UUID),
            xml("sequence", "Menu--v1--In"),
            xml("endpoint", "a"),
            xml("local-entry", UUID),
            xml("sequence", "s"),
        ]
    ),
)


@given(_stumbling)
def test_of_any_tree_what_is_taken_is_sound_and_comes_back(files: dict[str, bytes]) -> None:
    tree = artifacts_of(files)
    for artifact in tree.artifacts:
        describe(artifact)
    back = files_of_tree(tree.artifacts)
    assert back.items() <= files.items()
    assert artifacts_of(back) == Tree(tree.artifacts, (), (), tree.pieces, tree.claims)
    told = {problem.where for problem in tree.problems}
    assert not told & back.keys()
    for path in files.keys() - back.keys() - set(tree.base) - told:  # nothing goes in silence
        assert is_leftover(path) or not _LOOKED_AT.match(path), path


_LOOKED_AT = re.compile(
    "(deployment/server|tenants/[^/]+)/(synapse-configs/default|executionplans)/"
)


# What a tree's files become -------------------------------------------------------------------


def test_each_kind_is_an_artifact_of_its_own() -> None:
    files = {
        f"synapse-configs/default/{KINDS[role]}/x.xml": xml(role, "x", 'context="/x"')
        for role in TAGS
    }
    files["executionplans/x.siddhiql"] = b"@Plan:name('x')"
    files["executionplans/sub/x"] = b"\x00\xff"
    tree = artifacts_of(files, kind=TreeKind.SERVER)
    assert said(tree) == []
    assert sorted(names(tree)) == sorted(
        [*(f"{role} x" for role in TAGS), "policy x", "policy sub/x"]
    )
    assert files_of_tree(tree.artifacts, kind=TreeKind.SERVER) == files


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("gold.siddhi", "gold"),
        ("gold.siddhiql", "gold"),
        ("app_1.0", "app_1.0"),
        ("gold.json", "gold.json"),
        ("sub/gold.siddhi", "sub/gold"),
        ("p.siddhi/.siddhiql", None),
    ],
)
def test_a_policy_is_named_by_its_file(file: str, name: str | None) -> None:
    tree = artifacts_of({f"executionplans/{file}": b"x"}, kind=TreeKind.SERVER)
    assert [each.identity.name for each in tree.artifacts] == ([name] if name else [])


def test_a_file_is_the_same_artifact_in_a_tree_and_by_itself() -> None:
    for path, content in {
        "sequences/a.xml": xml("sequence", "s"),
        "api/admin--Menu_v1.xml": api_xml("admin--Menu", "1", UUID),
    }.items():
        (artifact,) = configs({path: content}).artifacts
        assert artifact == artifact_from_xml(content, path)


def test_an_api_comes_with_what_it_owns() -> None:
    files = {
        "api/admin--Menu_v1.0.xml": api_xml("admin--Menu", "1.0", UUID),
        "endpoints/Menu--v1.0_APIproductionEndpoint.xml": xml(
            "endpoint", "Menu--v1.0_APIproductionEndpoint"
        ),
        "local-entries/x.xml": xml("local-entry", UUID),
        "local-entries/y.xml": xml("local-entry", f"{UUID}_graphQL"),
        "sequences/Menu--v1.0--In.xml": xml("sequence", "Menu--v1.0--In"),
        "sequences/Menu--v2.0--In.xml": xml("sequence", "Menu--v2.0--In"),
        "local-entries/z.xml": xml("local-entry", "z"),
    }
    tree = configs(files)
    assert said(tree) == []
    menu = next(each for each in tree.artifacts if each.identity.kind == "api")
    assert str(menu.identity) == "api Menu 1.0"
    assert menu.api_id == UUID
    assert [part.path for part in menu.parts] == list(files)[:5]
    assert sorted(names(tree)) == ["api Menu 1.0", "local-entry z", "sequence Menu--v2.0--In"]


def test_tenants_are_named_by_their_folders_and_the_server_is_whose_it_is_said_to_be() -> None:
    files = {
        "deployment/server/synapse-configs/default/sequences/a.xml": xml("sequence", "a"),
        "tenants/1/synapse-configs/default/sequences/a.xml": xml("sequence", "a"),
        "tenants/a.com/executionplans/p": b"",
        "conf/deployment.toml": b"",
        "deployment/server/webapps/x.war": b"",
        "tenants/1/webapps/x.war": b"",
        "deployment/server/synapse-configs/other/sequences/a.xml": b"",
    }
    tree = artifacts_of(files, tenant="b.com")
    assert said(tree) == []
    assert {each.identity.tenant for each in tree.artifacts} == {"b.com", "1", "a.com"}
    assert files_of_tree(tree.artifacts, tenant="b.com") == {
        path: files[path] for path in list(files)[:3]
    }
    again = artifacts_of(files, tenant="1")
    assert said(again) == [
        "tenants/1/synapse-configs/default/sequences/a.xml: "
        "tenant '1' has its files in deployment/server; move them there"
    ]


# What belongs to the installation -------------------------------------------------------------


def test_the_base_files_are_recognised_whatever_is_in_them() -> None:
    assert len(BASE_FILES) == 29
    tree = configs({**dict.fromkeys(BASE_FILES, b"<"), "sequences/a.xml": xml("sequence", "a")})
    assert names(tree) == ["sequence a"]
    assert said(tree) == []
    assert set(tree.base) == BASE_FILES


def test_another_tenants_fault_sequence_is_its_own_but_not_the_registry() -> None:
    files = {"sequences/fault.xml": xml("sequence", "fault"), "registry.xml": b"<registry/>"}
    tree = configs(files, tenant="a.com")
    assert names(tree) == ["sequence fault (a.com)"]
    assert tree.base == ("registry.xml",)


def test_what_is_hidden_or_left_by_editors_is_passed_over() -> None:
    tree = configs({"sequences/.a.xml": b"<", "sequences/a.xml~": b"<", ".git/HEAD": b""})
    assert tree == Tree((), (), ())


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("sequences/a.xml", b"<a>\n<b></a>", "sequences/a.xml:2: not well-formed XML"),
        (
            "sequences/a.xml",
            b"\n" + xml("endpoint", "a"),
            "sequences/a.xml:2: its root element makes it a endpoint; that belongs in endpoints/",
        ),
        ("sequences/a.txt", b"", "sequences/a.txt: no server deploys a file of this type"),
        ("sequences/a.xml.bak", xml("sequence", "a"), "no server deploys"),
        ("event-sources/a.xml", b"", "event-sources/a.xml: stands in none of the folders"),
        ("executionplans/a.xml", b"", "stands in none of the folders"),
        ("a.xml", xml("sequence", "a"), "a.xml: stands in none of the folders"),
        ("sequences/a\\b.xml", xml("sequence", "a"), "must be relative"),
        ("sequences/\udcff.xml", xml("sequence", "a"), "is not valid Unicode"),
        ("sequences/a.xml", xml("sequence", ".."), "sequences/a.xml: name '..' contains"),
        ("api/a.xml", b"\n" + xml("api", "a", 'context="x"'), "api/a.xml:2: attribute 'context'"),
    ],
)
def test_a_fault_is_told_with_its_file_and_line(path: str, content: bytes, reason: str) -> None:
    tree = configs({path: content, "sequences/sound.xml": xml("sequence", "sound")})
    assert names(tree) == ["sequence sound"]
    assert reason in said(tree)[0]
    assert all(problem.where.startswith(path[0]) for problem in tree.problems)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (xml("sequence", "s"), xml("sequence", "s"), "the identity sequence s"),
        (api_xml("a", "1", context="/x"), api_xml("b", "1", context="/x"), "the context '/x'"),
        (api_xml("a", "1", UUID), api_xml("b", "1", UUID), f"the UUID {UUID}"),
    ],
)
def test_a_second_claim_to_a_name_is_refused(one: bytes, other: bytes, what: str) -> None:
    folder = "api" if one.startswith(b"<api") else "sequences"
    tree = configs({f"{folder}/1.xml": one, f"{folder}/2.xml": b"\n" + other})
    assert len(tree.artifacts) == 1
    assert len(tree.problems) == 1
    assert said(tree)[0].startswith(f"{folder}/2.xml:2: {what}")
    assert f"is that of {folder}/1.xml too" in said(tree)[0]


def test_each_fault_of_an_artifact_is_told_and_every_file_that_is_left_out_for_it() -> None:
    tree = configs(
        {
            "api/m.xml": api_xml("m", "1", context="/x"),
            "api/n.xml": api_xml("n", "1", context="/x"),
            "sequences/a.xml": xml("sequence", "n--v1--In"),
            "sequences/b.xml": xml("sequence", "n--v1--In"),
        }
    )
    assert names(tree) == ["api m 1"]
    assert said(tree) == [
        "sequences/b.xml: two parts are sequence 'n--v1--In'",
        "api/n.xml: is left out with the rest of api n 1",
        "sequences/a.xml: is left out with the rest of api n 1",
    ]


def test_names_of_two_tenants_and_versions_of_one_api_do_not_meet() -> None:
    tree = artifacts_of(
        {
            "deployment/server/synapse-configs/default/api/1.xml": api_xml("m", "1"),
            "deployment/server/synapse-configs/default/api/2.xml": api_xml("m", "2"),
            "tenants/1/synapse-configs/default/api/1.xml": api_xml("m", "1"),
        }
    )
    assert said(tree) == []
    assert len(tree.artifacts) == 3


def test_an_api_is_left_out_with_a_part_of_it_that_is_broken() -> None:
    tree = configs(
        {
            "api/m.xml": api_xml("m", "1"),
            "endpoints/m--v1_e.xml": xml("endpoint", "m--v1_e"),
            "sequences/m--v1--In.xml": b"<sequence>",
            "sequences/s.xml": xml("sequence", "s"),
        }
    )
    assert names(tree) == ["sequence s"]
    first, *others = said(tree)
    assert first.startswith("sequences/m--v1--In.xml:1: not well-formed")
    assert others == [
        "api/m.xml: is left out with the rest of api m 1",
        "endpoints/m--v1_e.xml: is left out with the rest of api m 1",
    ]


def test_what_a_broken_api_would_own_does_not_become_shared() -> None:
    tree = configs(
        {
            "api/admin--m_v1.xml": f'<api><property name="apiUUID" value="{UUID}"/>'.encode(),
            "endpoints/e.xml": xml("endpoint", "m--v1_e"),
            "local-entries/l.xml": xml("local-entry", UUID),
            "sequences/s.xml": xml("sequence", "s"),
        }
    )
    assert names(tree) == ["sequence s"]
    assert said(tree)[1:] == [
        "endpoints/e.xml: belongs to the API in api/admin--m_v1.xml, which is refused",
        "local-entries/l.xml: belongs to the API in api/admin--m_v1.xml, which is refused",
    ]


# Artifacts that make no tree ------------------------------------------------------------------


def _sequence(path: str, name: str = "s", tenant: str = "carbon.super") -> Artifact:
    (artifact,) = configs({path: xml("sequence", name)}, tenant=tenant).artifacts
    return artifact


def test_two_artifacts_of_one_path_make_no_tree() -> None:
    with pytest.raises(ProblemsError, match="another artifact's file stands there too"):
        files_of_tree([_sequence("sequences/a.xml", "a"), _sequence("sequences/a.xml", "b")])


@pytest.mark.parametrize(
    ("tenant", "kind", "home"),
    [
        ("a/b", TreeKind.REPOSITORY, "carbon.super"),
        ("carbon.super", TreeKind.REPOSITORY, "a.com"),
        ("a.com", TreeKind.SERVER, "carbon.super"),
    ],
)
def test_an_artifact_that_a_tree_has_no_place_for_is_refused(
    tenant: str, kind: TreeKind, home: str
) -> None:
    with pytest.raises(ProblemsError, match="has no place in this kind of tree"):
        files_of_tree([_sequence("sequences/a.xml", tenant=tenant)], kind=kind, tenant=home)


def test_policies_stand_beside_a_configuration_not_in_it() -> None:
    tree = artifacts_of({"executionplans/p": b""}, kind=TreeKind.SERVER)
    with pytest.raises(ProblemsError, match="has no place"):
        files_of_tree(tree.artifacts, kind=TreeKind.CONFIGS)
