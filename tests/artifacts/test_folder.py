import tomllib
import unicodedata
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatesync.artifacts import folder
from gatesync.artifacts.canonical import encode
from gatesync.artifacts.errors import FormatError, ProblemsError
from gatesync.artifacts.folder import artifact_from_files, files_of
from gatesync.artifacts.model import Artifact, Identity, Part

from .strategies import artifacts, names

pytestmark = pytest.mark.fast

SEQUENCE = b'<sequence name="s"/>'
SMALL = b'format = "gatesync.folder/1"\nkind = "sequence"\nname = "s"\n'


def _faults(files: dict[str, bytes], tenant: str | None = None) -> list[str]:
    with pytest.raises(ProblemsError) as refused:
        artifact_from_files(files, tenant=tenant)
    return [str(problem) for problem in refused.value.problems]


def _artifact(*parts: Part, tenant: str = "carbon.super") -> Artifact:
    identity = Identity(tenant, "sequence", "s")
    return Artifact(identity, identity.default_api_id(), parts)


@given(artifacts)
def test_a_folder_gives_back_the_artifact_that_made_it(artifact: Artifact) -> None:
    files = files_of(artifact)
    again = artifact_from_files(files)
    assert encode(again) == encode(artifact)
    assert again == artifact
    assert files_of(again) == files


@given(artifacts)
def test_no_file_system_takes_two_of_its_files_for_one(artifact: Artifact) -> None:
    files = [*files_of(artifact)]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        for fold in (str, str.lower, str.upper, str.casefold):
            places = {fold(unicodedata.normalize(form, file)) for file in files}
            assert len(places) == len(files)
            above = {place.rpartition("/")[0] for place in places}
            assert not above & places


@given(artifacts, st.sampled_from(["NFC", "NFD"]), st.sampled_from([str, str.lower, str.upper]))
def test_what_was_moved_comes_back_also_from_folded_names(
    artifact: Artifact, form: Literal["NFC", "NFD"], fold: Callable[[str], str]
) -> None:
    files = files_of(artifact)
    said = f"{files['artifact.toml'].decode()}\n"
    folded = {"artifact.toml": files.pop("artifact.toml")}
    moved = {part.path for part in artifact.parts if part.path not in files}
    for file, content in files.items():
        if f"file = {folder._toml_string(file)}\n" in said:
            file = fold(unicodedata.normalize(form, file))
        folded[file] = content
    again = artifact_from_files(folded)
    assert {part.path for part in again.parts} >= moved
    assert again == artifact


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example('"')
@example("'\"'")
@example("\\")
@example("\x7f\r\n\t\0")
@example("\u2028\ufeff")
def test_any_text_survives_toml(text: str) -> None:
    line = f"a = {folder._toml_string(text)}\n"
    assert tomllib.loads(line) == {"a": text}
    assert "\n" not in line[:-1]


def test_artifact_toml_says_only_what_the_files_cannot() -> None:
    files = files_of(_artifact(Part("sequence", "s", "sequences/s.xml", SEQUENCE)))
    assert files == {"artifact.toml": SMALL, "sequences/s.xml": SEQUENCE}


