from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirroring.workers import FILES, Source, Workers, needs_rsync
from tests.servers.sshd import Sshd, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    needs_rsync()
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Source:
    source = Source(tmp_path / "repository")
    for path, content in FILES.items():
        source.write(path, content)
    return source


@pytest.fixture
def one(tmp_path: Path, server: Sshd) -> Workers:
    return Workers(tmp_path / "workers", server, ["w"])
