from collections.abc import Iterator

import pytest

from tests.gateway.quiet import quiet
from tests.servers.gatesync import Place, place


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`gatesync up`, which tests of its admin HTTP share: each uses names of its own."""
    with place(tmp_path_factory.mktemp("admin")) as made:
        made.role("up").start()
        yield made
