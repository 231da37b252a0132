"""What a share's own folder no longer needs: old manifests, and what killed writers left.

Looked at by its one holder, and removed after it stood there long enough by this host's clock
alone: of two hosts' clocks nothing is known.
"""

import time
from collections.abc import Callable
from typing import Final

from gatesync.stores.share_files import ShareFiles
from gatesync.stores.share_log import ShareManifest, place_of

__all__ = ["ShareSweep"]

KEPT: Final = 32  # manifests, for readers that are just behind
GRACE_SECONDS: Final = 600.0  # much longer than a writer takes that is not paused


class ShareSweep:
    """Remembers since when it has seen what is to go. Blocks; one caller at a time."""

    def __init__(
        self,
        files: ShareFiles,
        clock: Callable[[], float] = time.monotonic,
        grace: float = GRACE_SECONDS,
        kept: int = KEPT,
    ) -> None:
        self._files = files
        self._clock = clock
        self._grace = grace
        self._kept = kept
        self._seen: dict[str, float] = {}

    def sweep(self, newest: ShareManifest) -> None:
        """Remove what has been old for long enough. Raises `StoreError`."""
        now = self._clock()
        names = self._files.names()
        places = sorted(filter(None, map(place_of, names)))
        here = newest.lease, newest.revision
        old = [f"manifest.{a}.{b}" for a, b in places if (a, b) < here]
        going = old[: -self._kept] if self._kept else old
        for name in names:
            word, _, lease = name.partition(".")
            if word in {"holder", "tree"} and lease.isdecimal() and int(lease) < newest.lease:
                going.append(name)
        going += self._files.unfinished()
        self._seen = {name: self._seen.get(name, now) for name in going}
        for name in going:  # manifests in ascending order: `ShareFiles.link` relies on it
            if now - self._seen[name] >= self._grace:
                self._files.remove(name)
