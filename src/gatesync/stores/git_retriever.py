"""The log as a gateway reads it, straight from the branch. Nothing is written there."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from gatesync.artifacts.changes import Cursor, Head
from gatesync.artifacts.digests import LabelDigest
from gatesync.artifacts.signatures import Attestation
from gatesync.stores.git_branch import Branch, open_branch
from gatesync.stores.git_source import GitSource
from gatesync.stores.log_index import LogIndex
from gatesync.stores.store import (
    PAGE_ATTESTATIONS,
    PAGE_ENTRIES,
    Behind,
    Delta,
    ManifestPage,
)

__all__ = ["GitRetriever", "open_git_retriever"]

RECENT_SECONDS: Final = 0.1  # what is asked for because of news is of no older look

_T = TypeVar("_T")


@asynccontextmanager
async def open_git_retriever(source: GitSource) -> AsyncIterator["GitRetriever"]:
    """Read from a branch, which need not be there yet, and look at it each interval.

    Raises:
        StoreError: git is not to go there, or the clone cannot be kept.
    """
    async with open_branch(source) as branch:
        yield GitRetriever(branch)


class GitRetriever:
    """`Retriever` on a branch. Use `open_git_retriever`.

    Heads are as old as the last look, which is `poll_seconds` at most; where the last look
    failed they are an error. Whoever asks for changes or for a list has heard of news: that is
    looked for first.
    """

    weak_history = True
    """Who may push may rewrite: a list that would remove most of a label waits (promise 6)."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        self._recent = RECENT_SECONDS

    async def nudge(self) -> None:
        """Look at the branch now: somebody says that it moved. Raises `StoreError`."""
        await self._branch.nudge()

    def problems(self) -> dict[str, tuple[str, ...]]:
        """What of the branch is not served, and why, by folder or file of the branch."""
        return self._branch.problems()

    def on_moved(self, told: Callable[[], object]) -> None:
        """Have this called after each look that has found something new."""
        self._branch.moved = told

    async def labels(self) -> list[Head]:
        """Answer with the head of every label that the branch ever had. Raises `StoreError`."""
        await self._branch.look(self._branch.source.poll_seconds)
        return await self._branch.ask(lambda index: index.labels())

    async def heads(
        self, labels: Collection[str], at_least: Mapping[str, Cursor] | None = None
    ) -> dict[str, Head]:
        """See `Retriever.heads`."""
        await self._branch.look(self._branch.source.poll_seconds)
        return await self._newest(lambda index: index.heads(labels, at_least))

    async def changes(self, label: str, since: Cursor) -> Delta:
        """See `Retriever.changes`."""
        await self._branch.look(self._recent)
        return await self._newest(lambda index: index.changes(label, since))

    async def manifest(
        self,
        label: str,
        *,
        at: Cursor | None = None,
        after: str = "",
        limit: int = PAGE_ENTRIES,
        at_least: Cursor | None = None,
    ) -> ManifestPage:
        """See `Retriever.manifest`."""
        if at is None and not after:
            await self._branch.look(self._recent)
        return await self._newest(
            lambda index: index.manifest(label, at=at, after=after, limit=limit, at_least=at_least)
        )

    async def digest_at(self, label: str, cursor: Cursor) -> LabelDigest | None:
        """See `Retriever.digest_at`."""
        return await self._branch.ask(lambda index: index.digest_at(label, cursor))

    async def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """See `Retriever.contents`. What does not match its digest counts as not there."""
        return await self._branch.contents(digests)

    async def attestations(
        self, label: str, after: int = 0, limit: int = PAGE_ATTESTATIONS
    ) -> tuple[Attestation, ...]:
        """See `Retriever.attestations`."""
        return await self._branch.ask(lambda index: index.attestations(label, after, limit))

    async def _newest(self, question: Callable[[LogIndex], _T]) -> _T:
        """Answer; where that would be behind, after another look."""
        try:
            return await self._branch.ask(question)
        except Behind:
            await self._branch.look()
            return await self._branch.ask(question)
