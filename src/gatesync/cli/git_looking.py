"""Looking at a Git branch when somebody says that it moved, and telling who waits for that.

A webhook has the branch looked at now, as its own poll does each interval. Whenever there is
something new, by whichever way, `moved` is called.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias, runtime_checkable

import structlog

from gatesync.config.git import GitSettings
from gatesync.stores.store import StoreError
from gatesync.web.git_hook import GitHook

__all__ = ["FollowsBranch", "looking_at_git", "not_served"]

App: TypeAlias = Any

_log = structlog.get_logger("gatesync.git")


@runtime_checkable
class FollowsBranch(Protocol):
    """A store or a retriever that looks at a branch each interval."""

    async def nudge(self) -> None:
        """Look at the branch now. Raises `StoreError`."""
        ...

    def on_moved(self, told: Callable[[], object]) -> None:
        """Have this called after each look that has found something new."""
        ...

    def problems(self) -> Mapping[str, tuple[str, ...]]:
        """What of the branch is not served, and why, by its place."""
        ...


@asynccontextmanager
async def looking_at_git(
    store: object, git: GitSettings, moved: Callable[[], object]
) -> AsyncIterator[Callable[[App], App]]:
    """While the block runs: `moved` is called when the branch has something new.

    Yields what puts `POST /hooks/git` in front of an application, where webhooks are let in. A
    store that follows no branch is left alone.
    """
    if not isinstance(store, FollowsBranch):
        yield lambda app: app
        return
    store.on_moved(moved)
    secret, source = git.webhook_secret, git.source
    if secret is None or source is None:
        yield lambda app: app
        return
    pushed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look_when(pushed, store), name="webhooks")
        try:
            yield lambda app: GitHook(app, secret, source.branch, pushed.set)
        finally:
            looking.cancel()


def not_served(store: object) -> str:
    """What of the branch is not served, in one line; empty where all of it is."""
    problems = store.problems() if isinstance(store, FollowsBranch) else {}
    for place, reasons in sorted(problems.items()):
        more = f" (and {len(problems) - 1} more places)" if len(problems) > 1 else ""
        reason = reasons[0]
        return f"{reason if place in reason else f'{place}: {reason}'}{more}"
    return ""


async def _look_when(pushed: asyncio.Event, store: FollowsBranch) -> None:
    """Look once for all that was pushed meanwhile."""
    while True:
        await pushed.wait()
        pushed.clear()
        try:
            await store.nudge()
        except StoreError as error:  # which goes on looking by itself
            _log.warning("a webhook told of a push that cannot be read yet", reason=str(error))
