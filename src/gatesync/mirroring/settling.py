"""When a tree that others write is quiet enough to be taken: pure, it is told the time.

    nothing differs from what was taken before       as before
    all that differs has been so for a moment        taken as a whole, so as one change
    something always moves                           after a while, what is quiet is taken alone

A moment is the time between two scans that are equal: whoever writes a file bit by bit, or one
file after the other, is not in the middle of it then.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from gatesync.mirroring.scanning import Scan, ScannedFile

__all__ = ["MOMENT_SECONDS", "PATIENCE_SECONDS", "Quiet", "Settling", "is_below"]

MOMENT_SECONDS: Final = 0.2  # a local writer's pause between two writes is a fraction of that
PATIENCE_SECONDS: Final = 10.0  # one file that is written all the time does not stop all others


class Quiet(NamedTuple):
    """What a tree holds, as far as it is quiet. Files are as they were when they were taken.

    `changed` are the paths that are otherwise than before this, `restless` those that differ
    from `files` and were not taken.
    """

    files: Mapping[str, ScannedFile]
    changed: frozenset[str]
    restless: frozenset[str]


class _Difference(NamedTuple):
    found: ScannedFile | None  # None: gone, or moving
    since: float


class Settling:
    """Takes scans one after the other.

    Args:
        taken: what was taken before the first of them.
        moment: seconds between two equal scans.
        patience: seconds after which what is quiet does not wait for the rest.
    """

    def __init__(
        self,
        taken: Mapping[str, ScannedFile] | None = None,
        *,
        moment: float = MOMENT_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._taken: dict[str, ScannedFile] = dict(taken or {})
        self._moment = moment
        self._patience = patience
        self._differing: dict[str, _Difference] = {}
        self._waiting_since: float | None = None

    @property
    def restless(self) -> frozenset[str]:
        """What differed at the last scan and was not taken."""
        return frozenset(self._differing)

    def take(self, scan: Scan, *, began: float, ended: float) -> Quiet:
        """Compare a scan with those before it.

        Args:
            scan: what was found.
            began: when the scan began, and
            ended: when it ended, in seconds of any steady clock.
        """
        found = {path: scan.files.get(path) for path in self._differing_paths(scan)}
        before, self._differing = self._differing, {}
        for path, file in found.items():
            known = before.get(path)
            same = known is not None and known.found == file and path not in scan.moving
            since = known.since if known is not None and same else ended
            self._differing[path] = _Difference(file, since)
        if not self._differing:
            self._waiting_since = None
            return Quiet(self._taken, frozenset(), frozenset())
        if self._waiting_since is None:
            self._waiting_since = ended
        quiet = {
            path
            for path, difference in self._differing.items()
            if began - difference.since >= self._moment and path not in scan.moving
        }
        if len(quiet) < len(self._differing) and ended - self._waiting_since < self._patience:
            return Quiet(self._taken, frozenset(), frozenset(self._differing))
        return self._settled(quiet)

    def _settled(self, quiet: Collection[str]) -> Quiet:
        taken = dict(self._taken)  # whoever was given the one before goes on with it
        for path in quiet:
            file = self._differing.pop(path).found
            if file is None:
                taken.pop(path, None)
            else:
                taken[path] = file
        self._taken = taken
        if not self._differing:
            self._waiting_since = None
        return Quiet(taken, frozenset(quiet), frozenset(self._differing))

    def _differing_paths(self, scan: Scan) -> set[str]:
        """What is there, and otherwise; and what is not there, where anything can be seen."""
        taken, files = self._taken, scan.files
        differing = {path for path, file in files.items() if taken.get(path) != file}
        differing |= scan.moving
        gone = taken.keys() - files.keys() - differing
        return differing | {path for path in gone if not is_below(path, scan.unseen)}


def is_below(path: str, places: Collection[str]) -> bool:
    """Whether a path is one of these or below one of them."""
    if not places:
        return False
    while path:
        if path in places:
            return True
        path = path.rpartition("/")[0]
    return False
