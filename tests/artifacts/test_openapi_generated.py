"""Whatever a document holds becomes an artifact that passes every check of ours, or a problem."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.openapi import artifact_from_openapi
from gatesync.artifacts.openapi_document import read_document
from gatesync.artifacts.openapi_operations import METHODS
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.tree import artifacts_of, files_of_tree
from gatesync.artifacts.wso2 import artifact_from_wso2, wso2_json
from gatesync.artifacts.xml import parse

pytestmark = pytest.mark.fast

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,7}", fullmatch=True)
ODD_STEPS = [
    "é",
    " ",
    "%20",
    ".",
    "..",
    "*",
    "{",
    "}",
    "?",
    "{}",
    "{a",
    "\u200b",
    "\U0001f4da",
    "/",
]
ODD_URLS = ["", "/d", "ftp://f", "http://a b", "https://u:p@h", "http://h?q", "http://[", "h:0"]


def paths(odd: bool) -> st.SearchStrategy[str]:
    """Paths whose variables are named by where they stand, so that none has one name twice."""
    step = st.one_of(NAMES, st.sampled_from(["{}", "x-{}", "{}.json", "~é %2F"]))
    if odd:
        step = st.one_of(step, st.sampled_from(ODD_STEPS), TEXT)
    return st.lists(step, max_size=4).map(
        lambda steps: (
            "/" + "/".join(each.replace("{}", f"{{v{n}}}") for n, each in enumerate(steps))
        )
    )


def either(odd: bool, sound: st.SearchStrategy[str], other: list[str]) -> st.SearchStrategy[str]:
    return st.one_of(sound, st.sampled_from(other), TEXT) if odd else sound


@st.composite
def documents(draw: st.DrawFn, odd: bool) -> dict[str, Any]:
    """Documents of all versions: sound ones, or some that have something odd in them."""
    schemes = st.dictionaries(st.sampled_from(["key", "token"]), st.just([]), max_size=2)
    security = st.lists(schemes, max_size=2, unique_by=frozenset)
    answers = st.fixed_dictionaries({"description": TEXT})
    codes = st.sampled_from(["200", "404", "default"])
    operation = st.fixed_dictionaries(
        {"responses": st.dictionaries(codes, answers, min_size=1)},
        optional={"security": security, "summary": TEXT},
    )
    methods = st.sampled_from([*METHODS, "trace"] if odd else METHODS)
    items = st.dictionaries(methods, operation, min_size=not odd, max_size=3)
    version = draw(st.sampled_from(["2.0", "3.0.3", "3.1.0"]))
    document: dict[str, Any] = {
        "swagger" if version == "2.0" else "openapi": version,
        "info": draw(
            st.fixed_dictionaries(
                {
                    "title": either(odd, NAMES, ["1 beta", "a/b"]),
                    "version": either(odd, NAMES, ["1 beta", "a/b"]),
                }
            )
        ),
        "paths": draw(st.dictionaries(paths(odd), items, min_size=1, max_size=5)),
    }
    optional = {"security": security}
    if version == "2.0":
        optional |= {"basePath": either(odd, st.just("/base"), ["/", "/a b"]), "host": NAMES}
        document["securityDefinitions"] = {"key": {"type": "apiKey", "name": "k", "in": "header"}}
    else:
        servers = either(odd, st.sampled_from(["https://{x}.example", "/d"]), ODD_URLS)
        optional["servers"] = st.lists(servers.map(lambda url: {"url": url}), max_size=2)
        found = [{"type": "http", "scheme": "bearer"}, {"$ref": "#/info"}]
        document["components"] = {"securitySchemes": {"token": draw(st.sampled_from(found))}}
    return document | draw(st.fixed_dictionaries({}, optional=optional))


def options(odd: bool) -> st.SearchStrategy[OpenApiOptions]:
    url = either(odd, st.sampled_from(["https://backend", "http://[::1]:80/a%20b/"]), ODD_URLS)
    return st.builds(
        OpenApiOptions,
        endpoint=url,
        sandbox_endpoint=st.one_of(st.just(""), url),
        context=either(odd, st.sampled_from(["", "/a", "/{version}/b", "/"]), ["/a/", "//"]),
        name=st.one_of(st.just(""), either(odd, NAMES, ["aux", "a:b"])),
        version=st.one_of(st.just(""), either(odd, NAMES, ["1.0", "..", "~"])),
        allow_unauthenticated=st.booleans(),
    )


def check(document: dict[str, Any], said: OpenApiOptions, yaml: bool, tenant: str) -> None:
    """Make the artifact, and see that everyone takes it."""
    text = as_yaml(document) if yaml else json.dumps(document)
    artifact, _ = artifact_from_openapi(text.encode(), said, tenant=tenant)

    description = describe(artifact)
    served = {(method, path) for path, item in document["paths"].items() for method in item}
    assert len(description.resources) == len(served)
    assert description.references == ()
    (entry,) = (part for part in artifact.parts if part.role == "local-entry")
    assert parse(entry.content, entry.path).text == text
    assert artifact_from_wso2(wso2_json(artifact), "a.json").artifact == artifact
    tree = artifacts_of(files_of_tree([artifact], tenant=tenant), tenant=tenant)
    assert not tree.problems
    assert [part for each in tree.artifacts for part in each.parts] == list(artifact.parts)


TENANTS = st.sampled_from(["carbon.super", "a.example"])


@given(documents(odd=False), options(odd=False), st.booleans(), TENANTS)
def test_a_sound_document_becomes_a_sound_artifact(
    document: dict[str, Any], said: OpenApiOptions, yaml: bool, tenant: str
) -> None:
    check(document, said, yaml, tenant)


@given(st.data(), st.booleans(), TENANTS)
def test_an_odd_document_becomes_a_sound_artifact_or_a_problem(
    data: st.DataObject, yaml: bool, tenant: str
) -> None:
    odd = data.draw(st.booleans())
    document, said = data.draw(documents(odd)), data.draw(options(odd=not odd))
    with suppress(ProblemsError):
        check(document, said, yaml, tenant)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_json_is_read_as_json_and_so_is_yaml(value: dict[str, Any]) -> None:
    assert read_document(json.dumps(value).encode()) == value
    assert read_document(as_yaml(value).encode()) == value


def as_yaml(value: Any, indent: str = "") -> str:
    """As YAML in blocks, its texts in quotes as JSON has them (but for pairs of surrogates)."""
    if isinstance(value, dict) and value:
        lines = (
            f"{indent}{_text(key)}:\n{as_yaml(each, indent + ' ')}" for key, each in value.items()
        )
        return "".join(lines)
    if isinstance(value, list) and value:
        return "".join(f"{indent}-\n{as_yaml(each, indent + ' ')}" for each in value)
    return f"{indent}{_text(value) if isinstance(value, str) else json.dumps(value)}\n"


def _text(text: str) -> str:
    escapes = (f"\\U{ord(c):08x}" if ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in text)
    return f'"{"".join(escapes)}"'
