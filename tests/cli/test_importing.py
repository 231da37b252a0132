"""import: what was exported is published again, and anything else is refused with advice."""

import json
import shutil
from pathlib import Path

import pytest

from gatesync.cli.importing import read_exported
from gatesync.cli.session import CommandError
from tests.servers.gatesync import EXAMPLES, LABEL, Place, place, sequence_xml

LABELS = [LABEL, "a/b", "A/b", "a:b", "\U0001f355", "both ends ", "both ends", " ", "%"]


def test_a_second_cluster_holds_the_same_after_export_and_import(tmp_path: Path) -> None:
    options = [f"--label={label}" for label in LABELS]
    with (
        place(tmp_path / "one", labels=LABELS) as one,
        place(tmp_path / "two", labels=LABELS) as two,
    ):
        one.role("up").start()
        two.role("up").start()
        other = one.folder / "menu.xml"
        other.write_bytes(sequence_xml("menu"))
        assert one.run("publish", EXAMPLES / "pizzashack", *options).code == 0
        assert one.run("publish", other, "--tenant", "a.example", *options[1:]).code == 0
        changed = one.folder / "MENU.xml"
        changed.write_bytes(sequence_xml("MENU", "other"))
        assert one.run("publish", changed, "--tenant", "A.example", options[2]).code == 0
        assert one.run("export", *options, "--to", tmp_path / "out").code == 0

        done = two.run("import", tmp_path / "out", "--wait", "all", "--json")

        assert done.code == 0, done.err
        listed = [_held(each) for each in (one, two)]
        assert listed[0] == listed[1]
        assert len(listed[0]) == 2 * len(LABELS)
        digests = [{h["label"]: h["digest"] for h in each.heads()} for each in (one, two)]
        assert digests[0] == digests[1]
        assert two.run("verify").code == 0
        again = two.run("import", tmp_path / "out")
        assert again.out == "nothing changed: the labels hold exactly this already\n"


def _held(where: Place) -> set[tuple[str, str, str]]:
    held = where.run("list", "--json").json()["artifacts"]
    return {(h["label"], h["entry"]["api_id"], h["entry"]["digest"]) for h in held}


@pytest.fixture
def exported(cluster: Place, tmp_path: Path, sequence: Path, name: str) -> Path:
    """What a label of that name holds."""
    assert cluster.run("publish", sequence, "-l", name).code == 0
    assert cluster.run("export", "-l", name, "--to", tmp_path / "out").code == 0
    return tmp_path / "out"


def test_a_promotion_is_a_copy_of_a_folder(
    cluster: Place, tmp_path: Path, exported: Path, name: str
) -> None:
    shutil.copytree(exported / name, tmp_path / "copy" / f"{name}-prod")
    done = cluster.run("import", tmp_path / "copy")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"published sequence {name} ({name}-prod, revision 1)\n"
    digests = {h["label"]: h["digest"] for h in cluster.heads() if h["label"].startswith(name)}
    assert digests[name] == digests[f"{name}-prod"]


def test_all_of_it_goes_to_one_label_when_asked(
    cluster: Place, tmp_path: Path, exported: Path, name: str
) -> None:
    shutil.copytree(exported / name, exported / f"{name}-two")  # the same: once is enough
    for source in (exported, exported / name):
        done = cluster.run("import", source, "-l", f"{name}-all", "--json")
        assert done.code == 0, done.err
    held = cluster.run("list", "--label", f"{name}-all", "--json").json()["artifacts"]
    assert [each["entry"]["revision"] for each in held] == [1]

    (changed,) = (exported / f"{name}-two").rglob("*.xml")
    changed.write_bytes(sequence_xml(name, "other"))
    done = cluster.run("import", exported, "-l", f"{name}-all")
    assert done.code == 2
    assert f"sequence {name}, or its api_id, is in {exported / name}" in done.err
    assert cluster.run("import", exported).code == 0  # each to a label of its own


