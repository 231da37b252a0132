"""What others write into the tree of a share is published: `adopt = true`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from gatesync.artifacts.errors import FormatError
from gatesync.config import Settings
from gatesync.mirroring.adopter import Adopter, Commit, Stamp
from gatesync.mirroring.adopting import is_in_place
from gatesync.mirroring.source_tree import SourceTree
from gatesync.mirroring.watching import watching
from gatesync.stores.share_files import REPOSITORY
from gatesync.stores.share_lane import ShareLane
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareStore
from gatesync.stores.store import Saver, StoreError

__all__ = ["ShareAdopter", "share_adopter"]

MOMENT_SECONDS: Final = 1.0  # between two looks that are equal: others write over a network
LOOK_SECONDS: Final = 300.0  # that a look at a large tree may take, on a slow network

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ShareAdopter:
    """Takes over the tree of a share, as long as this publisher keeps the share.

    Raises `StoreError` where what was taken over before cannot be read.
    """

    def __init__(
        self, store: ShareStore, source: ShareSource, state: Path, commit: Commit, stamp: Stamp
    ) -> None:
        self.root = source.path / REPOSITORY
        self._every = source.check_seconds
        self._store = store
        self._lane = ShareLane(str(source), LOOK_SECONDS)
        try:
            tree = SourceTree(
                self.root, state / "tree.json", keep=is_in_place, moment=MOMENT_SECONDS
            )
            self._adopter = Adopter(
                tree,
                store,
                commit,
                source.labels,
                state / "adopted.json",
                stamp=stamp,
                in_thread=self._in_thread,
                clock=time.time,
                leads=self._leads,
            )
        except (FormatError, OSError) as error:
            raise StoreError(str(error)) from error

    async def run(self) -> None:
        """Until cancelled."""
        async with watching(self.root) as wakes:
            await self._adopter.run(self._every, wakes.wait)

    def said(self) -> str:
        """How it stands, in a few words."""
        status = self._adopter.status
        if status.trouble:
            return status.trouble
        words = [f"{status.artifacts} artifacts of the tree"]
        if status.problems:
            words.append(f"{len(status.problems)} not taken over, such as {status.problems[0]}")
        if status.waiting:
            words.append(f"waits for 'gatesync labels confirm': {status.waiting}")
        return "; ".join(words)

    async def _leads(self) -> bool:
        """Whether this publisher is the one that keeps the share."""
        return self._store.known.manifest.holder.endswith(f" {self._store.state.id}")

    async def _in_thread(
        self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Where the share is still the one that is known."""

        def call() -> _T:
            if self._store.files.epoch() != self._store.epoch:
                raise StoreError(f"the share at {self.root.parent} is another one now")
            return work(*args, **kwargs)

        return await self._lane.run(call)


def share_adopter(
    settings: Settings, saver: Saver, commit: Commit, publisher: str
) -> ShareAdopter | None:
    """What adopts the share's tree; None where that is not asked for.

    Args:
        settings: the configuration.
        saver: the store that was opened.
        commit: saves as a publish does.
        publisher: what this one is called in the log.

    Raises:
        StoreError: what was adopted before cannot be read.
    """
    source = settings.share.source
    if not isinstance(saver, ShareStore) or source is None or source.state is None:
        return None
    if not source.adopt or not source.labels:
        return None
    stamp = Stamp(publisher, str(source), settings.server.node_id)
    return ShareAdopter(saver, source, source.state, commit, stamp)
