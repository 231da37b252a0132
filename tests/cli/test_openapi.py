"""OpenAPI documents as a PATH of publish, as its user sees them."""

import json
from pathlib import Path
from typing import Any

import pytest

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.folder import artifact_from_files
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.cli.reading import Found, read_artifacts
from tests.servers.gatesync import LABEL, Place, sequence_xml

TOYS = """\
openapi: 3.0.3
info: {title: Toys, version: '1'}
paths:
  /toys/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get: {responses: {'200': {description: A toy}}}
"""
BACKEND = OpenApiOptions(endpoint="https://backend")
SAID = "each operation asks for an OAuth 2.0 token, as in WSO2, also where the document asks for"


def titled(title: str) -> str:
    return TOYS.replace("Toys", title)


def as_json(title: str) -> str:
    paths = {"/a": {"get": {"responses": {"200": {"description": "It"}}}}}
    info = {"title": title, "version": "1"}
    return json.dumps({"openapi": "3.1.0", "info": info, "paths": paths})


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def said(found: Found) -> list[str]:
    return [str(problem) for problem in found.problems]


# What a PATH is ------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("toys.yaml", TOYS),
        ("toys.YML", TOYS),
        ("toys.json", as_json("Toys")),
        ("last.json", '{"x-first": 1, ' + as_json("Toys")[1:]),
    ],
)
def test_a_file_that_is_an_openapi_document_is_read_as_one(
    tmp_path: Path, name: str, text: str
) -> None:
    found = read_artifacts([write(tmp_path / name, text)], "a.example", BACKEND)

    assert said(found) == []
    (artifact,) = found.artifacts
    assert str(artifact.identity) == "api Toys 1 (a.example)"
    assert artifact.load().identity == artifact.identity
    assert found.notes == [f"{tmp_path / name}: {SAID} something else or for nothing ({one(text)})"]


def one(text: str) -> str:
    return "GET /toys/{id}" if text == TOYS else "GET /a"


@pytest.mark.fast
def test_json_that_is_none_is_wso2s(tmp_path: Path) -> None:
    document = {"name": "Menu", "apiDefinition": "<api name='Menu' context='/m'/>", "paths": {}}
    path = write(tmp_path / "menu.json", json.dumps(document))
    found = read_artifacts([path], None, OpenApiOptions())
    assert [str(each.identity) for each in found.artifacts] == ["api Menu"]


@pytest.mark.fast
def test_faults_are_told_with_the_file_and_the_line(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.json", '{"openapi": "3.0.0",\n "info": }')
    wrong = write(tmp_path / "wrong.yaml", TOYS.replace("get:", "got:"))
    found = read_artifacts([broken, wrong], None, BACKEND)
    assert said(found)[0].startswith(f"{broken}:2: not JSON: ")
    assert said(found)[1].startswith(f"{wrong}:4: #/paths/~1toys~1{{id}}: 'got': OpenAPI has no")


@pytest.mark.fast
def test_a_folder_of_documents_takes_one_endpoint_and_no_other_option(tmp_path: Path) -> None:
    for name in ("Toys", "Games"):
        write(tmp_path / f"{name}.json", as_json(name))
    found = read_artifacts([tmp_path], None, BACKEND)
    assert [each.identity.name for each in found.artifacts] == ["Games", "Toys"]

    found = read_artifacts([tmp_path], None, OpenApiOptions("https://backend", version="2"))
    assert said(found) == ["--version: for one OpenAPI document, not for 2"]


@pytest.mark.fast
def test_options_without_a_document_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(sequence_xml("a"))
    assert said(read_artifacts([path], None, OpenApiOptions())) == []
    assert said(read_artifacts([path], None, BACKEND)) == [
        "--endpoint: for OpenAPI documents only, and no PATH is one"
    ]


@pytest.mark.fast
def test_a_note_writes_nothing_to_a_terminal_but_text(tmp_path: Path) -> None:
    document = json.loads(as_json("Toys"))
    document["security"] = [{"\x1b[2Jkey": []}]
    options = OpenApiOptions("https://backend", allow_unauthenticated=True)
    found = read_artifacts([write(tmp_path / "toys.json", json.dumps(document))], None, options)
    (note,) = found.notes
    assert note.endswith("though the document asks for \\x1b[2Jkey (GET /a)")


@pytest.mark.fast
def test_what_reads_artifacts_only_refuses_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "toys.yaml", TOYS)
    assert said(read_artifacts([path], None)) == [
        f"{path}: is an OpenAPI document and no artifact; publish it with 'gatesync publish'"
    ]


@pytest.mark.fast
def test_nothing_outside_of_the_document_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this would read what the document names")

    answers = "{'404': {$ref: 'http://127.0.0.1:9/a.yaml'}, '500': {$ref: './secret.yaml#/a'}}"
    path = write(tmp_path / "toys.yaml", TOYS.replace("{'200': {description: A toy}}", answers))
    (tmp_path / "secret.yaml").mkdir()  # reading it would fail
    monkeypatch.setattr("socket.socket.connect", refuse)

    found = read_artifacts([path], None, BACKEND)

    assert said(found) == []
    assert "refers to other documents, which are not published with it (2 times" in found.notes[1]


# Published ------------------------------------------------------------------------------------


def test_a_document_is_published_served_and_taken_along_like_any_api(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / "toys.yaml", titled(name))
    options = ["--endpoint", "https://backend", "-l", LABEL]

    before = cluster.run("publish", path, *options, "--dry-run")
    assert before.code == 0, before.err
    assert f"new      api {name} 1" in before.out
    assert f"{path}: {SAID}" in before.err.replace("\n", " ")

    done = cluster.run("publish", path, *options, "--wait", "all")
    assert done.code == 0, done.err
    assert f"published api {name} 1" in done.out
    assert name in cluster.held()

    again = cluster.run("publish", path, *options, "--sandbox-endpoint", "https://sandbox")
    assert f"published api {name} 1" in again.out
    assert "https://sandbox" in cluster.run("diff", name, "--label", LABEL).out

    other = write(tmp_path / "other.yaml", titled("Other"))
    taken = cluster.run("publish", other, *options, "--context", f"/{name}")
    assert taken.code == 2
    assert f"the context '/{name}/1' version 1 in label {LABEL!r} belongs to" in taken.err


def test_several_documents_go_live_together_or_not_at_all(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    paths = [write(tmp_path / f"{n}.yaml", titled(f"{name}{n}")) for n in "ab"]
    options = ["--endpoint", "https://backend", "-l", f"label {name}", "--atomic"]

    done = cluster.run("publish", *paths, *options, "--json")
    (change_set,) = done.json()["change_sets"]
    assert [each["entry"]["name"] for each in change_set["changes"]] == [f"{name}a", f"{name}b"]

    bad = write(tmp_path / "bad.yaml", titled("x").replace("get:", "trace:"))
    refused = cluster.run("publish", *paths, bad, *options)
    assert refused.code == 2
    assert f"{bad}:6: #/paths/~1toys~1{{id}}/trace: Synapse has no method TRACE" in refused.err

    exported = tmp_path / "exported"
    written = cluster.run("export", "--label", f"label {name}", "--to", exported)
    assert written.code == 0, written.err
    found = {toml.parent: toml for toml in exported.rglob("artifact.toml")}
    made = read_artifacts(paths, None, BACKEND)
    assert {encode(each.load()) for each in made.artifacts} == {
        encode(artifact_from_files(_files(folder))) for folder in found
    }


def _files(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }
