"""What is done to a worker: decided from what it is to have, what it has, and what is proved.

Pure. A removal needs proof (promise 6): the source continues the history that the worker's own
manifest is from, is not empty, and has not lost more than half of what the worker has of it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from gatesync.artifacts.model import DEPLOY_ORDER, KINDS
from gatesync.artifacts.places import place_in_repository
from gatesync.mirroring.rsync import Comparison
from gatesync.mirroring.source_manifest import SourceFile
from gatesync.mirroring.worker_manifest import Part, WorkerManifest

__all__ = ["Plan", "Standing", "decide_removals", "in_order", "in_the_way", "plan"]

_LAST: Final = len(DEPLOY_ORDER)
_RANKS: Final = {folder: DEPLOY_ORDER[kind] for kind, folder in KINDS.items()}
_RSYNC_SUFFIX: Final = 7  # `.menu.xml.Xq3dR7`: rsync's unfinished files have such names


class Standing(NamedTuple):
    """What is known of a worker before anything is done.

    `vouched` is what its head vouches for; None: nothing is known of what is in its files.
    `manifests` are all that tell what is gatesync's there, whether a head vouches for them or not;
    `sha256` is that of the one that a head vouches for.
    """

    vouched: Mapping[str, SourceFile] | None
    manifests: Sequence[WorkerManifest]
    sha256: str | None = None

    def owned(self) -> frozenset[str]:
        """The paths of all that is gatesync's there."""
        return frozenset[str]().union(*(each.paths() for each in self.manifests))


class Removals(NamedTuple):
    """What goes, and what is kept until somebody confirms it."""

    go: frozenset[str]
    held: frozenset[str]


class Plan(NamedTuple):
    """Paths on the worker. `removed` ends in `/` where it is a folder with all that is in it."""

    offered: frozenset[str]
    removed: frozenset[str]
    held: frozenset[str]
    foreign: frozenset[str]  # not gatesync's: would go, too, where the source is mirrored
    repaired: frozenset[str]  # of `offered`: the worker's head said that it was right


def plan(
    part: Part,
    standing: Standing,
    comparison: Comparison | None,
    *,
    mirror: bool,
    confirmed: bool,
) -> Plan:
    """What is to be done.

    Args:
        part: what the worker is to have.
        standing: what is known of it.
        comparison: how it compares with the source; None: `standing.vouched` says enough.
        mirror: what is not gatesync's goes, too, where there is a comparison.
        confirmed: somebody has confirmed what would be held.
    """
    vouched = standing.vouched or {}
    if comparison is not None:
        offered = frozenset(path for path in part.files if path not in comparison.equal)
    else:
        offered = frozenset(path for path, file in part.files.items() if vouched.get(path) != file)
    repaired = frozenset(path for path in offered if vouched.get(path) == part.files[path])
    removals = decide_removals(part, standing, confirmed=confirmed)
    extra, unfinished = _extra(part, standing, comparison)
    go, foreign = removals.go | unfinished, frozenset[str]()
    if mirror and extra:
        present = sum(not path.endswith("/") for path in extra) + len(part.files)
        is_proved = bool(part.files) and not removals.held and 2 * len(extra) <= present
        if confirmed or is_proved:
            go = _topmost(go | extra)
        else:
            foreign = extra
    return Plan(offered, go, removals.held, foreign, repaired)


def decide_removals(part: Part, standing: Standing, *, confirmed: bool) -> Removals:
    """Which files of gatesync's go (promise 6)."""
    owned = standing.owned()
    unwanted = frozenset(path for path in owned if path not in part.files)
    if confirmed:
        return Removals(unwanted, frozenset())
    held: set[str] = set()
    for manifest in standing.manifests:
        held.update(manifest.held if _continues(part, manifest) else manifest.paths())
    go = unwanted - held
    if not part.files or 2 * len(go) > len(owned):
        return Removals(frozenset(), unwanted)
    return Removals(go, unwanted & held)


def in_order(paths: Iterable[str], part: Part, *, removing: bool = False) -> list[list[str]]:
    """Groups to be brought one after the other: what others need comes before them.

    Removing, it goes after them.
    """

    def rank(path: str) -> int:
        place = place_in_repository(f"{part.folder}/{path}".lstrip("/"))
        folder = place.path.partition("/")[0] if place is not None else ""
        return _RANKS.get(folder, _LAST)

    ordered = sorted(paths, key=lambda path: (rank(path), path), reverse=removing)
    return [list(group) for _, group in groupby(ordered, key=rank)]


def in_the_way(removed: Iterable[str], offered: Collection[str]) -> frozenset[str]:
    """Files to be removed that stand where a folder is to be, or in a folder where a file is."""
    folders = {folder for path in offered for folder in _above(path)}
    names = frozenset(offered)
    return frozenset(
        path
        for path in removed
        if path.rstrip("/") in folders or any(above in names for above in _above(path))
    )


def _continues(part: Part, manifest: WorkerManifest) -> bool:
    return manifest.epoch == part.epoch and manifest.revision <= part.revision


def _extra(
    part: Part, standing: Standing, comparison: Comparison | None
) -> tuple[frozenset[str], frozenset[str]]:
    """What a worker has that nobody told of, and what rsyncs left there that were killed."""
    if comparison is None or not comparison.extra:
        return frozenset(), frozenset()
    known = standing.owned().union(part.files)
    folders = {folder for path in known for folder in _above(path)}
    unfinished = frozenset(path for path in comparison.extra if _is_unfinished(path, known))
    extra = frozenset(
        path for path in comparison.extra if path not in known and path.rstrip("/") not in folders
    )
    return extra - unfinished, unfinished


def _is_unfinished(path: str, known: Collection[str]) -> bool:
    folder, slash, name = path.rpartition("/")
    return (
        name.startswith(".")
        and name[-_RSYNC_SUFFIX : -_RSYNC_SUFFIX + 1] == "."
        and f"{folder}{slash}{name[1:-_RSYNC_SUFFIX]}" in known
    )


def _topmost(paths: frozenset[str]) -> frozenset[str]:
    """Without what goes with its folder."""
    folders = {path.rstrip("/") for path in paths if path.endswith("/")}
    return frozenset(path for path in paths if not folders.intersection(_above(path)))


def _above(path: str) -> Iterable[str]:
    """The folders that a path lies in."""
    steps = path.rstrip("/").split("/")[:-1]
    for count in range(len(steps)):
        yield "/".join(steps[: count + 1])