def test_artifact_toml_says_what_the_files_do_not() -> None:
    artifact = Artifact(
        Identity("a.com", "sequence", "s", "1"),
        "my id",
        (
            Part("endpoint", "a:b", "endpoints/a:b.xml", b'<endpoint name="a:b"/>'),
            Part("endpoint", "e", "sequences/e.xml", b'<endpoint name="e"/>'),
            Part("sequence", "t", ".hidden", b"not xml"),
            Part("sequence", "s", "sequences/s.xml", SEQUENCE),
        ),
        {"b": [1, None], "a": {"c": "'"}},
    )
    files = files_of(artifact)
    assert files["artifact.toml"].decode() == (
        'format = "gatesync.folder/1"\n'
        'kind = "sequence"\n'
        'name = "s"\n'
        'version = "1"\n'
        'tenant = "a.com"\n'
        'api_id = "my id"\n'
        'extra = "{\\"a\\":{\\"c\\":\\"\'\\"},\\"b\\":[1,null]}"\n'
        "\n[[parts]]\n"
        'file = "%2ehidden"\n'
        'path = ".hidden"\n'
        'role = "sequence"\n'
        'name = "t"\n'
        "\n[[parts]]\n"
        'file = "endpoints/a%3ab.xml"\n'
        'path = "endpoints/a:b.xml"\n'
        'role = "endpoint"\n'
        'name = "a:b"\n'
        "\n[[parts]]\n"
        'path = "sequences/e.xml"\n'
        'role = "endpoint"\n'
        'name = "e"\n'
    )
    assert artifact_from_files(files) == artifact


def test_json_in_extra_stays_readable() -> None:
    artifact = Artifact(
        Identity("carbon.super", "sequence", "s"),
        "i",
        (Part("sequence", "s", "sequences/s.xml", SEQUENCE),),
        {"provider": "admin"},
    )
    assert b'extra = \'{"provider":"admin"}\'\n' in files_of(artifact)["artifact.toml"]


def test_a_policy_is_named_by_its_files_stem() -> None:
    toml = b'format = "gatesync.folder/1"\nkind = "policy"\nname = "x"\n'
    files = dict.fromkeys(
        ("executionplans/gold.siddhi", "executionplans/a.b.siddhi", "executionplans/plain"), b"\xff"
    )
    artifact = artifact_from_files({"artifact.toml": toml, **files})
    assert [part.name for part in artifact.parts] == ["a.b", "gold", "plain"]


def test_hidden_files_and_leftovers_are_passed_over() -> None:
    leftovers = (
        ".git/config",
        ".DS_Store",
        "sequences/.s.xml.swp",
        "sequences/s.xml~",
        "sequences/Thumbs.db",
        "desktop.ini",
        ".editorconfig",
    )
    files = {"artifact.toml": SMALL, "sequences/s.xml": SEQUENCE}
    artifact = artifact_from_files({**files, **dict.fromkeys(leftovers, b"x")})
    assert artifact == artifact_from_files(files)


@pytest.mark.parametrize("path", ["executionplans/.gold", "executionplans/gold~", ".git/gold"])
def test_a_part_that_looks_like_a_leftover_is_not_lost(path: str) -> None:
    artifact = _artifact(Part("policy", path.rpartition("/")[2], path, b"x"))
    assert artifact_from_files(files_of(artifact)) == artifact


@pytest.mark.parametrize(
    ("paths", "places"),
    [
        (["sequences/s.xml", "api/admin--Menü_v1.xml"], None),
        (["sequences/S.xml", "sequences/s.xml"], ["sequences/S.xml~1", "sequences/s.xml"]),
        (["A/x", "a"], ["A~1/x", "a"]),
        (["A/x", "a/y"], ["A~1/x", "a/y"]),
        (["e\u0301", "é"], ["e%cc%81", "é"]),
        (["fine", "\ufb01ne"], ["fine", "%ef%ac%81ne"]),
        (["x%3a", "x:"], ["x%253a", "x%3a"]),
        (["a/con.xml", "b/x. ", "c/x ."], ["a/%63on.xml", "b/x.%20", "c/x %2e"]),
        (["artifact.toml"], ["%61rtifact.toml"]),
        (["Artifact.toml/x"], ["Artifact.toml~1/x"]),
        (["x" * 181], ["x" * 180 + "%/x"]),
        (["a\u200db"], ["a%e2%80%8db"]),
    ],
)
def test_a_path_that_a_file_system_may_not_hold_lies_elsewhere(
    paths: list[str], places: list[str] | None
) -> None:
    parts = [Part("policy", f"{n}", path, b"%d" % n) for n, path in enumerate(paths)]
    files = files_of(_artifact(*parts))
    del files["artifact.toml"]
    assert files == {place: b"%d" % n for n, place in enumerate(places or paths)}


