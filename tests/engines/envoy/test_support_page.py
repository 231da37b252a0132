"""docs/envoy-support.md says what the code does; real trees are served, or refused with reasons."""

import re
from pathlib import Path

import pytest

from gatesync.cli.reading import read_artifacts
from gatesync.engines.envoy.mediators import INSTEAD_OF
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import SCOPE
from gatesync.engines.envoy.support import Counts, count, page
from tests.engines.envoy.serving import bootstrap_of, validate

PAGE = Path(__file__).resolve().parents[3] / "docs" / "envoy-support.md"
CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"


@pytest.fixture(scope="module")
def counts() -> list[Counts]:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    suites = sorted((CORPUS / "micro-integrator").iterdir())
    return [
        count(
            suite.name,
            (each.load() for each in read_artifacts([suite / "repository"], None).artifacts),
            Options(),
        )
        for suite in suites
    ]


def test_the_page_is_the_one_that_the_code_makes(counts: list[Counts]) -> None:
    made = page(counts)
    assert PAGE.read_text() == made, "run .venv/bin/python scripts/envoy_support_page.py"


def test_every_real_api_is_served_or_refused_with_what_would_work(counts: list[Counts]) -> None:
    assert sum(len(each.served) + len(each.refused) for each in counts) == 57
    for each in counts:
        for faults in each.refused.values():
            for fault in faults:
                assert fault.path
                assert fault.line > 0
                assert fault.instead
                assert re.search(r"<[\w-]+> in .*: .+; instead: .+", str(fault.problem))


def test_envoy_takes_all_that_is_made_of_real_trees(tmp_path: Path) -> None:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    for suite in sorted((CORPUS / "micro-integrator").iterdir()):
        node = Node(Options(allow_unauthenticated=True))
        found = read_artifacts([suite / "repository"], None)
        node.apply([each.load() for each in found.artifacts], ())
        if not node.resources().of(SCOPE):  # nothing of it is served
            continue
        assert validate(tmp_path, bootstrap_of(node)) == ""


@pytest.mark.fast
def test_each_mediator_that_is_refused_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in INSTEAD_OF if f"| `<{name}>` |" not in text] == []
