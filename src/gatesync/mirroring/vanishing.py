"""Whether files that are gone were removed: an unmounted share is an empty folder. Pure.

A removal is believed of a tree that is where it was, in the same folder of the same file system,
and still has at least half as many files. Any other waits for somebody's word (promise 6).
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from gatesync.mirroring.scanning import FolderIdentity
from gatesync.mirroring.settling import is_below

__all__ = ["Vanished", "judge"]


class Vanished(NamedTuple):
    """What is gone and not believed to be removed, and why; empty where there is none."""

    paths: frozenset[str]
    reason: str


def judge(
    before: Collection[str],
    gone: Collection[str],
    come: int,
    waiting: Collection[str],
    mounts_before: Mapping[str, FolderIdentity],
    mounts: Mapping[str, FolderIdentity],
) -> Vanished:
    """Decide which of the files that are gone are kept.

    Args:
        before: the files that there were.
        gone: those of them that are not there.
        come: how many others are there: a file that was renamed is gone, too.
        waiting: those that were kept before: what is new beside them does not make it less.
        mounts_before: which folders they were in, by path; see `Scan.mounts`.
        mounts: which folders are there now.
    """
    if not gone:
        return Vanished(frozenset(), "")
    other = {path for path, identity in mounts_before.items() if mounts.get(path) != identity}
    if "" in other:
        reason = "the tree is in another folder, or on another file system, than it was"
        return Vanished(frozenset(gone), _told(gone, before, reason))
    still = frozenset(waiting) & frozenset(gone)
    elsewhere = frozenset(path for path in gone if is_below(path, other))
    if 2 * (len(gone) - len(elsewhere) - come) > len(before):
        return Vanished(frozenset(gone), _told(gone, before, "that is more than half of it"))
    if elsewhere:
        reason = f"another file system is, or none, at {', '.join(sorted(other))}"
        return Vanished(elsewhere | still, _told(elsewhere | still, before, reason))
    return Vanished(still, _told(still, before, "that was too much at once") if still else "")


def _told(gone: Collection[str], before: Collection[str], reason: str) -> str:
    return f"{len(gone)} of {len(before)} files are gone from the tree, and {reason}"
