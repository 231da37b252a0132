from pathlib import Path

import pytest

from gatesync.artifacts.canonical import decode, encode
from gatesync.artifacts.description import describe
from gatesync.artifacts.folder import artifact_from_files, files_of
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.synapse import artifact_from_xml

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _files(name: str) -> dict[str, bytes]:
    root = EXAMPLES / name
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file()
    }


def _read(name: str) -> Artifact:
    return artifact_from_files(_files(name))


@pytest.mark.parametrize("name", ["pizzashack", "menu", "gold-policy"])
def test_an_example_is_an_artifact_folder_as_gatesync_writes_it(name: str) -> None:
    artifact = _read(name)
    describe(artifact)
    assert files_of(artifact) == _files(name)
    assert decode(encode(artifact)) == artifact


def test_the_pizza_shack_is_named_as_wso2_names_it() -> None:
    artifact = _read("pizzashack")
    assert str(artifact.identity) == "api PizzaShackAPI 1.0.0"
    assert describe(artifact).context == "/pizzashack/1.0.0"
    assert [(part.role, part.name) for part in artifact.parts] == [
        ("api", "admin--PizzaShackAPI"),
        ("endpoint", "PizzaShackAPI--v1.0.0_APIproductionEndpoint"),
        ("endpoint", "PizzaShackAPI--v1.0.0_APIsandboxEndpoint"),
        ("local-entry", artifact.api_id),
        ("sequence", "PizzaShackAPI--v1.0.0--Out"),
    ]


def test_its_api_alone_has_the_same_identity() -> None:
    artifact = _read("pizzashack")
    part = artifact.parts[0]
    assert artifact_from_xml(part.content, part.path).identity == artifact.identity


def test_the_examples_can_live_in_one_label() -> None:
    claims = [
        claim.key
        for name in ("pizzashack", "menu", "gold-policy")
        for claim in describe(_read(name)).claims
    ]
    assert len(set(claims)) == len(claims)


def test_the_policy_is_no_xml() -> None:
    (part,) = _read("gold-policy").parts
    assert (part.role, part.name) == ("policy", "subscription_Gold")
    assert not part.content.lstrip().startswith(b"<")
