"""What a batch of artifacts needs in a tree: which files appear, over what, and which leave."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.places import place_in_repository
from gatesync.trees.disk import Disk, Facts
from gatesync.trees.manifest import Manifest, Row
from gatesync.trees.planning import (
    Decision,
    SkipList,
    Standing,
    Wanted,
    decide,
    files_of,
    is_skipped,
)

__all__ = ["Plan", "Planner", "Write"]


class Write(NamedTuple):
    """A file that is to appear: over what stands there, after another was moved there, or new."""

    api_id: str
    file: Wanted
    over: Facts | None = None
    moved: Row | None = None


class Plan:
    """What becomes of one artifact's files.

    Attributes:
        writes: what is to appear.
        found: what is as it should be, with what it looks like now, where the record differs.
        leaving: what is the artifact's, and is not to be any more.
    """

    def __init__(self, api_id: str) -> None:
        self.api_id = api_id
        self.paths: set[str] = set()
        self.writes: list[Write] = []
        self.found: list[Row] = []
        self.leaving: list[Row] = []


class Planner:
    """Plans the artifacts of one batch, one after the other.

    Args:
        disk: the tree.
        manifest: what of it is ours.
        skip: file names that are never touched.
        restore: whether what people do to our files is undone.
        removed: the api_ids that the batch removes.
        leaving: their files.
        is_served: see `TreeWriter.stage`.
    """

    def __init__(
        self,
        disk: Disk,
        manifest: Manifest,
        skip: SkipList,
        *,
        restore: bool,
        removed: Collection[str],
        leaving: Iterable[Row],
        is_served: Callable[[str], bool],
    ) -> None:
        self._disk = disk
        self._manifest = manifest
        self._skip = skip
        self._restore = restore
        self._removed = frozenset(removed)
        self._leaving = {row.path: row for row in leaving}
        self._is_served = is_served
        self._takers: dict[str, str] = {}  # paths to the artifacts of this batch that have them

    def plan(self, artifact: Artifact) -> Plan:
        """What this artifact needs.

        Raises:
            Problem, TreeError, OSError: it cannot be in the tree now.
        """
        plan = Plan(artifact.api_id)
        files = files_of(artifact, self._skip)
        plan.paths = {file.path for file in files}
        known = {row.path: row for row in self._manifest.of_artifact(artifact.api_id)}
        plan.leaving = [row for path, row in known.items() if path not in plan.paths]
        movable = self._movable(plan.leaving)
        for file in files:
            row = known.get(file.path) or self._manifest.row(file.path)
            self._check_free(file.path, artifact.api_id, row)
            standing, facts = self._standing(file, row)
            before = row is not None and row.digest == file.digest
            decision = decide(standing, wanted_before=before, restore=self._restore)
            if decision is Decision.REFUSE:
                reason = "gatesync did not write this file, and leaves it alone; move it away"
                raise Problem(reason, where=str(self._disk.root / file.path))
            if decision is Decision.WRITE:
                moved = movable.pop(_called(file), None) if facts is None else None
                plan.writes.append(Write(artifact.api_id, file, facts, moved))
            elif standing is Standing.WANTED and facts is not None:
                now = Row(file.path, artifact.api_id, file.role, file.name, file.digest, facts)
                if now != row:
                    plan.found.append(now)
        self._take(plan)
        return plan

    def _take(self, plan: Plan) -> None:
        for path in plan.paths:
            self._takers[path] = plan.api_id
            self._leaving.pop(path, None)
        for write in plan.writes:
            if write.moved is not None:
                self._leaving.pop(write.moved.path, None)

    def _check_free(self, path: str, api_id: str, row: Row | None) -> None:
        owner = self._takers.get(path)
        if owner is None and row is not None and row.api_id not in self._removed:
            owner = row.api_id if self._is_served(row.api_id) else None
        if owner not in {None, api_id}:
            raise Problem(f"is a file of artifact {owner} too; rename one", where=path)

    def _standing(self, file: Wanted, row: Row | None) -> tuple[Standing, Facts | None]:
        facts = self._disk.look(file.path)
        if facts is None:
            return Standing.NOTHING, None
        if row is None:
            return Standing.FOREIGN, facts
        digest = row.digest if facts == row.facts else self._disk.digest(file.path)
        if digest == file.digest:
            return Standing.WANTED, facts
        return Standing.OURS if digest == row.digest else Standing.EDITED, facts

    def _movable(self, own: Sequence[Row]) -> dict[tuple[str, str, str], Row]:
        """Files that leave and are as we wrote them, by whose and what an engine calls them."""
        return {
            _called(row): row
            for row in (*self._leaving.values(), *own)
            if not is_skipped(row.path, self._skip) and self._disk.look(row.path) == row.facts
        }


def _called(file: Wanted | Row) -> tuple[str, str, str]:
    place = place_in_repository(file.path)
    return place.tenant if place else "", file.role, file.name
