"""What becomes of a file: decided from what is wanted, what is recorded, and what stands there."""

import enum
import hashlib
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from gatesync.artifacts.base import is_base
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import DEPLOY_ORDER, Artifact, Part
from gatesync.artifacts.names import check_path
from gatesync.artifacts.places import path_in_repository, place_in_repository
from gatesync.trees.disk import STAGED_PREFIX

__all__ = ["Decision", "Standing", "Wanted", "decide", "deploy_rank", "files_of", "is_skipped"]

SkipList = Mapping[str, Collection[str]]
"""File names that are never touched, by the part's folder (`api`, `sequences`...)."""


class Wanted(NamedTuple):
    """A file that an artifact is to have. `path` is its place below `repository`."""

    path: str
    role: str
    name: str
    content: bytes
    digest: bytes  # SHA-256


class Standing(enum.Enum):
    """What stands in a file's place, compared with what was recorded and what is wanted."""

    NOTHING = enum.auto()
    WANTED = enum.auto()  # what is wanted, in a file of ours
    OURS = enum.auto()  # something else that gatesync wrote
    EDITED = enum.auto()  # a file of ours that somebody changed
    FOREIGN = enum.auto()


class Decision(enum.Enum):
    """What is done about a file."""

    KEEP = enum.auto()
    WRITE = enum.auto()
    REFUSE = enum.auto()


def decide(standing: Standing, *, wanted_before: bool, restore: bool) -> Decision:
    """What to do about a file that is wanted.

    A foreign file is never touched. What people did to a file of ours is undone where that is
    configured; where it is not, it stays until a new revision brings other bytes.

    Args:
        standing: what is there.
        wanted_before: whether the bytes are those that gatesync wrote there last.
        restore: whether what people do is undone.
    """
    if standing is Standing.FOREIGN:
        return Decision.REFUSE
    if standing is Standing.WANTED:
        return Decision.KEEP
    tampered = wanted_before and standing in {Standing.NOTHING, Standing.EDITED}
    return Decision.KEEP if tampered and not restore else Decision.WRITE


def files_of(artifact: Artifact, skip: SkipList) -> list[Wanted]:
    """The files that an artifact is to have in a tree.

    Raises:
        Problem: one of them is not allowed there.
    """
    return [_file_of(part, artifact.identity.tenant, skip) for part in artifact.parts]


def is_skipped(path: str, skip: SkipList) -> bool:
    """Whether the file at this place below `repository` is one that is never touched."""
    place = place_in_repository(path)
    if place is None:
        return False
    folder, _, below = place.path.partition("/")
    names = skip.get(folder, ())
    return below in names or below.rpartition("/")[2] in names


def deploy_rank(role: str, path: str) -> tuple[int, str]:
    """Where a file stands in the order in which files appear: after what it may need."""
    return DEPLOY_ORDER.get(role, _LAST), path


_LAST: Final = len(DEPLOY_ORDER)
_ADVICE: Final = "publish it under another name and file"


def _file_of(part: Part, tenant: str, skip: SkipList) -> Wanted:
    path = path_in_repository(part.path, tenant)
    if path is None:
        reason = f"has no place in the tree of tenant {tenant!r}; {_ADVICE}"
        raise Problem(reason, where=part.path)
    check_path(path)
    if is_base(part.path, tenant):
        reason = f"belongs to a server's installation, and is not saved; {_ADVICE}"
        raise Problem(reason, where=part.path)
    if is_skipped(path, skip):
        reason = "is in this node's skip_list; take it out there, or publish another file"
        raise Problem(reason, where=part.path)
    if part.path.rpartition("/")[2].startswith(STAGED_PREFIX):
        reason = f"begins with {STAGED_PREFIX!r} like gatesync's own unfinished files; {_ADVICE}"
        raise Problem(reason, where=part.path)
    digest = hashlib.sha256(part.content).digest()
    return Wanted(path, part.role, part.name, part.content, digest)
