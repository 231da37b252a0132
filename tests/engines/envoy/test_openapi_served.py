"""What is made of OpenAPI documents stays within what Envoy can be told."""

from typing import Any

import pytest
from hypothesis import given, settings

from gatesync.artifacts.openapi import artifact_from_openapi
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.translation import Translated, translate
from tests.artifacts.test_openapi import LIBRARY
from tests.artifacts.test_openapi_generated import as_yaml, documents, options

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("kind", ["hybrid", "production", "sandbox"])
@pytest.mark.parametrize("authenticated", [True, False])
def test_each_operation_goes_to_the_endpoint_of_the_gateways_type(
    kind: str, authenticated: bool
) -> None:
    said = OpenApiOptions(
        sandbox_endpoint="http://sandbox", allow_unauthenticated=not authenticated
    )
    artifact, _ = artifact_from_openapi(LIBRARY.encode(), said)

    found, _ = translate(artifact, {}.get, Options(type=kind, allow_unauthenticated=True))

    assert isinstance(found, Translated), str(found)
    (cluster,) = found.clusters
    assert cluster.startswith("sandbox:" if kind == "sandbox" else "main.library.example:")


@settings(max_examples=30)
@given(documents(odd=False), options(odd=False))
def test_whatever_is_sound_is_served(document: dict[str, Any], said: OpenApiOptions) -> None:
    artifact, _ = artifact_from_openapi(as_yaml(document).encode(), said)
    found, _ = translate(artifact, {}.get, Options(allow_unauthenticated=True))
    assert isinstance(found, Translated), str(found)