def test_of_two_files_that_fold_alike_the_one_is_meant_that_parts_names() -> None:
    said = b"[[parts]]\nfile = '%s'\npath = 'executionplans/p'\nrole = 'policy'\nname = 'p'\n"
    lower, upper = "executionplans/p", "executionplans/P"
    files = {"artifact.toml": SMALL + said % lower.encode(), lower: b"l", upper: b"u"}
    assert [part.content for part in artifact_from_files(files).parts] == [b"u", b"l"]
    files["artifact.toml"] = SMALL + said % b"Executionplans/p"
    (fault,) = _faults(files)
    assert "which is not in the folder" in fault


@pytest.mark.parametrize(
    "path",
    ["README.md", "sequence/s.xml", "api.xml", "deeper/api/a.xml", "/api/a.xml", "../a.xml", ""],
)
def test_a_stray_file_is_refused_not_dropped(path: str) -> None:
    files = {"artifact.toml": SMALL, "sequences/s.xml": SEQUENCE, path: SEQUENCE}
    (fault,) = _faults(files)
    assert "not part of an artifact; files stand in api, sequences, endpoints" in fault
    assert path in fault


@pytest.mark.parametrize("path", ["sequences/../s.xml", "sequences//s.xml", "sequences/./s.xml"])
def test_a_path_that_steps_up_is_refused(path: str) -> None:
    (fault,) = _faults({"artifact.toml": SMALL, path: SEQUENCE})
    assert "must be relative, with '/' and no '.', '..' or empty step" in fault


def test_a_stray_file_among_the_parts_is_refused() -> None:
    (fault,) = _faults({"artifact.toml": SMALL, "sequences/s.xml": SEQUENCE, "api/x.txt": b"hi"})
    assert fault.startswith("api/x.txt:1: not well-formed XML")


def test_a_file_in_another_kinds_folder_is_refused() -> None:
    (fault,) = _faults({"artifact.toml": SMALL, "endpoints/s.xml": b"\n" + SEQUENCE})
    assert fault == (
        "endpoints/s.xml:2: its root element makes it a sequence; that belongs in sequences/"
    )


def test_the_tenant_of_the_command_line_fills_in_for_a_folder_that_names_none() -> None:
    files = {"artifact.toml": SMALL, "sequences/s.xml": SEQUENCE}
    artifact = artifact_from_files(files, tenant="a.com")
    assert artifact.identity.tenant == "a.com"
    assert artifact.api_id == artifact.identity.default_api_id()


