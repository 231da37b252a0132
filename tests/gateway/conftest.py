from collections.abc import Iterator

import pytest

from tests.gateway.quiet import quiet


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield
