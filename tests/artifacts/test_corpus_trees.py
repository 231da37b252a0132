"""Trees that other people wrote, as they are."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gatesync.artifacts.base import BASE_FILES, is_base_name
from gatesync.artifacts.synapse import read_root
from gatesync.artifacts.tree import TreeKind, artifacts_of, files_of_tree
from gatesync.cli.reading import read_artifacts

pytestmark = pytest.mark.fast

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
FILES = {"tests-mediator-2": 310, "tests-service": 168, "tests-transport": 195}


def _server(name: str) -> Path:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    return CORPUS / name / "repository"


def _files(root: Path) -> Mapping[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suite", sorted(FILES))
def test_a_suite_comes_back_as_it_was_but_for_the_ill_formed_file(suite: str) -> None:
    root = _server(f"micro-integrator/{suite}")
    files = dict(_files(root))
    assert len(files) == FILES[suite]

    found = read_artifacts([root], "suite.com")

    if suite == "tests-transport":
        ill = next(path for path in files if path.endswith("/HeadMethodResponseTestProxy.xml"))
        (problem,) = found.problems
        assert (problem.where, problem.line) == (str(root / ill), 31)
        del files[ill]
    else:
        assert found.problems == []
    assert found.base == []
    assert files_of_tree((each.load() for each in found.artifacts), tenant="suite.com") == files


@pytest.mark.parametrize(
    ("below", "kind"),
    [
        ("", TreeKind.REPOSITORY),
        ("deployment/server", TreeKind.SERVER),
        ("deployment/server/synapse-configs/default", TreeKind.CONFIGS),
    ],
)
def test_it_is_the_same_artifacts_from_whichever_folder(below: str, kind: TreeKind) -> None:
    root = _server("micro-integrator/tests-service")
    tree = artifacts_of(_files(root / below), kind=kind)
    assert tree.artifacts == artifacts_of(_files(root)).artifacts
    assert tree.problems == ()


def test_a_packs_own_files_are_its_base_and_refused_with_the_reason() -> None:
    root = _server("product-apim")
    found = read_artifacts([root], None)
    configs = root / "deployment/server/synapse-configs/default"
    assert {Path(path).relative_to(configs).as_posix() for path in found.base} == BASE_FILES
    assert found.artifacts == []
    assert [str(problem) for problem in found.problems] == [
        f"{root}: holds nothing but files of the server's installation (29), which each node "
        "brings along; they are never published"
    ]


def test_what_the_packs_files_define_is_known_by_name() -> None:
    configs = "deployment/server/synapse-configs/default/"
    pack = _files(_server("product-apim"))
    roots = [
        read_root(content, path)
        for path, content in pack.items()
        if path.startswith(configs) and "/" in path.removeprefix(configs)
    ]
    assert len(roots) == len(BASE_FILES) - 2  # registry.xml and synapse.xml define no such thing
    assert [root.name for root in roots if not is_base_name(root.role, root.name)] == []
    assert not is_base_name("sequence", "_block_api_handler_")  # a file's name only
