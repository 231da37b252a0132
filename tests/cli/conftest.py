import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.gatesync import LABEL, Place, place, sequence_xml

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`gatesync up`, which tests share: each uses names of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    with place(folder, labels=[LABEL, "Second"]) as made:
        made.role("up").start()
        yield made


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"seq{next(_numbers)}"


@pytest.fixture
def sequence(tmp_path: Path, name: str) -> Path:
    """A file that can be published, under that name."""
    path = tmp_path / f"{name}.xml"
    path.write_bytes(sequence_xml(name))
    return path
