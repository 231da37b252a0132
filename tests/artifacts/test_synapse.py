import pytest

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import KINDS, Identity
from gatesync.artifacts.synapse import artifact_from_xml, read_root

pytestmark = pytest.mark.fast

NS = 'xmlns="http://ws.apache.org/ns/synapse"'


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("api", "api"),
        ("sequence", "sequence"),
        ("endpoint", "endpoint"),
        ("proxy", "proxy-service"),
        ("inboundEndpoint", "inbound-endpoint"),
        ("messageStore", "message-store"),
        ("messageProcessor", "message-processor"),
        ("template", "template"),
        ("task", "task"),
        ("import", "import"),
    ],
)
def test_the_root_element_decides_the_kind(tag: str, kind: str) -> None:
    for document in (
        f'<{tag} {NS} name="one"/>',
        f'<{tag} name="one"/>',
        f'<s:{tag} xmlns:s="http://ws.apache.org/ns/synapse" name="one"/>',
    ):
        artifact = artifact_from_xml(document.encode(), "some/where/file.xml")
        assert artifact.identity == Identity("carbon.super", kind, "one")
        (part,) = artifact.parts
        assert (part.role, part.name) == (kind, "one")
        assert part.path == f"{KINDS[kind]}/file.xml"
        assert part.content == document.encode()


def test_a_local_entry_is_named_by_its_key() -> None:
    artifact = artifact_from_xml(f'<localEntry {NS} key="k" name="n"/>'.encode(), "k.xml")
    assert artifact.identity.name == artifact.parts[0].name == "k"
    assert artifact.parts[0].path == "local-entries/k.xml"


def test_an_import_is_named_with_its_package_since_packages_share_names() -> None:
    document = f'<import {NS} name="gmail" package="org.wso2.carbon.connector"/>'
    artifact = artifact_from_xml(document.encode(), "x.xml")
    assert artifact.identity.name == "{org.wso2.carbon.connector}gmail"


def test_an_api_has_the_version_of_its_attribute() -> None:
    document = f'<api {NS} name="Menu" context="/menu" version="2.0"/>'
    assert artifact_from_xml(document.encode(), "Menu.xml").identity.version == "2.0"


@pytest.mark.parametrize(
    ("name", "version", "path", "identity_name"),
    [
        ("admin--Menu", "1.0.0", "api/admin--Menu_v1.0.0.xml", "Menu"),
        ("admin--Menu", "1.0.0", r"C:\api\admin--Menu_v1.0.0.xml", "Menu"),
        ("a:b--Menu", "1:0", "a_b--Menu_v1_0.xml", "Menu"),
        ("a--b--c", "1", "a--b--c_v1.xml", "b--c"),
        ("admin--Menu", "1.0.0", "admin--Menu.xml", "admin--Menu"),
        ("admin--Menu", "1.0.0", "admin--Menu_v2.0.0.xml", "admin--Menu"),
        ("admin--Menu", "", "admin--Menu_v.xml", "admin--Menu"),
        ("Menu", "1.0.0", "Menu_v1.0.0.xml", "Menu"),
        ("--Menu", "1", "--Menu_v1.xml", "--Menu"),
        ("admin--", "1", "admin--_v1.xml", "admin--"),
    ],
)
def test_an_api_in_a_file_of_wso2s_is_named_without_its_provider(
    name: str, version: str, path: str, identity_name: str
) -> None:
    document = f'<api {NS} name="{name}" context="/menu" version="{version}"/>'
    artifact = artifact_from_xml(document.encode(), path)
    assert artifact.identity.name == identity_name
    assert artifact.parts[0].name == name


def test_a_provider_is_dropped_from_apis_only() -> None:
    artifact = artifact_from_xml(f'<sequence {NS} name="a--b"/>'.encode(), "a--b.xml")
    assert artifact.identity.name == "a--b"


def test_tenant_and_id_are_taken_as_given() -> None:
    document = f'<sequence {NS} name="s"/>'.encode()
    artifact = artifact_from_xml(document, "s.xml", tenant="a.com", api_id="my id")
    assert (artifact.identity.tenant, artifact.api_id) == ("a.com", "my id")


def test_without_an_id_the_identity_gives_one() -> None:
    document = f'<sequence {NS} name="s"/>'.encode()
    mine, theirs = (
        artifact_from_xml(document, "s.xml", tenant=tenant) for tenant in ("a.com", "b.com")
    )
    assert mine.api_id == mine.identity.default_api_id() != theirs.api_id


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('<definitions name="x"/>', "'definitions' is not one that Synapse deploys"),
        ('<API name="x"/>', "'API' is not one"),
        ('<api xmlns="http://example.com/" name="x"/>', "{http://example.com/}api"),
        ("<sequence/>", "<sequence> has no attribute 'name'"),
        ('<sequence name=""/>', "<sequence> has no attribute 'name'"),
        ('<sequence key="x"/>', "<sequence> has no attribute 'name'"),
        ('<localEntry name="x"/>', "<localEntry> has no attribute 'key'"),
    ],
)
def test_what_synapse_would_not_deploy_is_refused_with_file_and_line(
    document: str, reason: str
) -> None:
    with pytest.raises(Problem) as refused:
        read_root(f"<!-- -->\n{document}".encode(), "a/b.xml")
    assert str(refused.value).startswith("a/b.xml:2: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", ["../x", "a/../../etc/passwd", "..", r"..\x", "x" * 256])
def test_a_name_that_could_do_harm_is_refused(name: str) -> None:
    with pytest.raises(ProblemsError, match=r"path step|at most 255"):
        artifact_from_xml(f'<sequence name="{name}"/>'.encode(), "s.xml")


@pytest.mark.parametrize("path", ["..", "a/..", "a/", ""])
def test_a_path_without_a_file_name_is_refused(path: str) -> None:
    with pytest.raises(ProblemsError, match="path 'sequences/"):
        artifact_from_xml(b'<sequence name="s"/>', path)


def test_a_tenant_from_a_broken_terminal_is_refused() -> None:
    with pytest.raises(Problem, match=r"tenant .* is not valid Unicode"):
        artifact_from_xml(b'<sequence name="s"/>', "s.xml", tenant="\udcff")
