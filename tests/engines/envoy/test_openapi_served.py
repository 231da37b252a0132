"""What is made of OpenAPI documents is served by a real Envoy, within what that can be told."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from gatesync.artifacts.model import Artifact, Part
from gatesync.artifacts.openapi import artifact_from_openapi
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.translation import Translated, translate
from tests.artifacts.test_openapi import LIBRARY
from tests.artifacts.test_openapi_generated import as_yaml, documents, options
from tests.engines.envoy.serving import Serving, serving


def library() -> Artifact:
    """The library with a path of other letters, on an upstream that is not known yet."""
    document = LIBRARY.replace("/books/newest:", "/bücher neu/{isbn}:")
    said = OpenApiOptions(endpoint="http://upstream/base", allow_unauthenticated=True)
    artifact, _ = artifact_from_openapi(document.encode(), said)

    def placed(part: Part) -> Part:
        content = part.content.replace(b"//upstream/", b"//@UP@/")
        return msgspec.structs.replace(part, content=content)

    return msgspec.structs.replace(artifact, parts=tuple(map(placed, artifact.parts)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("envoy"), [library()]) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/books"),
        ("POST", "/books?why=gift&for=all"),
        ("GET", "/books/3-16"),
        ("DELETE", "/books/a%20b"),
        ("GET", "/b%C3%BCcher%20neu/7"),
    ],
)
def test_each_operation_reaches_the_endpoint(running: Serving, method: str, path: str) -> None:
    seen, answer = running.through(method, f"/townlibrary/2.1.0{path}")
    assert (seen.method, seen.path) == (method, f"/base{path}")
    assert (answer.status, answer.body) == (200, "from UP")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/townlibrary/2.1.0/books", 405),
        ("GET", "/townlibrary/2.1.0/people", 404),
        ("GET", "/townlibrary/2.1.0/books/1/pages", 404),
        ("GET", "/townlibrary/books", 404),
    ],
)
def test_what_the_document_does_not_have_is_not_there(
    running: Serving, method: str, path: str, status: int
) -> None:
    running.upstreams["UP"].seen.clear()
    assert running.ask(method, path).status == status
    assert not running.upstreams["UP"].seen


@pytest.mark.fast
@settings(max_examples=30)
@given(documents(odd=False), options(odd=False))
def test_whatever_is_sound_is_served(document: dict[str, Any], said: OpenApiOptions) -> None:
    artifact, _ = artifact_from_openapi(as_yaml(document).encode(), said)
    found, _ = translate(artifact, {}.get, Options(allow_unauthenticated=True))
    assert isinstance(found, Translated), str(found)