def test_a_tenant_that_contradicts_the_folder_is_refused() -> None:
    files = files_of(_artifact(Part("sequence", "s", "sequences/s.xml", SEQUENCE), tenant="a.com"))
    assert artifact_from_files(files, tenant="a.com") == artifact_from_files(files)
    assert _faults(files, tenant="b.com") == [
        "artifact.toml: tenant is 'a.com', but --tenant says 'b.com'; drop one of them"
    ]


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (b"x" * 10, "artifact.toml: not TOML"),
        (b'format = "x"\n\nkind =\n', "artifact.toml:3: not TOML"),
        (b'kind = "a"\nkind = "b"\n', "artifact.toml:2: not TOML"),
        (b"\xff", "artifact.toml: not UTF-8 at byte 0"),
        (b"a = " + b"[" * 100_000, "artifact.toml: not TOML"),
        (b"a = " + b"9" * 10_000, "artifact.toml: not TOML"),
        (SMALL + b'versoin = "1"\n', "unknown key 'versoin'; did you mean 'version'?"),
        (SMALL + b"zzz = 1\n", "unknown key 'zzz'; known are format, kind, name"),
        (SMALL + b"[[parts]]\nplace = 'x'\n", "unknown key 'place' in [[parts]]; known are path"),
        (SMALL + b"[[parts]]\npath = 'x'\n", "missing required field `role`"),
        (SMALL + b"parts = 1\n", "$.parts"),
        (SMALL + b"parts = [1]\n", "$.parts[0]"),
        (SMALL + b"version = 1.0\n", "Expected `str`, got `float` - at `$.version`"),
        (SMALL + b"extra = 'x'\n", "extra is not a JSON object"),
        (SMALL + b"extra = '[]'\n", "extra is not a JSON object"),
        (SMALL + b"extra = '" + b'{"a":' * 100_000 + b"'\n", "extra is nested too deep"),
        (SMALL + b'extra = \'{"a":1,"a":1}\'\n', "two members 'a'"),
        (SMALL.replace(b"folder/1", b"folder/9"), "format 'gatesync.folder/9' is unknown"),
        (SMALL.replace(b"format", b"#"), "missing required field `format`"),
        (SMALL.replace(b'"sequence"', b'"sequins"'), "kind 'sequins' is unknown"),
        (SMALL.replace(b'"s"', b'"../s"'), "name '../s' contains a path step"),
        (SMALL.replace(b'"s"', b'""'), "name is empty"),
        (SMALL + b"tenant = '..'\n", "tenant '..' contains a path step"),
        (
            SMALL + b"[[parts]]\npath = 'sequences/t.xml'\nrole = 'sequence'\nname = 't'\n",
            "[[parts]] names 'sequences/t.xml', which is not in the folder",
        ),
        (
            SMALL + 2 * b"[[parts]]\npath = 'sequences/s.xml'\nrole = 'sequence'\nname = 't'\n",
            "two of [[parts]] are the file 'sequences/s.xml'",
        ),
        (
            SMALL + b"[[parts]]\nfile = 'Artifact.toml'\npath = 's'\nrole = 'policy'\nname = 's'\n",
            "[[parts]] names this file itself",
        ),
    ],
)
def test_what_is_wrong_in_artifact_toml_is_said(toml: bytes, fault: str) -> None:
    (told,) = _faults({"artifact.toml": toml, "sequences/s.xml": SEQUENCE})
    assert fault in told


def test_a_folder_without_artifact_toml_is_refused() -> None:
    assert _faults({}) == ["artifact.toml: is missing; it says the artifact's kind and name"]


def test_an_empty_artifact_is_refused() -> None:
    assert _faults({"artifact.toml": SMALL}) == ["sequence s: the artifact has no parts"]


def test_all_broken_files_are_told_at_once() -> None:
    faults = _faults(
        {"artifact.toml": SMALL, "sequences/a.xml": b"<a>", "api/b.xml": b"", "c.xml": b""}
    )
    assert [fault.split(":")[0] for fault in faults] == ["api/b.xml", "c.xml", "sequences/a.xml"]


def test_what_no_folder_can_hold_is_refused() -> None:
    with pytest.raises(ProblemsError, match="must be relative"):
        files_of(_artifact(Part("policy", "x", "../x", b"")))
    with pytest.raises(FormatError, match="RFC 8785"):
        files_of(
            Artifact(
                Identity("t", "policy", "p"),
                "i",
                (Part("policy", "p", "executionplans/p", b""),),
                {"a": float("nan")},
            )
        )


@given(names)
def test_any_name_may_stand_in_artifact_toml(name: str) -> None:
    identity = Identity(name, "policy", name, name)
    artifact = Artifact(identity, name, (Part("policy", name, "executionplans/p", b""),))
    assert artifact_from_files(files_of(artifact)) == artifact


@pytest.mark.timeout(10)
def test_ten_thousand_files_take_no_long_time() -> None:
    files = {f"sequences/{n}.xml": b'<sequence name="%d"/>' % n for n in range(10_000)}
    assert len(artifact_from_files({"artifact.toml": SMALL, **files}).parts) == 10_000