def test_wso2s_json_comes_back_as_the_same_artifacts(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    label = f"{name}/A"
    assert cluster.run("publish", EXAMPLES / "pizzashack", sequence, "-l", label).code == 0
    export = ("export", "-l", label, "--to", tmp_path / "out", "--format", "wso2")
    done = cluster.run(*export)
    assert (done.code, done.err) == (
        0,
        f"left out: sequence {name} ({label}): this format holds APIs only\n",
    )
    (file,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    (held,) = (h for h in _held(cluster) if h[0] == label and h[1] in file.name)
    assert file.name == f"{held[1]}.json"
    assert json.loads(file.read_bytes())["name"] == "PizzaShackAPI"

    assert cluster.run("import", tmp_path / "out", "-l", f"{name} two").code == 0
    assert {h[1:] for h in _held(cluster) if h[0] == f"{name} two"} == {held[1:]}
    again = cluster.run("import", tmp_path / "out")
    assert again.out == "nothing changed: the labels hold exactly this already\n"


def test_passwords_in_wso2s_json_are_never_published_and_that_is_told(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    document = {
        "name": name,
        "version": "1.0.0",
        "provider": "admin",
        "tenantDomain": "carbon.super",
        "apiId": f"id-{name}",
        "apiDefinition": f'<api name="admin--{name}" context="/{name}" version="1.0.0"/>',
        "credentialsToBeAdd": [{"alias": "backend", "password": "Xsecret1"}],
    }
    (tmp_path / "in" / name).mkdir(parents=True)
    file = tmp_path / "in" / name / "api.json"
    file.write_text(json.dumps(document))
    (tmp_path / "in" / "package.json").write_text("{}")

    done = cluster.run("import", tmp_path / "in")

    assert done.code == 0, done.err
    assert "Xsecret1" not in done.out + done.err
    assert "left out: passwords; each gateway has to know them itself" in done.err
    assert "$secret{backend}" in done.err
    assert f"no artifact's folder (1), such as {tmp_path / 'in' / 'package.json'}" in done.err
    (digest,) = (h[2] for h in _held(cluster) if h[0] == name)
    content = cluster.ask(f"/v1/contents/{digest}").body
    assert b"$secret{backend}" in content
    assert b"Xsecret1" not in content

    file.write_text(json.dumps(document | {"apiDefinition": "<api"}))
    done = cluster.run("import", tmp_path / "in")
    assert done.code == 2
    assert f"{file}" in done.err
    assert "Xsecret1" not in done.err


def test_what_is_wrong_is_told_and_left_out_only_when_asked(
    cluster: Place, tmp_path: Path, exported: Path, name: str
) -> None:
    shutil.copytree(exported / name, exported / "Prod")
    shutil.copytree(exported / name, exported / f"{name}-broken")
    (broken,) = (exported / f"{name}-broken").rglob("*.xml")
    broken.write_bytes(b"<sequence")
    (exported / "README.md").write_text("ours")
    (exported / ".git").mkdir()
    (exported / ".git" / "config").write_text("x")
    heads = cluster.heads()

    done = cluster.run("import", exported)
    assert (done.code, done.out) == (2, "")
    no_label, not_xml = done.err.splitlines()
    assert no_label == (
        f"gatesync: {exported}/Prod/carbon.super/sequence/{name}/~: 'Prod' is no folder of a "
        "label; that of label 'Prod' is 'Prod~1': rename it, or give --label"
    )
    assert not_xml.startswith(f"gatesync: {broken}:1: not well-formed XML: ")
    assert cluster.heads() == heads

    done = cluster.run("import", exported, "--skip-invalid", "--json")
    assert done.code == 0
    assert len(done.json()["refused"]) == 2
    assert f"no artifact's folder (1), such as {exported / 'README.md'}" in done.err


def test_what_was_not_exported_is_refused_with_what_was_expected(
    cluster: Place, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for path, reason in (
        (tmp_path / "none", "there is no folder"),
        (tmp_path / "empty", "there is no <label>/<tenant>/<kind>/<name>/<version>/artifact.toml"),
        (EXAMPLES, "is not where export puts artifacts, <label>/<tenant>/"),
        (EXAMPLES / "pizzashack" / "artifact.toml", "there is no folder"),
    ):
        done = cluster.run("import", path)
        assert (done.code, done.out) == (2, "")
        assert reason in done.err


# Reading by itself -----------------------------------------------------------------------------


def _put(folder: Path, text: str = "hello", api_id: str = "") -> Path:
    (folder / "sequences").mkdir(parents=True)
    toml = 'format = "gatesync.folder/1"\nkind = "sequence"\nname = "s"\n'
    (folder / "artifact.toml").write_text(toml + (f'api_id = "{api_id}"\n' if api_id else ""))
    (folder / "sequences" / "s.xml").write_bytes(sequence_xml("s", text))
    return folder


@pytest.mark.fast
@pytest.mark.parametrize(
    ("folder", "label"),
    [("dev", "dev"), ("Dev~1", "Dev"), ("dev~1", "Dev"), ("a%2fb", "a/b"), ("%20", " ")],
)
def test_the_first_step_is_the_label_also_in_small_letters(
    tmp_path: Path, folder: str, label: str
) -> None:
    _put(tmp_path / folder / "carbon.super/sequence/s/~")
    assert list(read_exported(tmp_path, None).artifacts) == [label]


@pytest.mark.fast
def test_a_label_of_several_steps_is_one(tmp_path: Path) -> None:
    label = "x" * 255
    _put(tmp_path / f"{'x' * 180}%" / ("x" * 75) / "carbon.super/sequence/s/~")
    assert list(read_exported(tmp_path, None).artifacts) == [label]


@pytest.mark.fast
@pytest.mark.parametrize("folder", ["Dev", "DEV", "a:b", "~", "a%", "Dev~2"])
def test_a_folder_that_export_would_not_write_is_no_label(tmp_path: Path, folder: str) -> None:
    _put(tmp_path / folder / "carbon.super/sequence/s/~")
    read = read_exported(tmp_path, None)
    assert read.artifacts == {}
    assert len(read.found.problems) == 1
    assert list(read_exported(tmp_path, "given").artifacts) == ["given"]


@pytest.mark.fast
def test_two_artifacts_of_one_identity_or_one_id_are_a_fault(tmp_path: Path) -> None:
    _put(tmp_path / "dev/carbon.super/sequence/s/~")
    _put(tmp_path / "dev/carbon.super/sequence/s/1.0", "other")
    _put(tmp_path / "prod/carbon.super/sequence/s/1.0", "other")
    read = read_exported(tmp_path, None)
    (problem,) = read.found.problems
    assert "sequence s, or its api_id, is in" in str(problem)
    assert {label: len(each) for label, each in read.artifacts.items()} == {"dev": 1, "prod": 1}


@pytest.mark.fast
def test_links_are_not_followed_and_are_told(tmp_path: Path) -> None:
    _put(tmp_path / "elsewhere" / "carbon.super/sequence/s/~")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dev").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "api.json").symlink_to(tmp_path / "elsewhere")
    read = read_exported(tmp_path / "out", "given")
    assert read.artifacts == {}
    assert [str(each) for each in read.found.problems] == [
        f"{tmp_path}/out/api.json: symbolic links are not followed",
        f"{tmp_path}/out/dev: symbolic links are not followed",
    ]


@pytest.mark.fast
def test_a_folder_with_nothing_in_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="holds nothing that gatesync exported") as raised:
        read_exported(tmp_path, "given")
    assert raised.value.code == 2
