"""Which epoch a branch's history is: its root's, until it is rewritten.

Who knew what was lost finds the new epoch by itself, the same as all who knew that. A publisher
writes it down in a commit; from then on it is everybody's.
"""

import uuid
from collections.abc import Sequence
from typing import Final

import structlog

from gatesync.stores.git_message import epoch_in
from gatesync.stores.git_objects import Commit, DamagedError
from gatesync.stores.git_repository import Repository
from gatesync.stores.git_source import GitSource

__all__ = ["epoch_of", "note_loss"]

# Any UUID would do, as long as it never changes.
_EPOCHS: Final = uuid.UUID("3f0b6a52-8f0e-5f5c-9a44-5b1f7f2f5d10")

_log = structlog.get_logger("gatesync.stores.git")


async def note_loss(repository: Repository, before: str, ids: Sequence[str]) -> None:
    """The history of `ids` is not the one that went up to `before`: remember what it has lost."""
    try:
        known = await repository.history(before)
    except DamagedError:
        return
    common = 0
    while common < min(len(known), len(ids)) and known[common] == ids[common]:
        common += 1
    if not common:  # another root is another epoch by itself
        return
    _log.error(
        "the branch's history was rewritten: this is another epoch",
        lost=known[common], commits=len(known) - common,
    )  # fmt: skip
    await repository.remember_lost(known[common])


async def epoch_of(
    repository: Repository, source: GitSource, commits: Sequence[Commit]
) -> tuple[str, str]:
    """The epoch of a history, and the first commit that it has lost since its epoch was noted."""
    if not commits:
        return str(uuid.uuid5(_EPOCHS, str(source))), ""
    root = uuid.uuid5(_EPOCHS, f"{commits[0].id}/{source.path}")
    said = [(number, epoch_in(commit)) for number, commit in enumerate(commits)]
    said = [each for each in said if each[1]]
    lost = await repository.lost()
    if lost:
        after = await _place_of_loss(repository, lost, [commit.id for commit in commits])
        if not any(number > after for number, _ in said):
            return str(uuid.uuid5(root, lost)), lost
        await repository.remember_lost("")
    return said[-1][1] if said else str(root), ""


async def _place_of_loss(repository: Repository, lost: str, ids: Sequence[str]) -> int:
    """Where the last commit stands that both histories have."""
    try:
        known = await repository.history(lost)
    except DamagedError:
        return -1
    return ids.index(known[-2]) if len(known) > 1 and known[-2] in ids else -1
