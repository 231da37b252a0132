from collections.abc import Iterator

import pytest

from tests.servers.gatesync import LABEL, Place, place


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`gatesync up`, which tests share: each uses names of its own."""
    with place(tmp_path_factory.mktemp("web"), labels=[LABEL, "Second"]) as made:
        made.role("up").start()
        yield made
