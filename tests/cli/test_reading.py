"""What PATH may name, how its kinds are told apart, and what is refused on the way."""

import json
import os
from pathlib import Path

import pytest

from gatesync.artifacts.model import ARTIFACT_MAX_BYTES
from gatesync.artifacts.tree import TreeKind
from gatesync.cli.reading import Found, read_artifacts
from gatesync.cli.trees import tree_kind
from tests.servers.gatesync import EXAMPLES, sequence_xml

pytestmark = pytest.mark.fast

SEQUENCES = "synapse-configs/default/sequences"


def write(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(path: Path, tenant: str | None = None) -> Found:
    return read_artifacts([path], tenant)


def said(found: Found) -> list[str]:
    return [str(problem) for problem in found.problems]


def names(found: Found) -> list[str]:
    return [str(artifact.identity) for artifact in found.artifacts]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder of a running server: beside the artifacts lies what is none of our business."""
    folder = tmp_path / "repository"
    write(folder / f"deployment/server/{SEQUENCES}/a.xml", sequence_xml("a"))
    write(folder / f"deployment/server/{SEQUENCES}/fault.xml", sequence_xml("fault"))
    write(folder / "deployment/server/synapse-configs/default/synapse.xml", b"<definitions/>")
    write(folder / "deployment/server/executionplans/p.siddhiql", b"\xff")
    write(folder / "deployment/server/webapps/x.war", b"<")
    write(folder / f"tenants/1/{SEQUENCES}/a.xml", sequence_xml("a"))
    write(folder / "conf/deployment.toml")
    (folder / "logs").symlink_to("/var/log")
    return folder


@pytest.mark.parametrize(
    ("below", "kind", "held"),
    [
        (".", TreeKind.REPOSITORY, ["sequence a", "policy p", "sequence a (1)"]),
        ("deployment/server", TreeKind.SERVER, ["sequence a", "policy p"]),
        ("deployment/server/synapse-configs/default", TreeKind.CONFIGS, ["sequence a"]),
        ("tenants/1", TreeKind.SERVER, ["sequence a"]),
    ],
)
def test_a_servers_folder_is_taken_as_it_is(
    repository: Path, below: str, kind: TreeKind, held: list[str]
) -> None:
    assert tree_kind(repository / below) is kind
    found = read(repository / below)
    assert said(found) == []
    assert sorted(names(found)) == sorted(held)


def test_a_tenant_is_said_for_what_does_not_name_its_own(repository: Path) -> None:
    found = read(repository, "a.com")
    assert sorted(names(found)) == [
        "policy p (a.com)",
        "sequence a (1)",
        "sequence a (a.com)",
        "sequence fault (a.com)",
    ]
    assert names(read(repository / "tenants/1", "b.com")) == ["sequence a (b.com)"]


def test_the_installations_files_are_told_apart(repository: Path) -> None:
    found = read(repository)
    configs = repository / "deployment/server/synapse-configs/default"
    assert found.base == [str(configs / "sequences/fault.xml"), str(configs / "synapse.xml")]


def test_nor_is_one_of_them_published_by_itself(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = repository / f"deployment/server/{SEQUENCES}"
    monkeypatch.chdir(sequences)
    (reason,) = said(read(Path("fault.xml")))
    assert reason.endswith(
        "fault.xml: belongs to the server's installation, which each node "
        "brings along; it is never published"
    )
    assert names(read(Path("fault.xml"), "a.com")) == ["sequence fault (a.com)"]
    assert names(read(Path("a.xml"))) == ["sequence a"]


def test_hidden_folders_are_not_even_looked_into(repository: Path) -> None:
    hidden = repository / f"deployment/server/{SEQUENCES}/.git"
    hidden.mkdir()
    (hidden / "link").symlink_to("/nowhere")
    assert said(read(repository)) == []


@pytest.mark.parametrize("mark", ["api", "executionplans", "synapse-configs/default", "tenants"])
def test_artifact_folders_are_never_a_tree(tmp_path: Path, mark: str) -> None:
    menu = (EXAMPLES / "menu/artifact.toml").read_bytes()
    write(tmp_path / "one/artifact.toml", menu)
    (tmp_path / "one" / mark).mkdir(parents=True)
    assert "artifact.toml" not in said(read(tmp_path / "one"))[0].partition("neither")[2]

    (tmp_path / mark).mkdir(parents=True)
    assert said(read(tmp_path)) == said(read(tmp_path / "one"))


def test_the_outermost_that_a_folder_can_be_it_is(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    assert tree_kind(tmp_path) is TreeKind.CONFIGS
    (tmp_path / "executionplans").mkdir()
    assert tree_kind(tmp_path) is TreeKind.SERVER
    (tmp_path / "tenants").mkdir()
    assert tree_kind(tmp_path) is TreeKind.REPOSITORY


def test_a_folder_above_a_tree_is_refused_with_a_hint(repository: Path) -> None:
    (reason,) = said(read(repository.parent))
    assert "nor has it only .json files; did you mean repository in it?" in reason


def test_a_tree_without_an_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sequences").mkdir()
    assert said(read(tmp_path)) == [f"{tmp_path}: holds no artifact"]


def test_every_fault_is_told_with_its_file_and_line(repository: Path) -> None:
    server = repository / "deployment/server"
    bad = write(server / SEQUENCES / "bad.xml", b"<sequence>\n<log></sequence>")
    twice = write(server / SEQUENCES / "c.xml", b"\n\n" + sequence_xml("a"))
    found = read(repository)
    assert len(found.artifacts) == 3
    first, second = said(found)
    assert first.startswith(f"{bad}:2: not well-formed XML")
    assert second.startswith(f"{twice}:3: the identity sequence a is that of")


@pytest.mark.parametrize(
    "link",
    [
        f"deployment/server/{SEQUENCES}/l.xml",
        f"deployment/server/{SEQUENCES}/folder",
        "deployment/server/synapse-configs/default/endpoints",
        "deployment/server/executionplans/p",
        "tenants/2",
        "tenants/3/synapse-configs",
        "tenants/3/executionplans",
    ],
)
def test_a_symbolic_link_is_refused_and_not_followed(
    repository: Path, tmp_path: Path, link: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / "x.xml", sequence_xml("x"))
    write(elsewhere / "default/sequences/x.xml", sequence_xml("x"))
    write(elsewhere / f"{SEQUENCES}/x.xml", sequence_xml("x"))
    (repository / link).parent.mkdir(parents=True, exist_ok=True)
    (repository / link).symlink_to(elsewhere)
    found = read(repository)
    assert said(found) == [
        f"{repository / link}: symbolic links are not followed; put a file or folder in its place"
    ]
    assert len(found.artifacts) == 3


def test_a_link_that_is_on_the_way_to_everything_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "deployment").symlink_to("/nowhere")
    (folder / "tenants").mkdir()
    assert [reason.partition(":")[0] for reason in said(read(folder))] == [
        str(folder / "deployment")
    ]


def test_a_path_that_is_itself_a_link_is_followed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(repository)
    assert names(read(tmp_path / "current")) == names(read(repository))


def test_a_pipe_is_refused_and_not_waited_for(repository: Path) -> None:
    pipe = repository / f"deployment/server/{SEQUENCES}/pipe.xml"
    os.mkfifo(pipe)
    assert said(read(repository)) == [f"{pipe}: neither a file nor a folder"]


def test_what_cannot_be_read_is_told(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository / f"deployment/server/{SEQUENCES}"
    for name in ("file.xml", "folder/file.xml"):
        write(folder / name, sequence_xml(name))
    opened, listed = Path.open, Path.iterdir

    def refuse(path: Path) -> None:  # root may read everything: modes would not do
        if path in {folder / "file.xml", folder / "folder"}:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", lambda path, *more: refuse(path) or opened(path, *more))
    monkeypatch.setattr(Path, "iterdir", lambda path: refuse(path) or listed(path))
    assert sorted(said(read(repository))) == [
        f"{folder}/file.xml: cannot be read: Permission denied",
        f"{folder}/folder: cannot be read: Permission denied",
    ]


def test_a_file_that_no_artifact_can_hold_is_told(repository: Path) -> None:
    file = repository / "deployment/server/executionplans/large"
    with file.open("wb") as large:
        large.truncate(ARTIFACT_MAX_BYTES + 1)
    (reason,) = said(read(repository))
    assert reason.startswith(f"{file}: more than {ARTIFACT_MAX_BYTES} bytes")


def test_a_name_that_is_not_unicode_is_told(repository: Path) -> None:
    folder = os.fsencode(repository / f"deployment/server/{SEQUENCES}")
    with open(folder + b"/\xff.xml", "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(sequence_xml("x"))
    (reason,) = said(read(repository))
    assert reason.endswith("is not valid Unicode")
    assert len(read(repository).artifacts) == 3


# WSO2's artifact JSON -------------------------------------------------------------------------


def menu_json(name: str = "Menu", **members: object) -> bytes:
    api = f'<api name="{name}" context="/{name}" version="1"/>'
    return json.dumps({"name": name, "version": "1", "apiDefinition": api, **members}).encode()


def test_a_json_file_is_what_wso2_keeps_of_an_api(tmp_path: Path) -> None:
    credentials = [{"alias": alias, "password": "hush"} for alias in ("b", "a")]
    path = write(tmp_path / "menu.JSON", menu_json(credentialsToBeAdd=credentials))
    found = read(path, "a.com")
    assert (names(found), said(found), found.secrets) == (["api Menu 1 (a.com)"], [], ["a", "b"])
    assert "hush" not in repr(found)
    api = "api Menu 1 (a.com)/api/Menu_v1.xml:3: no such sequence"
    assert found.located(api) == f"{path}/api/Menu_v1.xml:3: no such sequence"


def test_a_folder_of_them_is_taken_whatever_its_labels_are(tmp_path: Path) -> None:
    for place in ("Production/1.json", "Sandbox/1.json"):
        write(tmp_path / place, menu_json(credentialsToBeAdd=[{"alias": "a", "password": "x"}]))
    write(tmp_path / "2.json", menu_json("Pizza"))
    write(tmp_path / ".git/config")
    write(tmp_path / "Production/.DS_Store")
    found = read(tmp_path)
    assert (names(found), said(found)) == (["api Pizza 1", "api Menu 1"], [])
    assert found.secrets == ["a"]


def test_what_stands_under_two_labels_and_differs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/1.json", menu_json())
    second = write(tmp_path / "b/1.json", menu_json(override=False))
    found = read(tmp_path)
    assert names(found) == ["api Menu 1"]
    reason = "holds api Menu 1 too, and differs; publish one of them"
    assert said(found) == [f"{second}: {tmp_path / 'a/1.json'} {reason}"]


def test_every_fault_of_a_json_is_told_with_its_member(tmp_path: Path) -> None:
    write(tmp_path / "1.json", b"[]")
    write(tmp_path / "2.json", menu_json(tenantDomain="b.com", override=3))
    write(tmp_path / "3.json", menu_json("Pizza", apiDefinition="<api name='p' context='p'/>"))
    write(tmp_path / "4.json", menu_json())
    found = read(tmp_path, "a.com")
    assert names(found) == ["api Menu 1 (a.com)"]
    first, second, third, fourth = said(found)
    assert first.startswith(f"{tmp_path}/1.json: it is not a JSON object")
    assert second == f"{tmp_path}/2.json/override: must be true or false, not a number"
    assert third.startswith(f"{tmp_path}/2.json/tenantDomain: is 'b.com', but --tenant says")
    assert fourth.startswith(f"{tmp_path}/3.json/api Pizza 1 (a.com)/api/Pizza_v1.xml:1: ")


def test_json_beside_other_files_is_no_folder_of_them(tmp_path: Path) -> None:
    write(tmp_path / "1.json", menu_json())
    write(tmp_path / "deeper/README.md")
    (reason,) = said(read(tmp_path))
    assert "nor has it only .json files" in reason
    (tmp_path / "deeper/README.md").unlink()
    assert names(read(tmp_path)) == ["api Menu 1"]


def test_a_link_among_them_is_refused(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere.json", menu_json())
    write(tmp_path / "all/1.json", menu_json())
    (tmp_path / "all/2.json").symlink_to(elsewhere)
    found = read(tmp_path / "all")
    assert names(found) == []
    assert said(found) == [
        f"{tmp_path}/all/2.json: symbolic links are not followed; put a file or folder in its place"
    ]


def test_a_json_that_no_artifact_can_be_is_told(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as large:
        large.truncate(ARTIFACT_MAX_BYTES + 1)
    (reason,) = said(read(path))
    assert reason.startswith(f"{path}: more than {ARTIFACT_MAX_BYTES} bytes")
