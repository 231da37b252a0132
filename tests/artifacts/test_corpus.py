from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesync.artifacts.canonical import decode, encode
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import artifact_from_files, files_of
from gatesync.artifacts.synapse import artifact_from_xml

pytestmark = pytest.mark.fast

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CONFIGS = "repository/deployment/server/synapse-configs/default"


def _files(server: str) -> Iterator[tuple[str, bytes]]:
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real Synapse files is not beside the checkout: ../shared/corpus")
    for root in sorted(CORPUS.glob(f"{server}/{CONFIGS}")):
        for file in sorted(root.rglob("*.xml")):
            yield file.relative_to(root).as_posix(), file.read_bytes()


def test_every_real_file_is_read_and_comes_back_byte_for_byte() -> None:
    read = 0
    for path, content in _files("micro-integrator/*"):
        if path.endswith("/HeadMethodResponseTestProxy.xml"):
            continue
        artifact = artifact_from_xml(content, path)
        describe(artifact)
        assert artifact.parts[0].path == path
        assert decode(encode(artifact)) == artifact
        files = files_of(artifact)
        assert files[path] == content
        assert b"[[parts]]" not in files["artifact.toml"]
        assert artifact_from_files(files) == artifact
        read += 1
    assert read == 672


def test_the_ill_formed_one_is_refused_with_its_line() -> None:
    refused = []
    for path, content in _files("micro-integrator/*"):
        try:
            artifact_from_xml(content, path)
        except Problem as problem:
            refused.append((problem.where, problem.line))
    assert refused == [("proxy-services/HeadMethodResponseTestProxy.xml", 31)]


def test_of_a_gateways_base_files_only_the_servers_own_two_are_no_artifacts() -> None:
    refused = {}
    for path, content in _files("product-apim"):
        try:
            describe(artifact_from_xml(content, path))
        except Problem as problem:
            refused[path] = problem.reason
    assert set(refused) == {"synapse.xml", "registry.xml"}
    assert all("is not one that Synapse deploys" in reason for reason in refused.values())
