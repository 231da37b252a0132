"""Whole trees through a real cluster: published, served by the gateway, and the same files again.

GATESYNC_TEST_TREES names a folder; every server's tree in it is taken (`make test TREES=DIR`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.tree import TreeKind, artifacts_of
from gatesync.cli.trees import read_tree, tree_kind
from tests.servers.gatesync import Place, place, sequence_xml

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CONFIGS = "repository/deployment/server/synapse-configs/default"
TENANT = "tree.example"
LABEL = "trees"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Place]:
    """One for each test: all that its gateway serves is the tree."""
    with place(tmp_path / "cluster", labels=[LABEL]) as made:
        made.role("up").start()
        yield made


def _trees() -> list[Path]:
    """The trees that are asked for, else the one of the corpus that has a fault in it."""
    given = os.environ.get("GATESYNC_TEST_TREES")
    if not given:
        return [CORPUS / "micro-integrator/tests-transport/repository"]
    trees = list(_trees_below(Path(given).resolve(strict=True)))
    if not trees:
        raise ValueError(f"GATESYNC_TEST_TREES: there is no server's tree in {given}")
    return trees


def _trees_below(folder: Path) -> Iterator[Path]:
    if tree_kind(folder):
        yield folder
        return
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.is_symlink():
            yield from _trees_below(each)


def _exported(cluster: Place, kind: TreeKind, to: Path) -> dict[str, bytes]:
    """The files of the tree that the gateway gives back, by their paths below its root."""
    token = ("--token-file", cluster.data / "admin.token")
    form = ("--format", "tree", "--tenant", TENANT)
    done = cluster.run("export", "--gateway", cluster.gateway, *token, *form, "--to", to)
    assert done.code == 0, done.err
    files = {path.relative_to(to).as_posix(): path for path in to.rglob("*") if path.is_file()}
    assert all(path.startswith(kind.value) for path in files)
    return {path.removeprefix(kind.value): file.read_bytes() for path, file in files.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tree", _trees(), ids=lambda tree: "/".join(tree.parts[-3:]))
def test_a_tree_comes_back_from_the_gateway_name_for_name_and_byte_for_byte(
    cluster: Place, tree: Path, tmp_path: Path
) -> None:
    if not tree.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    kind = tree_kind(tree)
    assert kind is not None
    files = read_tree(tree, kind, problems := [])
    read = artifacts_of(files, kind=kind, tenant=TENANT)
    faults = [str(each.within(str(tree))) for each in (*problems, *read.problems)]

    arguments = ("publish", tree, "--label", LABEL, "--tenant", TENANT, "--wait", "all")
    if faults:
        refused = cluster.run(*arguments)
        assert refused.code == 2
        assert refused.err.splitlines() == [f"gatesync: {fault}" for fault in faults]
        assert cluster.heads() == []
    if not read.artifacts:
        return

    done = cluster.run(*arguments, "--skip-invalid", "--json")

    assert done.code == 0, done.err
    assert done.json()["refused"] == faults
    told = {each.where for each in (*problems, *read.problems)} | set(read.base)
    served = _exported(cluster, kind, tmp_path / "out")
    assert served.items() <= files.items()
    assert not served.keys() & told
    missing = files.keys() - served.keys() - told
    assert not {path for path in missing if not is_leftover(path)}


def test_the_corpus_has_one_fault_which_is_told_with_its_line(cluster: Place) -> None:
    tree = CORPUS / "micro-integrator/tests-transport"
    if not tree.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    done = cluster.run("publish", tree / CONFIGS, "-l", LABEL, "--tenant", TENANT)
    assert done.code == 2
    assert done.err.count("\n") == 1
    fault = "/proxy-services/HeadMethodResponseTestProxy.xml:31: not well-formed XML"
    assert fault in done.err

    done = cluster.run("publish", tree / CONFIGS, "-l", LABEL, "--tenant", TENANT, "--skip-invalid")
    assert done.code == 0
    assert done.err.count("left out") == 1
    assert fault in done.err
    assert done.out.count("published") == 194


def test_the_installations_files_stay_behind_and_that_is_said(
    cluster: Place, tmp_path: Path
) -> None:
    sequences = tmp_path / CONFIGS / "sequences"
    sequences.mkdir(parents=True)
    (sequences / "fault.xml").write_bytes(sequence_xml("fault"))
    arguments = ("publish", tmp_path / "repository", "-l", LABEL, "--wait", "all")

    alone = cluster.run(*arguments)
    assert alone.code == 2
    assert (
        "nothing but files of the server's installation (1), which each node brings along"
        in alone.err
    )
    assert cluster.heads() == []

    (sequences / "own.xml").write_bytes(sequence_xml("own"))
    done = cluster.run(*arguments)
    assert done.code == 0, done.err
    assert set(cluster.held()) == {"own"}
    assert "left out: files of the server's installation (1), such as" in done.err
    assert cluster.run(*arguments, "--json").json()["base"] == [str(sequences / "fault.xml")]
