"""An engine whose artifacts lie on disk, too: `save_artifacts_locally`.

    stage in the tree → deploy into the inner engine → commit in the tree

What either refuses is in neither. The tree is written in a thread, so that nothing else waits.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, ParamSpec, TypeVar

import structlog

from gatesync.artifacts import canonical
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.model import Artifact
from gatesync.engines.engine import Deployable, Engine, EngineError
from gatesync.trees.drift import Drift
from gatesync.trees.errors import TreeError
from gatesync.trees.writer import Staged, TreeWriter

__all__ = ["SavingEngine"]

LOGGED: Final = 10  # drifted files that one log line names

P = ParamSpec("P")
T = TypeVar("T")

_log = structlog.get_logger("gatesync.engines")


class SavingEngine:
    """Deploys into an engine and keeps the files of the artifacts in a tree. See `Engine`.

    Args:
        inner: the engine that serves.
        tree: where files are written; nobody else uses it.
        read: the artifact with this api_id and this canonical form.

    Attributes:
        drifted: how many files were found not to be as they were written, and still are not.
        restored: how many such files were written again, since the start.
        error: the last trouble with the tree; empty once it is over.
    """

    def __init__(
        self,
        inner: Engine,
        tree: TreeWriter,
        read: Callable[[str, bytes], Artifact] = lambda _, content: canonical.decode(content),
    ) -> None:
        self.name = inner.name
        self.drifted = 0
        self.restored = 0
        self.error = ""
        self._inner = inner
        self._tree = tree
        self._read = read
        self._left = frozenset(tree.api_ids())  # saved before, and not asked for since
        self._unfinished: set[str] = set()  # served or removed, and the tree does not say so yet
        self._known: frozenset[Drift] = frozenset()
        self._lock = asyncio.Lock()

    @property
    def saved_files(self) -> int:
        """How many files in the tree are ours."""
        return self._tree.files

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """See `Engine.apply`.

        What the disk does not take is refused before the engine is asked. What goes wrong after
        that, while files are put in their places, is in `error`, and is finished by `check`.
        """
        offered = {each.entry.api_id: each.content for each in deploy}
        async with self._lock:
            staged, refused = await self._stage(offered, undeploy)
            try:
                others = [each for each in deploy if each.entry.api_id not in refused]
                refused |= await self._inner.apply(others, undeploy)
            except BaseException:
                await _finished(self._tree.unstage, staged)
                raise
            failed = await _finished(self._tree.commit, staged, refused)
            # Each is served by now, or gone: together with what was left that is all there is.
            self._left -= offered.keys() - refused.keys() | frozenset(undeploy)
            self._settled(offered.keys() - refused.keys() | frozenset(undeploy), failed)
        return refused

    def content(self, api_id: str) -> bytes | None:
        """See `Engine.content`: what is served, not what lies on disk."""
        return self._inner.content(api_id)

    def api_ids(self) -> Collection[str]:
        """See `Engine.api_ids`; with what an earlier process left in the tree.

        That has no `content` here until it is deployed, and goes when it is undeployed: its node
        does that once each of its labels was listed with proof (promise 6).
        """
        served = self._inner.api_ids()
        return self._left | frozenset(served) if self._left else served

    async def drift(self) -> list[Drift]:
        """Compare every file with what was written; what differs is counted and logged.

        Raises `EngineError` where that cannot be told.
        """
        found: list[Drift] = []
        after = ""
        while True:
            async with self._lock:  # page by page: deployments go on meanwhile
                try:
                    page, after = await _finished(self._tree.drift, after)
                except TreeError as error:
                    raise EngineError(str(error)) from error
            found += page
            if not after:
                break
        self.drifted = len(found)
        if news := [each for each in found if each not in self._known]:
            named = [f"{each.path} ({each.what})" for each in news[:LOGGED]]
            _log.warning("files are not as gatesync wrote them", count=len(news), files=named)
        self._known = frozenset(found)
        return found

    async def check(self) -> list[Drift]:
        """Look for drift, undo it where that is configured, and finish what was left unfinished.

        Answers with the drift that is still there. Raises `EngineError`.
        """
        found = await self.drift()
        drifted = {each.api_id for each in found} if self._tree.restore else set()
        if not drifted and not self._unfinished:
            return found
        async with self._lock:
            again = drifted | self._unfinished
            served = {
                api_id: content
                for api_id in again
                if (content := self._inner.content(api_id)) is not None
            }
            gone = self._unfinished - served.keys() - self._left
            staged, refused = await self._stage(served, gone)
            failed = await _finished(self._tree.commit, staged)
            self._settled(served.keys() | gone, failed | refused)
        if not drifted:
            return found
        still = await self.drift()
        self.restored += max(0, len(found) - len(still))
        if len(still) < len(found):
            _log.info("restored files", count=len(found) - len(still))
        return still

    async def watch(self, seconds: float) -> None:
        """Check each so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.check()
            except EngineError as error:
                self._trouble(str(error))

    async def _stage(
        self, offered: Mapping[str, bytes], removed: Collection[str]
    ) -> tuple[Staged, dict[str, str]]:
        """Raises `EngineError` where nothing can be done."""
        try:
            return await _finished(self._staged, offered, removed)
        except TreeError as error:
            self._trouble(str(error))
            raise EngineError(str(error)) from error

    def _staged(
        self, offered: Mapping[str, bytes], removed: Collection[str]
    ) -> tuple[Staged, dict[str, str]]:
        refused: dict[str, str] = {}
        artifacts = []
        for api_id, content in offered.items():
            try:
                artifacts.append(self._read(api_id, content))
            except FormatError as error:
                refused[api_id] = f"it cannot be saved: {error}"
        staged = self._tree.stage(artifacts, removed, self._is_served)
        return staged, refused | staged.refused

    def _is_served(self, api_id: str) -> bool:
        return self._inner.content(api_id) is not None

    def _settled(self, tried: Iterable[str], failed: Mapping[str, str]) -> None:
        self._unfinished.difference_update(tried)
        self._unfinished.update(failed)
        if failed:
            self._trouble(next(iter(failed.values())))
        elif not self._unfinished:
            self.error = ""

    def _trouble(self, reason: str) -> None:
        if reason != self.error:
            _log.error("the saved tree is not what it should be", reason=reason)
        self.error = reason


async def _finished(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a thread. A cancellation waits for its end: what runs cannot be stopped."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # it is cancelled already, and still must not leave the thread alone
        raise
