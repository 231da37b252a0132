from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stores.git.bench import GitBench, made_repository, opened, source_of
from tests.stores.git.people import Person


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A server's repository that has no branch yet."""
    return made_repository(tmp_path / "server.git")


@pytest.fixture
async def bench(url: str, tmp_path: Path) -> AsyncIterator[GitBench]:
    async with opened(source_of(url, tmp_path / "clone")) as bench:
        yield bench


@pytest.fixture
def ann(bench: GitBench, url: str, tmp_path: Path) -> Person:
    """Has what the publisher began."""
    person = Person(url, tmp_path / "ann")
    person.pull()
    return person
