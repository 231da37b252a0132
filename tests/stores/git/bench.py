"""Benches on a Git repository, and people who work with it."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from gatesync.secret import SecretUrl
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_store import GitStore, open_git_store

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git there, as a person does."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def made_repository(folder: Path) -> str:
    """A bare repository without a branch; answers with its URL."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main")
    git(folder, "config", "gc.auto", "0")
    git(folder, "config", "receive.denyDeleteCurrent", "ignore")
    return folder.as_uri()


def source_of(url: str, cache: Path) -> GitSource:
    """Looked at only when somebody asks: no test waits for an interval."""
    return GitSource(url=SecretUrl(url), cache=cache, poll_seconds=3600.0)


class GitBench:
    """A store on a branch; `reopen` closes it and opens it again."""

    dense = False
    store: GitStore

    def __init__(self, source: GitSource) -> None:
        self.source = source
        self._open = AsyncExitStack()

    async def catch_up(self) -> None:
        """Nothing lags."""

    async def reopen(self) -> None:
        await self.close()
        self.store = await self._open.enter_async_context(open_git_store(self.source))

    async def reopen_elsewhere(self, cache: Path) -> None:
        """The same on another clone."""
        self.source = replace(self.source, cache=cache)
        await self.reopen()

    async def close(self) -> None:
        await self._open.aclose()


@asynccontextmanager
async def opened(source: GitSource) -> AsyncIterator[GitBench]:
    bench = GitBench(source)
    try:
        await bench.reopen()
        yield bench
    finally:
        await bench.close()
